"""SYSU-MM01: all and indoor search, single and multi shot, ten galleries (protocols-spec section 1).

The galleries are those of public evaluation code (`seeded`: drawn from ``random.Random(trial)``, multi shot
from ``numpy.random.RandomState(trial)``), or those of the official permutation file (`official`).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from protocols.base import (
    DataError,
    Distance,
    Images,
    IntArray,
    LabelledImages,
    Modality,
    Protocol,
    Scores,
    Trial,
    read_lines,
)
from protocols.files import PartialDataWarning, images_in, is_synthetic, unknown_counts, wrong_layout
from protocols.metrics import evaluate

VISIBLE_CAMERAS = (1, 2, 4, 5)
INFRARED_CAMERAS = (3, 6)
TRIALS = range(10)
SHOTS = 10
PERMUTATIONS = "exp/rand_perm_cam.mat"
"""The official permutations, below a root that has them."""
TREE = """<root>/cam1 .. cam6/0001/0001.jpg      camera / identity (four digits) / image
<root>/exp/train_id.txt  val_id.txt  test_id.txt      identities separated by commas, on one line"""

TRAIN_COUNTS = {1: 4721, 2: 5753, 3: 7909, 4: 5811, 5: 5973, 6: 4000}
TEST_COUNTS = {1: 1374, 2: 1565, 3: 1883, 4: 1918, 5: 1918, 6: 1920}
TRAIN_IDENTITIES, TEST_IDENTITIES = 395, 96
GALLERY_IDENTITIES = {1: 56, 2: 56, 4: 94, 5: 95}
"""Known counts by camera (protocols-spec 1.3): images, and test identities that the galleries hold."""


def read_ids(root: Path, name: str) -> list[int]:
    """Read ``exp/<name>_id.txt``: identities on one line, ascending in the result.

    Raises
    ------
    DataError
        With file, line and column of what is not an identity, or of a second line, or of a repeated identity.
    """
    path = root / "exp" / f"{name}_id.txt"
    if not path.is_file():
        raise wrong_layout(root, f"exp/{name}_id.txt", TREE)
    lines = read_lines(path)
    if not lines or not lines[0].strip():
        raise DataError(f"{path}, line 1: empty; expected identities separated by commas")
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            raise DataError(f"{path}, line {number}: unexpected second line; all identities go on line 1")
    ids: list[int] = []
    column = 1
    for field in lines[0].split(","):
        if not field.strip().isascii() or not field.strip().isdigit():
            raise DataError(f"{path}, line 1, column {column}: {field.strip()!r} is not an identity number")
        identity = int(field)
        if identity > 9999:
            raise DataError(f"{path}, line 1, column {column}: identity {identity} is above 9999")
        if identity in ids:
            raise DataError(f"{path}, line 1, column {column}: identity {identity} stands twice; remove one")
        ids.append(identity)
        column += len(field) + 1
    return sorted(ids)


def read_splits(root: Path) -> dict[str, list[int]]:
    """Read the three id files; an identity may stand in one of them only."""
    splits = {name: read_ids(root, name) for name in ("train", "val", "test")}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := sorted(set(splits[a]) & set(splits[b])):
            raise DataError(
                f"{root}/exp: identity {both[0]} stands in {a}_id.txt and in {b}_id.txt "
                f"({len(both)} such); remove one"
            )
    return splits


def folder_images(root: Path, camera: int, identity: int) -> list[str]:
    """Return the sorted image names of an identity in a camera; none if it has no folder there."""
    folder = root / f"cam{camera}" / f"{identity:04d}"
    if not folder.is_dir():
        return []
    names = images_in(folder, ".jpg")
    odd = next((n for n in names if not (len(Path(n).stem) == 4 and Path(n).stem.isdigit())), None)
    if odd:
        warnings.warn(
            f"{folder / odd}: the name is not four digits; galleries drawn from it are not the standard ones",
            PartialDataWarning,
            stacklevel=2,
        )
    return names


def listed(root: Path, rows: Sequence[tuple[int, int, str]]) -> LabelledImages:
    """Make a list of images from (identity, camera, name) rows."""
    camera = np.array([c for _, c, _ in rows], dtype=np.int64)
    modality = np.where(np.isin(camera, INFRARED_CAMERAS), Modality.INFRARED, Modality.VISIBLE).astype(
        np.int64
    )
    paths = tuple(f"cam{c}/{i:04d}/{name}" for i, c, name in rows)
    return LabelledImages(
        Images(root, paths, modality, camera), np.array([i for i, _, _ in rows], dtype=np.int64)
    )


def rows_of(root: Path, ids: Sequence[int], cameras: Sequence[int]) -> list[tuple[int, int, str]]:
    """List all images, identity major, camera minor, names sorted."""
    return [(i, c, name) for i in ids for c in cameras for name in folder_images(root, c, i)]


def gallery_folders(
    root: Path, ids: Sequence[int], cameras: Sequence[int]
) -> list[tuple[int, int, list[str]]]:
    """List the existing (identity, camera, names) folders in drawing order."""
    folders = [(i, c, folder_images(root, c, i)) for i in ids for c in cameras]
    return [folder for folder in folders if folder[2]]


def single_shot(folders: Sequence[tuple[int, int, list[str]]], trial: int) -> list[tuple[int, int, str]]:
    """Draw one image a folder, from one stream seeded by the trial (protocols-spec 1.5)."""
    stream = random.Random(trial)
    return [(i, c, stream.choice(names)) for i, c, names in folders]


def multi_shot(folders: Sequence[tuple[int, int, list[str]]], trial: int) -> list[tuple[int, int, str]]:
    """Draw ten images a folder from NumPy's legacy stream (protocols-spec 1.6, our convention of seeding)."""
    stream = np.random.RandomState(trial)  # the legacy stream is the protocol
    return [
        (i, c, str(name)) for i, c, names in folders for name in stream.choice(names, SHOTS, replace=False)
    ]


