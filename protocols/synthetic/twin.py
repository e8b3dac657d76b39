"""Writes synthetic twins: folders, file names, split files and modes of a real data set, by its own plan.

A twin is made from a seed and read by the same code as the real data. ``SYNTHETIC.json`` at its root marks
it, and every row and table made from it says ``synthetic``; the images of a twin with the counts of real data are
marked too, and refused where that file is missing. Pixels before encoding are the same on every
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

import errno
import glob
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from protocols.base import DataError, Dataset
from protocols.files import MARK, MARKER, write_file
from protocols.synthetic.plan import Plan, Shot, Twin
from protocols.synthetic.rendering import UInt8Array, draw_camera, draw_person, generator, photograph

VERSION = 2
"""Rises with every change of what is rendered: twins and source weights made before are then made anew."""
FORMATS: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG", "quality": 92},
    ".bmp": {"format": "BMP"},
    ".png": {"format": "PNG"},
}
"""How images are encoded, by the suffix of their names."""


@dataclass(frozen=True)
class Difficulty:
    """How much of a visible colour an infrared camera sees (rho), and how far cameras differ (strength)."""

    rho: float
    strength: float


DIFFICULTIES = {"easy": Difficulty(0.85, 0.4), "medium": Difficulty(0.6, 0.7), "hard": Difficulty(0.4, 1.0)}

Track = Callable[[Sequence[Sequence[Shot]]], Iterable[Sequence[Shot]]]
"""Passes on the shots of each person, showing how far it is."""
SizeOf = Callable[[Shot, int], tuple[int, int]]
"""Width and height of an image, from its shot and the twin's seed."""


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
    dataset: Dataset,
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
    dataset : Dataset
        What it is a twin of.
    identities, images : int, optional
        People, and images of a person in a camera. Default: what the data set's plan says.
    difficulty : str
        A key of `DIFFICULTIES`.
    size : (width, height), optional
        Of all images. Default: what the data set's plan says.
    full_size : bool
        The real counts, at 16 x 32 pixels unless `size` says otherwise; all images end with a mark.
    track : callable, optional
        Wraps the loop over people; a full-size twin takes minutes.

    Raises
    ------
    DataError
        Unknown difficulty, impossible counts or size, or `out` in use.
    """
    if difficulty not in DIFFICULTIES:
        raise DataError(f"difficulty {difficulty!r} is unknown; use one of {', '.join(DIFFICULTIES)}")
    if size is not None and min(size) < 1:
        raise DataError(f"size {size}: width and height are at least 1 pixel")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder; choose another, or delete it first")
    plan = plan_twin(dataset.twin, identities, images, seed, full_size)
    size = size or ((16, 32) if full_size else None)
    marker = {
        **{"synthetic": True, "version": VERSION, "like": dataset.alias or dataset.name, "seed": seed},
        **{
            "difficulty": difficulty,
            **asdict(DIFFICULTIES[difficulty]),
            "size": size,
            "full_size": full_size,
        },
        **count_shots(plan.shots),
    }
    plan.texts[MARKER] = json.dumps(marker, indent=2, sort_keys=True) + "\n"
    size_of = dataset.twin.size if size is None else constant(size)
    with whole_folder(out) as temporary:
        level, mark = DIFFICULTIES[difficulty], MARK if full_size else b""
        write_twin(temporary, plan, seed, level, size_of, track, mark)
    return TwinReport(out, marker)


def constant(size: tuple[int, int]) -> SizeOf:
    """Return the function that gives every image one size."""
    return lambda _shot, _seed: size


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a new folder beside `out` that takes its place at the end, and vanishes after an error.

    Errors of files within name them as they would be called. What a killed process of this machine left goes.
    """
    import psutil  # not at the top: what looks for a twin needs none

    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{glob.escape(out.name)}.*-*"):
        process = re.match(r"\d{1,9}(?=-)", left.name.removeprefix(f".{out.name}."))
        if process and not psutil.pid_exists(int(process[0])):
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.{os.getpid()}-"))
    try:
        yield temporary
        temporary.chmod(0o755)
        take_place(temporary, out)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and str(error.filename).startswith(str(temporary)):
            error.filename = str(out) + str(error.filename).removeprefix(str(temporary))
        raise


def take_place(temporary: Path, out: Path) -> None:
    """Rename a folder, perhaps to the name of an empty one."""
    try:
        temporary.replace(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise DataError(
                f"another process has filled {out} meanwhile; use what is there, or choose another folder"
            ) from error
        error.filename, error.filename2 = str(out), None
        raise


def count_shots(shots: Sequence[Shot]) -> dict[str, Any]:
    """Count people, and by top folder images and folders of identities."""
    images = Counter(shot.path.split("/")[0] for shot in shots)
    identities = Counter(folder.split("/")[0] for folder in {shot.path.rsplit("/", 1)[0] for shot in shots})
    return {"people": len({s.person for s in shots}), "counts": dict(images), "identities": dict(identities)}


def plan_twin(twin: Twin, identities: int | None, images: int | None, seed: int, full_size: bool) -> Plan:
    """Plan a twin's images and split files; the arguments are those of `synthesise`."""
    if full_size:
        if identities is not None or images is not None:
            raise DataError(
                "a full-size twin has the real counts; leave out the numbers of identities and images"
            )
        return twin.full_size(seed)
    people = twin.people if identities is None else identities
    shots = twin.images if images is None else images
    if people < 4 or people > 9999:
        raise DataError(f"{people} identities: a twin has from 4 (training and test need two each) to 9999")
    if shots < 1 or shots > 9999:
        raise DataError(f"{shots} images of a person in a camera: from 1 to 9999 are possible")
    return twin.plan(people, shots, seed)


def write_twin(
    root: Path,
    plan: Plan,
    seed: int,
    difficulty: Difficulty,
    size_of: SizeOf,
    track: Track,
    mark: bytes,
) -> None:
    """Render all images, a person at a time, and write the split files; images end with `mark`."""
    files = {(root / name).parent for name in [*plan.texts, *(shot.path for shot in plan.shots)]}
    for folder in files | {root / name for name in plan.folders}:
        folder.mkdir(parents=True, exist_ok=True)
    people: dict[int, list[Shot]] = {}
    for shot in plan.shots:
        people.setdefault(shot.person, []).append(shot)
    for shots in track(list(people.values())):
        render_shots(root, seed, difficulty, size_of, shots, mark)
    for name, text in plan.texts.items():
        write_file(root / name, text.encode())


def render_shots(
    root: Path, seed: int, difficulty: Difficulty, size_of: SizeOf, shots: Sequence[Shot], mark: bytes
) -> None:
    """Render the images of one person; each depends on its own indices alone."""
    person = draw_person(("twin", seed, shots[0].person), difficulty.rho)
    cameras = {
        (number, infrared): draw_camera(("twin", seed, number), infrared, difficulty.strength)
        for number, infrared in {(shot.camera, shot.infrared) for shot in shots}
    }
    for shot in shots:
        g = generator("shot", seed, shot.person, shot.camera, shot.number)
        pixels = photograph(person, cameras[shot.camera, shot.infrared], g, size_of(shot, seed))
        write_file(root / shot.path, encode(pixels, Path(shot.path).suffix) + mark)


def encode(pixels: UInt8Array, suffix: str) -> bytes:
    """Encode an image as files of that suffix are."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, **FORMATS[suffix])
    return buffer.getvalue()
