"""Synthetic twins of SYSU-MM01 and RegDB: the same folders, file names, split files, sizes and modes, from a seed.

A twin is read by the same code as the real data. ``SYNTHETIC.json`` at its root marks it, and every row and table
made from it says ``synthetic``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from protocols.base import DataError
from protocols.regdb import NAMES
from protocols.rendering import (
    HEIGHT,
    WIDTH,
    Camera,
    UInt8Array,
    draw_camera,
    draw_person,
    generator,
    photograph,
)
from protocols.sysu_mm01 import INFRARED_CAMERAS, TEST_COUNTS, TRAIN_COUNTS

VERSION = 1
MARKER = "SYNTHETIC.json"
SPLITS = 10
SOURCE_CAMERAS = 24
FULL_SYSU = {"train": 296, "val": 99, "test": 96}


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
) -> str:
    """Make a twin, whole or not at all.

    Parameters
    ----------
    out : Path
        Must not exist, or be an empty folder.
    like : str
        ``regdb`` or ``sysu``.
    identities, images : int, optional
        People, and images of a person in a camera. Default: 120 x 10 (RegDB), 100 x 3 (SYSU-MM01).
    size : (width, height), optional
        Of the images; the real ones' order of magnitude by default.
    full_size : bool
        The real data set's counts, at a size of 16 x 32 unless `size` says otherwise.

    Returns
    -------
    str
        One line that says what was made.

    Raises
    ------
    DataError
        Unknown kind or difficulty, impossible counts, or `out` in use.
    """
    if like not in ("regdb", "sysu"):
        raise DataError(f"a twin is like 'regdb' or 'sysu', not {like!r}")
    if difficulty not in DIFFICULTIES:
        raise DataError(f"difficulty {difficulty!r} is unknown; use one of {', '.join(DIFFICULTIES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder; choose another, or delete it first")
    if full_size:
        plan = full_regdb(seed) if like == "regdb" else full_sysu()
        size = size or (16, 32)
    else:
        people = identities or (120 if like == "regdb" else 100)
        if people < 4:
            raise DataError(f"{people} identities are too few for a twin: training and test need two each")
        count = images or (10 if like == "regdb" else 3)
        plan = plan_regdb(people, count, seed) if like == "regdb" else plan_sysu(people, count, seed)
    shots, texts = plan
    about = {
        "synthetic": True,
        "version": VERSION,
        "like": like,
        "seed": seed,
        "difficulty": difficulty,
        **asdict(DIFFICULTIES[difficulty]),
        "size": list(size or (WIDTH, HEIGHT)),
        "counts": count_cameras(shots),
        "full_size": full_size,
    }
    texts = {**texts, MARKER: json.dumps(about, indent=2, sort_keys=True) + "\n"}
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        write_twin(temporary, shots, texts, seed, DIFFICULTIES[difficulty], size or (WIDTH, HEIGHT))
        temporary.chmod(0o755)
        if out.exists():
            out.rmdir()
        temporary.replace(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return f"{out}: synthetic twin of {like}, {len(shots)} images of {len({s.person for s in shots})} people, {difficulty}"


def count_cameras(shots: Sequence[Shot]) -> dict[str, int]:
    """Count images by top folder (camera of SYSU-MM01, modality of RegDB)."""
    tops, counts = np.unique([shot.path.split("/")[0] for shot in shots], return_counts=True)
    return {str(top): int(count) for top, count in zip(tops, counts, strict=True)}


def plan_sysu(identities: int, images: int, seed: int) -> tuple[list[Shot], dict[str, str]]:
    """Plan a SYSU-MM01 twin: three fifths of the people for training (a sixth of them as val), the rest for test."""
    order = (generator("sysu split", seed).permutation(identities) + 1).tolist()
    training = max(2, round(0.6 * identities))
    val = training // 6
    parts = {"train": order[val:training], "val": order[:val] or order[:1], "test": order[training:]}
    if not val:
        parts["train"] = order[1:training]
    shots = [
        sysu_shot(identity, camera, number)
        for identity in range(1, identities + 1)
        for camera in range(1, 7)
        for number in range(images)
    ]
    return shots, id_texts(parts)


def id_texts(parts: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return the id files: numbers separated by commas on one line."""
    return {f"exp/{name}_id.txt": ",".join(map(str, ids)) + "\n" for name, ids in parts.items()}


def sysu_shot(identity: int, camera: int, number: int) -> Shot:
    """Place an image of SYSU-MM01."""
    path = f"cam{camera}/{identity:04d}/{number + 1:04d}.jpg"
    return Shot(path, identity, camera, camera in INFRARED_CAMERAS, number)


