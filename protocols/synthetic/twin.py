"""Synthetic twins of SYSU-MM01 and RegDB: folders, file names, split files and modes of the real ones.

A twin is made from a seed and read by the same code as the real data. ``SYNTHETIC.json`` at its root marks
it, and every row and table made from it says ``synthetic``. Pixels before encoding are the same on every
machine, and so are BMP files; the bytes of JPEG files are those of the JPEG library in use.

Calibration (difficulty medium, rho = 0.6)
------------------------------------------
Nearest neighbour on raw pixels at 12 x 24, 50 people, three images of the right person to be found, rank-1 in
percent, seeds 0, 1 and 2 (chance 2):

====================================  ==============  ==============  ==============
..                                    easy            medium          hard
====================================  ==============  ==============  ==============
visible, same camera                  65.0 56.5 58.0  63.5 57.5 53.0  62.5 60.0 49.0
visible, other visible camera         55.5 57.0 43.0  39.5 55.5 34.0  19.5 52.0 21.0
infrared, same camera                 25.5 18.5 20.5  21.5 11.5 17.0  19.0 12.5 17.0
infrared, other infrared camera       18.0 16.0 14.0   7.0 11.5  6.5   6.5 15.0  4.0
infrared to visible                   16.0 17.0 17.0   4.5  9.5  7.5   2.5  4.5  4.5
nearest of all cameras is in its own  99.8 99.4 99.4  99.9 99.6 99.9  100  99.5 100
====================================  ==============  ==============  ==============

So pixels split people by camera. Most of that is a constant of each camera: after subtracting each camera's
mean image, another visible camera is no harder than the same one (medium: 69.0, 62.0 and 51.0).

A ResNet-18 at 64 x 32 on the default twins of seed 0 (60 and 40 people to test; mean of both directions of RegDB,
all-search single-shot of SYSU-MM01), mAP in percent; supervised training has ten epochs of the demo, in bfloat16
(source weights trained in float32 give 13.6 and 14.8):

=========================================  =====  =========
weights                                    RegDB  SYSU-MM01
=========================================  =====  =========
untrained (``weights=none``)                 8.1        8.2
source (``source-only``)                    15.1       17.3
supervised, from the source weights         20.1       25.7
=========================================  =====  =========

Clustered plainly from the source weights (``cluster-contrast``, epoch 0), a training person of the SYSU twin lies
in 3.4 clusters of 75 (adjusted Rand index 0.37), images by one camera in 1.1: clusters split by camera. On the
RegDB twin it is 2.9 of 101 (0.37), in one modality 1.5.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from protocols.base import DataError
from protocols.files import MARKER
from protocols.regdb import NAMES
from protocols.synthetic.rendering import (
    HEIGHT,
    WIDTH,
    UInt8Array,
    draw_camera,
    draw_person,
    generator,
    photograph,
)
from protocols.sysu_mm01 import INFRARED_CAMERAS, TEST_COUNTS, TRAIN_COUNTS

VERSION = 2
"""Rises with every change of what is rendered: twins and source weights made before are then made anew."""
SPLITS = 10
SOURCE_CAMERAS = 24
DEFAULTS = {"regdb": (120, 10), "sysu": (100, 3)}
"""People, and images of a person in a camera, of each kind of twin."""
VAL_COUNTS = {1: 0, 2: 0, 3: 1980, 4: 990, 5: 984, 6: 0}
"""Known counts by camera of SYSU-MM01's val identities; those of training include them."""


@dataclass(frozen=True)
class Difficulty:
    """How much of a visible colour an infrared camera sees (rho), and how far cameras differ (strength)."""

    rho: float
    strength: float


DIFFICULTIES = {"easy": Difficulty(0.85, 0.4), "medium": Difficulty(0.6, 0.7), "hard": Difficulty(0.4, 1.0)}


@dataclass(frozen=True)
class Shot:
    """One image to render: where it goes and all that decides its pixels."""

    path: str
    person: int
    camera: int
    infrared: bool
    number: int


@dataclass(frozen=True)
class Plan:
    """Everything in a twin but the pixels: the images, and the split files' text by path."""

    shots: list[Shot]
    texts: dict[str, str]


Track = Callable[[Sequence[Sequence[Shot]]], Iterable[Sequence[Shot]]]
"""Passes on the shots of each person, showing how far it is."""


@dataclass(frozen=True)
class TwinReport:
    """What was made: where, and the content of its marker file."""

    root: Path
    marker: dict[str, Any]

    def __str__(self) -> str:
        people, images = self.marker["people"], sum(self.marker["counts"].values())
        kind = f"{self.marker['like']}, {self.marker['difficulty']}, seed {self.marker['seed']}"
        return f"{self.root}: synthetic twin of {kind}: {images} images of {people} people"

    __rich__ = __str__  # rich would print the fields of a dataclass


