"""SYSU-MM01: all and indoor search, single and multi shot, ten galleries (docs/protocols.md).

The galleries are those of public evaluation code (`seeded`: drawn from ``random.Random(trial)``, multi shot
from ``numpy.random.RandomState(trial)``), or those of the official permutation file (`official`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from protocols.base import (
    Count,
    DataError,
    Dataset,
    Distance,
    Headline,
    Images,
    IntArray,
    LabelledImages,
    Modality,
    Protocol,
    Scores,
    Trial,
    count,
)
from protocols.files import PartialDataWarning, images_in, is_synthetic, needed, unknown_counts
from protocols.galleries import Folder, ImageRow, official_draw, read_permutations, seeded_draw
from protocols.lists import read_identities
from protocols.metrics import evaluate
from protocols.synthetic.plan import Plan, Shot, Twin, detector_size, shares
from protocols.synthetic.rendering import generator

VISIBLE_CAMERAS = (1, 2, 4, 5)
INFRARED_CAMERAS = (3, 6)
CAMERAS = range(1, 7)
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
"""Known counts by camera (docs/protocols.md): images, and test identities that the galleries hold."""
VAL_COUNTS = {1: 0, 2: 0, 3: 1980, 4: 990, 5: 984, 6: 0}
"""Of the training counts, those of the identities of val_id.txt."""


def read_ids(root: Path, name: str) -> list[int]:
    """Read ``exp/<name>_id.txt``: identities on one line, ascending in the result."""
    return read_identities(needed(root, f"exp/{name}_id.txt", TREE))


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
    odd = next((n for n in names if not re.fullmatch("[0-9]{4}", Path(n).stem)), None)
    if odd:
        warnings.warn(
            f"{folder / odd}: the name is not four digits; galleries drawn from it are not the standard ones",
            PartialDataWarning,
            stacklevel=2,
        )
    return names


def listed(root: Path, rows: Sequence[ImageRow]) -> LabelledImages:
    """Make a list of images from rows."""
    camera = np.array([row.camera for row in rows], dtype=np.int64)
    infrared = np.isin(camera, INFRARED_CAMERAS)
    modality = np.where(infrared, Modality.INFRARED, Modality.VISIBLE).astype(np.int64)
    paths = tuple(f"cam{c}/{i:04d}/{name}" for i, c, name in rows)
    identity = np.array([row.identity for row in rows], dtype=np.int64)
    return LabelledImages(Images(root, paths, modality, camera), identity)


def rows_of(root: Path, ids: Sequence[int], cameras: Sequence[int]) -> list[ImageRow]:
    """List all images, identity major, camera minor, names sorted."""
    return [ImageRow(i, c, name) for i in ids for c in cameras for name in folder_images(root, c, i)]


def gallery_folders(root: Path, ids: Sequence[int], cameras: Sequence[int]) -> list[Folder]:
    """List the existing folders in drawing order."""
    folders = [Folder(i, c, folder_images(root, c, i)) for i in ids for c in cameras]
    return [folder for folder in folders if folder.names]


def enough_images(root: Path, folders: Sequence[Folder], shots: int, allow_partial: bool) -> bool:
    """Say whether every folder has `shots` images; refuse a short one in real data that may not be partial."""
    short = next((folder for folder in folders if len(folder.names) < shots), None)
    if short is None:
        return bool(folders)
    where = root / f"cam{short.camera}" / f"{short.identity:04d}"
    text = f"{where} has {len(short.names)} images, multi shot draws {shots}"
    if is_synthetic(root):
        return False
    if not allow_partial:
        raise DataError(f"{text}; restore the folder")
    warnings.warn(f"{text}; multi-shot trials are left out", PartialDataWarning, stacklevel=3)
    return False


def refuse_one_modality(root: Path, listing: LabelledImages, part: str) -> None:
    """Refuse a part without visible or without infrared images."""
    for modality, cameras in ((Modality.VISIBLE, VISIBLE_CAMERAS), (Modality.INFRARED, INFRARED_CAMERAS)):
        if not (listing.images.modality == modality).any():
            folders = ", ".join(f"cam{camera}" for camera in cameras)
            raise DataError(
                f"{root}: the {part} part has no {modality.name.lower()} images; {folders} hold none of its "
                "identities, restore these folders"
            )


def verify(
    root: Path,
    listing: LabelledImages,
    part: str,
    ids: int,
    known_ids: int,
    known_images: Mapping[int, int],
    allow_partial: bool,
) -> None:
    """Compare counts with the known ones; a part of one modality alone is refused in any case."""
    by_camera = {c: int((listing.images.camera == c).sum()) for c in known_images}
    if by_camera == known_images and ids == known_ids:
        return
    text = (
        f"{root}: the {part} part has {ids} identities (expected {known_ids}) and per camera "
        f"{by_camera} images (expected {known_images})"
    )
    unknown_counts(root, SysuMM01Data.name, text, allow_partial)
    refuse_one_modality(root, listing, part)


def count_part(
    root: Path, part: str, ids: Sequence[int], known_ids: int, known_images: Mapping[int, int]
) -> list[Count]:
    """Count a part's identities, and its images by camera."""
    counts = [count(f"{part} identities", known_ids, len(ids))]
    for camera, known in known_images.items():
        images = [len(folder_images(root, camera, identity)) for identity in ids]
        counts.append(count(f"{part} images, camera {camera}", known, sum(images)))
        if part == "test" and camera in GALLERY_IDENTITIES:
            known_here = GALLERY_IDENTITIES[camera]
            counts.append(count(f"test identities, camera {camera}", known_here, np.count_nonzero(images)))
    return counts