def full_sysu() -> tuple[list[Shot], dict[str, str]]:
    """Plan the real counts per camera: images are dealt out evenly over the identities of each part."""
    first, parts = 1, {}
    for name, count in FULL_SYSU.items():
        parts[name] = list(range(first, first + count))
        first += count
    shots = []
    for ids, counts in ((parts["train"] + parts["val"], TRAIN_COUNTS), (parts["test"], TEST_COUNTS)):
        for camera, total in counts.items():
            # like the real data, 56 of the 96 test identities were seen by the indoor cameras 1 and 2
            seen = ids[:56] if counts is TEST_COUNTS and camera in (1, 2) else ids
            for i, identity in enumerate(seen):
                share = total // len(seen) + (i < total % len(seen))
                shots += [sysu_shot(identity, camera, number) for number in range(share)]
    return shots, id_texts(parts)


def full_regdb(seed: int) -> tuple[list[Shot], dict[str, str]]:
    """Plan 412 people x 10 images in each modality."""
    return plan_regdb(412, 10, seed)


def plan_regdb(identities: int, images: int, seed: int) -> tuple[list[Shot], dict[str, str]]:
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
        for part, ids in (("train", sorted(order[:half])), ("test", sorted(order[half : 2 * half]))):
            for modality, name in NAMES.items():
                lines = [
                    f"{regdb_path(modality, identity, number)} {label}\n"
                    for label, identity in enumerate(ids)
                    for number in range(images)
                ]
                texts[f"idx/{part}_{name}_{split}.txt"] = "".join(lines)
    return shots, texts


def regdb_path(modality: int, identity: int, number: int) -> str:
    """Name an image of RegDB."""
    folder, letter = (("Visible", "v"), ("Thermal", "t"))[modality]
    return f"{folder}/{identity}/person_front_{letter}_{identity:05d}_{number + 1}.bmp"


def write_twin(
    root: Path,
    shots: Sequence[Shot],
    texts: Mapping[str, str],
    seed: int,
    difficulty: Difficulty,
    size: tuple[int, int],
) -> None:
    """Render all images in parallel, and write the split files."""
    for folder in sorted({(root / name).parent for name in [*texts, *(shot.path for shot in shots)]}):
        folder.mkdir(parents=True, exist_ok=True)
    render = partial(render_person_shots, str(root), seed, difficulty, size)
    groups = list(by_person(shots))
    workers = min(os.cpu_count() or 1, 8)
    if workers > 1 and len(shots) > 500:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(render, groups, chunksize=8))
    else:
        for group in groups:
            render(group)
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")


def by_person(shots: Sequence[Shot]) -> Iterator[list[Shot]]:
    """Group shots by person."""
    groups: dict[int, list[Shot]] = {}
    for shot in shots:
        groups.setdefault(shot.person, []).append(shot)
    yield from groups.values()


def render_person_shots(
    root: str, seed: int, difficulty: Difficulty, size: tuple[int, int], shots: Sequence[Shot]
) -> None:
    """Render the images of one person; each depends on its own indices alone."""
    person = draw_person(("twin", seed, shots[0].person), difficulty.rho)
    cameras: dict[int, Camera] = {}
    for shot in shots:
        if shot.camera not in cameras:
            cameras[shot.camera] = draw_camera(
                ("twin", seed, shot.camera), shot.infrared, difficulty.strength
            )
        pixels = photograph(
            person, cameras[shot.camera], generator("shot", seed, shot.person, shot.camera, shot.number), size
        )
        (Path(root) / shot.path).write_bytes(encode(pixels, shot.path))


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
) -> tuple[UInt8Array, np.ndarray]:
    """Render people who appear in no twin, visible only, each image by one of 24 cameras.

    Returns
    -------
    uint8 array (n, height, width, 3), int64 array (n,)
    """
    cameras = [draw_camera(("source", seed, c), infrared=False, strength=1.0) for c in range(SOURCE_CAMERAS)]
    draw: Callable[[int, int], UInt8Array] = partial(source_image, cameras, seed, size)
    pairs = [(person, number) for person in range(identities) for number in range(images)]
    return np.stack([draw(*pair) for pair in pairs]), np.array(
        [person for person, _ in pairs], dtype=np.int64
    )


def source_image(
    cameras: Sequence[Camera], seed: int, size: tuple[int, int], person: int, number: int
) -> UInt8Array:
    """Render one source image."""
    g = generator("source shot", seed, person, number)
    return photograph(
        draw_person(("source", seed, person), 1.0), cameras[int(g.integers(len(cameras)))], g, size
    )