def synthesise(
    out: Path,
    like: str,
    *,
    identities: int | None = None,
    images: int | None = None,
    seed: int = 0,
    difficulty: str = "medium",
    size: tuple[int, int] | None = None,
    full_size: bool = False,
    track: Track = iter,
) -> TwinReport:
    """Make a twin, whole or not at all.

    Parameters
    ----------
    out : Path
        Must not exist, or be an empty folder.
    like : str
        ``regdb`` or ``sysu``.
    identities, images : int, optional
        People, and images of a person in a camera. Default: 120 x 10 (RegDB), 100 x 3 (SYSU-MM01).
    difficulty : str
        A key of `DIFFICULTIES`.
    size : (width, height), optional
        Of all images. By default 64 x 128 (RegDB), or another size for each image (SYSU-MM01).
    full_size : bool
        The real data set's counts, at 16 x 32 pixels unless `size` says otherwise.
    track : callable, optional
        Wraps the loop over people; a full-size twin takes minutes.

    Raises
    ------
    DataError
        Unknown kind or difficulty, impossible counts or size, or `out` in use.
    """
    if like not in DEFAULTS:
        raise DataError(f"a twin is like {' or '.join(DEFAULTS)}, not {like!r}")
    if difficulty not in DIFFICULTIES:
        raise DataError(f"difficulty {difficulty!r} is unknown; use one of {', '.join(DIFFICULTIES)}")
    if size is not None and min(size) < 1:
        raise DataError(f"size {size}: width and height are at least 1 pixel")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder; choose another, or delete it first")
    plan = plan_twin(like, identities, images, seed, full_size)
    size = size or ((16, 32) if full_size else None)
    marker = {
        "synthetic": True,
        "version": VERSION,
        "like": like,
        "seed": seed,
        "difficulty": difficulty,
        **asdict(DIFFICULTIES[difficulty]),
        "size": size,
        "full_size": full_size,
        **count(plan.shots),
    }
    plan.texts[MARKER] = json.dumps(marker, indent=2, sort_keys=True) + "\n"
    with whole_folder(out) as temporary:
        write_twin(temporary, plan, seed, DIFFICULTIES[difficulty], size, track)
    return TwinReport(out, marker)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a new folder beside `out` that takes its place at the end, and vanishes after an error."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if out.exists():
            out.rmdir()
        temporary.replace(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def count(shots: Sequence[Shot]) -> dict[str, Any]:
    """Count people, and images and identities by top folder (camera of SYSU-MM01, modality of RegDB)."""
    images = Counter(shot.path.split("/")[0] for shot in shots)
    identities = Counter(folder.split("/")[0] for folder in {shot.path.rsplit("/", 1)[0] for shot in shots})
    return {"people": len({s.person for s in shots}), "counts": dict(images), "identities": dict(identities)}


def plan_twin(like: str, identities: int | None, images: int | None, seed: int, full_size: bool) -> Plan:
    """Plan a twin's images and split files; the arguments are those of `synthesise`."""
    if full_size:
        if identities is not None or images is not None:
            raise DataError(
                "a full-size twin has the real counts; leave out the numbers of identities and images"
            )
        return plan_regdb(412, 10, seed) if like == "regdb" else plan_full_sysu()
    people, shots = DEFAULTS[like]
    people = people if identities is None else identities
    shots = shots if images is None else images
    if people < 4 or people > 9999:
        raise DataError(f"{people} identities: a twin has from 4 (training and test need two each) to 9999")
    if shots < 1 or shots > 9999:
        raise DataError(f"{shots} images of a person in a camera: from 1 to 9999 are possible")
    if like == "sysu":
        return plan_sysu(people, shots, seed)
    if people % 2:
        raise DataError(f"{people} identities: RegDB's splits are halves, so the number must be even")
    return plan_regdb(people, shots, seed)


def plan_sysu(identities: int, images: int, seed: int) -> Plan:
    """Plan a SYSU-MM01 twin: three fifths of the people train (a sixth of them as val), the others test."""
    order = (generator("sysu split", seed).permutation(identities) + 1).tolist()
    training = round(0.6 * identities)
    val = max(1, training // 6)
    parts = {"train": order[val:training], "val": order[:val], "test": order[training:]}
    shots = [
        sysu_shot(identity, camera, number)
        for identity in range(1, identities + 1)
        for camera in range(1, 7)
        for number in range(images)
    ]
    return Plan(shots, id_texts(parts))


def plan_full_sysu() -> Plan:
    """Plan the real counts by part and camera, dealt out evenly over the identities a camera has seen."""
    train, val, test = list(range(1, 297)), list(range(297, 396)), list(range(396, 492))
    # the real single-shot galleries hold 56, 56, 94 and 95 test identities of cameras 1, 2, 4 and 5
    seen = {1: test[:56], 2: test[:56], 3: test, 4: test[2:], 5: test[1:], 6: test}
    shots: list[Shot] = []
    for camera in range(1, 7):
        shots += deal(train, camera, TRAIN_COUNTS[camera] - VAL_COUNTS[camera])
        shots += deal(val, camera, VAL_COUNTS[camera])
        shots += deal(seen[camera], camera, TEST_COUNTS[camera])
    return Plan(shots, id_texts({"train": train, "val": val, "test": test}))


def deal(ids: Sequence[int], camera: int, total: int) -> list[Shot]:
    """Deal a camera's images out evenly over identities, the first ones getting what is left over."""
    shares = (total // len(ids) + (i < total % len(ids)) for i in range(len(ids)))
    return [sysu_shot(i, camera, k) for i, share in zip(ids, shares, strict=True) for k in range(share)]


def id_texts(parts: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return the id files: numbers separated by commas on one line."""
    return {f"exp/{name}_id.txt": ",".join(map(str, ids)) + "\n" for name, ids in parts.items()}


def sysu_shot(identity: int, camera: int, number: int) -> Shot:
    """Place an image of SYSU-MM01."""
    path = f"cam{camera}/{identity:04d}/{number + 1:04d}.jpg"
    return Shot(path, identity, camera, camera in INFRARED_CAMERAS, number)


def plan_regdb(identities: int, images: int, seed: int) -> Plan:
    """Plan a RegDB twin: ten random halvings into training and test identities."""
    shots = [
        Shot(regdb_path(modality, identity, number), identity, 1 + modality, bool(modality), number)
        for modality in NAMES
        for identity in range(1, identities + 1)
        for number in range(images)
    ]
    texts = {}
    for split in range(1, SPLITS + 1):
        order = (generator("regdb split", seed, split).permutation(identities) + 1).tolist()
        half = identities // 2
        for part, ids in (("train", sorted(order[:half])), ("test", sorted(order[half:]))):
            for modality, name in NAMES.items():
                lines = [
                    f"{regdb_path(modality, identity, number)} {label}\n"
                    for label, identity in enumerate(ids)
                    for number in range(images)
                ]
                texts[f"idx/{part}_{name}_{split}.txt"] = "".join(lines)
    return Plan(shots, texts)


def regdb_path(modality: int, identity: int, number: int) -> str:
    """Name an image of RegDB."""
    folder, letter = (("Visible", "v"), ("Thermal", "t"))[modality]
    sex = ("female", "male")[identity % 2]
    return f"{folder}/{identity}/{sex}_front_{letter}_{identity:05d}_{number + 1}.bmp"


def write_twin(
    root: Path,
    plan: Plan,
    seed: int,
    difficulty: Difficulty,
    size: tuple[int, int] | None,
    track: Track,
) -> None:
    """Render all images, a person at a time, and write the split files."""
    for folder in {(root / name).parent for name in [*plan.texts, *(shot.path for shot in plan.shots)]}:
        folder.mkdir(parents=True, exist_ok=True)
    people: dict[int, list[Shot]] = {}
    for shot in plan.shots:
        people.setdefault(shot.person, []).append(shot)
    for shots in track(list(people.values())):
        render_shots(root, seed, difficulty, size, shots)
    for name, text in plan.texts.items():
        (root / name).write_text(text, encoding="utf-8")


def render_shots(
    root: Path, seed: int, difficulty: Difficulty, size: tuple[int, int] | None, shots: Sequence[Shot]
) -> None:
    """Render the images of one person; each depends on its own indices alone."""
    person = draw_person(("twin", seed, shots[0].person), difficulty.rho)
    seen = {(shot.camera, shot.infrared) for shot in shots}
    cameras = {c: draw_camera(("twin", seed, c), infrared, difficulty.strength) for c, infrared in seen}
    for shot in shots:
        g = generator("shot", seed, shot.person, shot.camera, shot.number)
        drawn = size or natural_size(shot, seed)
        (root / shot.path).write_bytes(encode(photograph(person, cameras[shot.camera], g, drawn), shot.path))


def natural_size(shot: Shot, seed: int) -> tuple[int, int]:
    """Return width and height of an image: fixed in RegDB, a detector's boxes in SYSU-MM01."""
    if shot.path.endswith(".bmp"):
        return WIDTH, HEIGHT
    g = generator("size", seed, shot.person, shot.camera, shot.number)
    height = int(g.integers(120, 301))
    return height * int(g.integers(36, 52)) // 100, height


def encode(pixels: UInt8Array, path: str) -> bytes:
    """Encode as the real data set does: JPEG, or BMP."""
    buffer = BytesIO()
    if path.endswith(".jpg"):
        Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    else:
        Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def render_source(
    identities: int, images: int, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> tuple[UInt8Array, npt.NDArray[np.int64]]:
    """Render people who appear in no twin, visible only, each image by one of 24 cameras.

    Parameters
    ----------
    identities, images : int
        People, and images of each.
    size : (width, height)

    Returns
    -------
    uint8 array (n, height, width, 3), int64 array (n,)
        n = identities * images, labels from 0.
    """
    cameras = [draw_camera(("source", seed, c), infrared=False, strength=1.0) for c in range(SOURCE_CAMERAS)]
    pixels = np.empty((identities, images, size[1], size[0], 3), dtype=np.uint8)
    for i in range(identities):
        person = draw_person(("source", seed, i), rho=1.0)
        for k in range(images):
            g = generator("source shot", seed, i, k)
            pixels[i, k] = photograph(person, cameras[int(g.integers(SOURCE_CAMERAS))], g, size)
    return pixels.reshape(-1, *pixels.shape[2:]), np.arange(identities, dtype=np.int64).repeat(images)