def shot(identity: int, camera: int, number: int) -> Shot:
    """Place an image of a twin."""
    path = f"cam{camera}/{identity:04d}/{number + 1:04d}.jpg"
    return Shot(path, identity, camera, camera in INFRARED_CAMERAS, number)


def id_texts(parts: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return the id files: numbers separated by commas on one line."""
    return {f"exp/{name}_id.txt": ",".join(map(str, ids)) + "\n" for name, ids in parts.items()}


def plan_twin(identities: int, images: int, seed: int) -> Plan:
    """Plan a twin: three fifths of the people train (a sixth of them as val), the others test."""
    order = (generator("sysu split", seed).permutation(identities) + 1).tolist()
    training = round(0.6 * identities)
    val = max(1, training // 6)
    parts = {"train": order[val:training], "val": order[:val], "test": order[training:]}
    people = range(1, identities + 1)
    return Plan([shot(i, c, k) for i in people for c in CAMERAS for k in range(images)], id_texts(parts))


def plan_full_size(_seed: int) -> Plan:
    """Plan the real counts by part and camera, dealt out evenly over the identities a camera has seen."""
    train, val, test = list(range(1, 297)), list(range(297, 396)), list(range(396, 492))
    # the real single-shot galleries hold 56, 56, 94 and 95 test identities of cameras 1, 2, 4 and 5
    seen = {1: test[:56], 2: test[:56], 3: test, 4: test[2:], 5: test[1:], 6: test}
    shots: list[Shot] = []
    for camera in CAMERAS:
        shots += deal(train, camera, TRAIN_COUNTS[camera] - VAL_COUNTS[camera])
        shots += deal(val, camera, VAL_COUNTS[camera])
        shots += deal(seen[camera], camera, TEST_COUNTS[camera])
    return Plan(shots, id_texts({"train": train, "val": val, "test": test}))


def deal(ids: Sequence[int], camera: int, total: int) -> list[Shot]:
    """Deal a camera's images out evenly over identities."""
    return [shot(i, camera, k) for i, n in zip(ids, shares(total, len(ids)), strict=True) for k in range(n)]


class SysuMM01Data(Dataset):
    """SYSU-MM01: four visible and two infrared cameras, one training split."""

    name = "sysu-mm01"
    alias = "sysu"
    summary = "SYSU-MM01: four visible and two infrared cameras, one split"
    landmarks = "cam1 .. cam6 and exp"
    tree = TREE
    image_folders = tuple(f"cam{camera}" for camera in CAMERAS)
    list_folders = ("exp",)
    suffix = ".jpg"
    n_trials = len(TRIALS)
    headline = Headline("sysu-all", "single-shot")
    unions = {
        "sysu": ("sysu-all", "sysu-indoor"),
        "sysu-official": ("sysu-all-official", "sysu-indoor-official"),
    }
    twin = Twin(100, 3, plan_twin, plan_full_size, detector_size)

    def recognises(self, root: Path) -> bool:
        """Look for ``exp`` and any camera."""
        return (root / "exp").is_dir() and any((root / name).is_dir() for name in self.image_folders)

    def counts(self, root: Path) -> list[Count]:
        """Identities of both parts, and their images by camera."""
        ids = read_splits(root)
        if (root / PERMUTATIONS).is_file():
            read_permutations(root / PERMUTATIONS, len(CAMERAS))
        trained = ids["train"] + ids["val"]
        return [
            *count_part(root, "training", trained, TRAIN_IDENTITIES, TRAIN_COUNTS),
            *count_part(root, "test", ids["test"], TEST_IDENTITIES, TEST_COUNTS),
        ]

    def training(self, root: Path, split: int, *, allow_partial: bool = False) -> LabelledImages:
        """Training images of the 395 train and validation identities, visible first, then infrared."""
        ids = read_splits(root)
        trained = sorted(ids["train"] + ids["val"])
        images = listed(
            root, rows_of(root, trained, VISIBLE_CAMERAS) + rows_of(root, trained, INFRARED_CAMERAS)
        )
        verify(root, images, "training", len(trained), TRAIN_IDENTITIES, TRAIN_COUNTS, allow_partial)
        return images


class SysuMM01(Protocol):
    """What the SYSU-MM01 protocols share; they differ in the gallery's cameras and how it is drawn."""

    version = "1"
    dataset = SysuMM01Data()
    gallery_cameras: ClassVar[tuple[int, ...]] = VISIBLE_CAMERAS
    official: ClassVar[bool] = False

    def lacks(self, root: Path) -> str | None:
        """Name the official permutations, where the galleries are theirs and they are not there."""
        return PERMUTATIONS if self.official and not (root / PERMUTATIONS).is_file() else None

    def trials(self, root: Path, split: int, *, allow_partial: bool = False) -> list[Trial]:
        """Ten single-shot and ten multi-shot trials; all share the query list."""
        ids = read_splits(root)["test"]
        query = listed(root, rows_of(root, ids, INFRARED_CAMERAS))
        everything = listed(root, rows_of(root, ids, VISIBLE_CAMERAS + INFRARED_CAMERAS))
        verify(root, everything, "test", len(ids), TEST_IDENTITIES, TEST_COUNTS, allow_partial)
        folders = gallery_folders(root, ids, self.gallery_cameras)
        return [
            Trial(setting, trial, query, listed(root, rows), rule)
            for setting, shots in (("single-shot", 1), ("multi-shot", SHOTS))
            if enough_images(root, folders, shots, allow_partial)
            for trial, rows, rule in self.galleries(root, folders, shots)
        ]

    def galleries(
        self, root: Path, folders: Sequence[Folder], shots: int
    ) -> Iterator[tuple[int, list[ImageRow], str]]:
        """Yield trial number, gallery rows and the rule that made them.

        Multi shot follows the official file where it is present: no public seeded draw is reproducible.
        """
        present = (root / PERMUTATIONS).is_file()
        if self.official or (shots == SHOTS and present):
            permutations = read_permutations(root / PERMUTATIONS, len(CAMERAS))
            yield from ((t, official_draw(permutations, folders, t, shots), "official") for t in TRIALS)
        else:
            yield from ((t, seeded_draw(folders, t, shots), "seeded") for t in TRIALS)

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