def read_permutations(root: Path) -> npt.NDArray[np.object_]:
    """Read ``exp/rand_perm_cam.mat``: per camera and identity a matrix (10, n) of permutations of 1..n."""
    path = root / PERMUTATIONS
    if not path.is_file():
        raise DataError(
            f"{path} not found; the official galleries need it (it comes with the official evaluation code)"
        )
    try:
        cells: npt.NDArray[np.object_] = loadmat(path)["rand_perm_cam"]
    except (ValueError, KeyError, NotImplementedError, TypeError, OSError, MatReadError) as error:
        raise DataError(f"{path} is not the official permutation file: {error}") from error
    if cells.shape != (6, 1) or not all(np.asarray(cell).dtype == object for cell in cells.flat):
        raise DataError(f"{path} is not the official permutation file: expected a cell of 6 x 1 cells")
    return cells


def official_draw(
    permutations: npt.NDArray[np.object_],
    folders: Sequence[tuple[int, int, list[str]]],
    trial: int,
    shots: int,
) -> list[tuple[int, int, str]]:
    """Take the first `shots` entries of a trial's row, camera major, identity minor (protocols-spec, 5).

    Raises
    ------
    DataError
        If a permutation is not one of its folder; names camera, identity and both counts.
    """
    rows = []
    for identity, camera, names in sorted(folders, key=lambda folder: (folder[1], folder[0])):
        known = permutations[camera - 1, 0]
        order = known[identity - 1, 0] if identity <= len(known) else np.empty((0, 0))
        if order.shape[1] != len(names):
            raise DataError(
                f"rand_perm_cam.mat has {order.shape[1]} images of identity {identity} in camera {camera}, "
                f"the folder {len(names)}; the file and the images must be of one release"
            )
        if len(order) <= trial or sorted(order[trial]) != list(range(1, len(names) + 1)):
            raise DataError(
                f"rand_perm_cam.mat, camera {camera}, identity {identity}: row {trial + 1} is missing or not a "
                f"permutation of 1..{len(names)}; get the original file"
            )
        rows += [(identity, camera, names[k - 1]) for k in order[trial, :shots].astype(int)]
    return rows


class SysuMM01(Protocol):
    """What the SYSU-MM01 protocols share; they differ in the gallery's cameras and how it is drawn."""

    version = "1"
    dataset = "sysu-mm01"
    splits = (0,)
    gallery_cameras: ClassVar[tuple[int, ...]] = VISIBLE_CAMERAS
    official: ClassVar[bool] = False

    def lacks(self, root: Path) -> str | None:
        """Name the official permutations, where the galleries are theirs and they are not there."""
        return PERMUTATIONS if self.official and not (root / PERMUTATIONS).is_file() else None

    def training(self, root: Path, split: int, *, allow_partial: bool = False) -> LabelledImages:
        """Training images of the 395 train and validation identities, visible first, then infrared."""
        ids = read_splits(root)
        chosen = sorted(ids["train"] + ids["val"])
        found = listed(root, rows_of(root, chosen, VISIBLE_CAMERAS) + rows_of(root, chosen, INFRARED_CAMERAS))
        verify(root, found, TRAIN_COUNTS, TRAIN_IDENTITIES, len(chosen), "training", allow_partial)
        return found

    def trials(self, root: Path, split: int, *, allow_partial: bool = False) -> list[Trial]:
        """Ten single-shot and ten multi-shot trials; all share the query list."""
        ids = read_splits(root)["test"]
        query = listed(root, rows_of(root, ids, INFRARED_CAMERAS))
        everything = listed(root, rows_of(root, ids, VISIBLE_CAMERAS + INFRARED_CAMERAS))
        verify(root, everything, TEST_COUNTS, TEST_IDENTITIES, len(ids), "test", allow_partial)
        folders = gallery_folders(root, ids, self.gallery_cameras)
        return [
            Trial(setting, trial, query, listed(root, rows), rule)
            for setting, shots in (("single-shot", 1), ("multi-shot", SHOTS))
            if enough_images(root, folders, shots, allow_partial)
            for trial, rows, rule in self.galleries(root, folders, shots)
        ]

    def galleries(
        self, root: Path, folders: Sequence[tuple[int, int, list[str]]], shots: int
    ) -> Iterator[tuple[int, list[tuple[int, int, str]], str]]:
        """Yield trial number, gallery rows and the rule that made them.

        Multi shot follows the official file where it is present: no public seeded draw is reproducible.
        """
        present = (root / PERMUTATIONS).is_file()
        if self.official or (shots == SHOTS and present):
            permutations = read_permutations(root)
            yield from ((t, official_draw(permutations, folders, t, shots), "official") for t in TRIALS)
        else:
            draw = single_shot if shots == 1 else multi_shot
            yield from ((t, draw(folders, t), "seeded") for t in TRIALS)

    def score(
        self,
        distance: Distance,
        query_ids: IntArray,
        gallery_ids: IntArray,
        query_cams: IntArray,
        gallery_cams: IntArray,
    ) -> Scores:
        """CMC over identities; queries of camera 3 do not see camera 2, which stands in the same place."""
        for name, cams, allowed in (
            ("query_cams", query_cams, INFRARED_CAMERAS),
            ("gallery_cams", gallery_cams, self.gallery_cameras),
        ):
            if wrong := sorted(set(np.unique(cams).tolist()) - set(allowed)):
                raise DataError(
                    f"{name}: {wrong} are not among the cameras {allowed} that {self.id} has on that side; "
                    "leave these images out, or score by the protocol they belong to"
                )
        skip = np.stack([np.zeros(len(gallery_cams), dtype=bool), gallery_cams == 2])
        return evaluate(distance, query_ids, gallery_ids, skip, (query_cams == 3).astype(np.int64), True)


def enough_images(
    root: Path, folders: Sequence[tuple[int, int, list[str]]], shots: int, allow_partial: bool
) -> bool:
    """Say whether every folder has `shots` images; refuse a short one in real data that may not be partial."""
    short = next(((i, c, n) for i, c, n in folders if len(n) < shots), None)
    if short is None:
        return bool(folders)
    where = root / f"cam{short[1]}" / f"{short[0]:04d}"
    text = f"{where} has {len(short[2])} images, multi shot draws {shots}"
    if is_synthetic(root):
        return False
    if not allow_partial:
        raise DataError(f"{text}; restore the folder")
    warnings.warn(f"{text}; multi-shot trials are left out", PartialDataWarning, stacklevel=3)
    return False


def refuse_one_modality(root: Path, found: LabelledImages, part: str) -> None:
    """Refuse a part without visible or without infrared images."""
    for modality, cameras in ((Modality.VISIBLE, VISIBLE_CAMERAS), (Modality.INFRARED, INFRARED_CAMERAS)):
        if not (found.images.modality == modality).any():
            folders = ", ".join(f"cam{camera}" for camera in cameras)
            raise DataError(
                f"{root}: the {part} part has no {modality.name.lower()} images; {folders} hold none of its "
                "identities, restore these folders"
            )


def verify(
    root: Path,
    found: LabelledImages,
    counts: dict[int, int],
    known: int,
    ids: int,
    part: str,
    allow_partial: bool,
) -> None:
    """Compare counts with the known ones; a part of one modality alone is refused in any case."""
    by_camera = {c: int((found.images.camera == c).sum()) for c in counts}
    if by_camera == counts and ids == known:
        return
    text = (
        f"{root}: the {part} part has {ids} identities (expected {known}) and per camera "
        f"{by_camera} images (expected {counts})"
    )
    unknown_counts(root, SysuMM01.dataset, text, allow_partial)
    refuse_one_modality(root, found, part)


class SysuAll(SysuMM01):
    """All search: the gallery holds all four visible cameras."""

    id = "sysu-all"
    summary = "SYSU-MM01, all search: infrared queries, gallery from cameras 1, 2, 4, 5; seeded galleries"


class SysuIndoor(SysuMM01):
    """Indoor search: the gallery holds cameras 1 and 2."""

    id = "sysu-indoor"
    summary = "SYSU-MM01, indoor search: infrared queries, gallery from cameras 1, 2; seeded galleries"
    gallery_cameras = (1, 2)


class SysuAllOfficial(SysuAll):
    """All search on the galleries of the official permutation file."""

    id = "sysu-all-official"
    summary = "SYSU-MM01, all search, galleries of rand_perm_cam.mat"
    official = True


class SysuIndoorOfficial(SysuIndoor):
    """Indoor search on the galleries of the official permutation file."""

    id = "sysu-indoor-official"
    summary = "SYSU-MM01, indoor search, galleries of rand_perm_cam.mat"
    official = True
