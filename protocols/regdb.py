"""RegDB: ten trials, each trained on its own split and tested in both directions (docs/protocols.md)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from protocols.base import (
    Count,
    DataError,
    Dataset,
    Distance,
    Headline,
    IntArray,
    LabelledImages,
    Modality,
    Protocol,
    Scores,
    Trial,
    count,
    joined,
    one_modality,
)
from protocols.files import PartialDataWarning, needed, unknown_counts
from protocols.lists import read_labelled_paths
from protocols.metrics import evaluate
from protocols.synthetic.plan import Plan, Shot, Twin
from protocols.synthetic.rendering import generator

NAMES = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}
FOLDERS = {Modality.VISIBLE: "Visible", Modality.INFRARED: "Thermal"}
CAMERAS = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
IDENTITIES, IMAGES = 206, 2060
"""Known identities and images of each part of a split, per modality (docs/protocols.md)."""
IMAGES_A_PERSON = 10
"""Known images of an identity in each modality."""
SPLITS = range(1, 11)
TREE = """<root>/Visible/<id>/<name>.bmp   <root>/Thermal/<id>/<name>.bmp
<root>/idx/train_visible_1.txt .. train_visible_10.txt, train_thermal_*.txt, test_visible_*.txt,
   test_thermal_*.txt
   each line: Visible/<id>/<name>.bmp, one blank, an integer label"""


def read_index(root: Path, part: str, modality: Modality, split: int) -> LabelledImages:
    """Read ``idx/<part>_<modality>_<split>.txt``, in the order of its lines.

    Raises
    ------
    DataError
        With file and line of what is malformed, outside the root, or missing on disk.
    """
    path = needed(root, f"idx/{part}_{NAMES[modality]}_{split}.txt", TREE)
    names, labels = read_labelled_paths(root, path)
    refuse_contradictions(path, names, labels, modality)
    return one_modality(root, names, modality, [CAMERAS[modality]] * len(names), labels)


def refuse_contradictions(
    path: Path, names: Sequence[str], labels: Sequence[int], modality: Modality
) -> None:
    """Refuse a list of the other modality's images, and labels that are not one a folder.

    Raises
    ------
    DataError
        Names the first line that contradicts its folder.
    """
    other = FOLDERS[Modality(1 - modality)]
    folder_of: dict[int, str] = {}
    label_of: dict[str, int] = {}
    for number, (name, label) in enumerate(zip(names, labels, strict=True), start=1):
        parts = PurePosixPath(name).parts
        if parts[0] == other:
            raise DataError(
                f"{path}, line {number}: {name} is an image of {other}/; the list is of {FOLDERS[modality]}/, "
                "so the two modalities are exchanged; get the original files"
            )
        folder = "/".join(parts[:-1])
        if folder_of.setdefault(label, folder) != folder or label_of.setdefault(folder, label) != label:
            raise DataError(
                f"{path}, line {number}: {name} has label {label}, but {folder} has label "
                f"{label_of.get(folder, label)} and label {label} is of {folder_of[label]}; get the original file"
            )


def refuse_other_labels(root: Path, split: int, visible: LabelledImages, thermal: LabelledImages) -> None:
    """Refuse a label that stands for one identity folder in one modality and for another in the other."""
    of_visible, of_thermal = (
        dict(zip(side.identity.tolist(), map(folder_name, side.images.paths), strict=True))
        for side in (visible, thermal)
    )
    for label in sorted(of_visible.keys() & of_thermal.keys()):
        if of_visible[label] != of_thermal[label]:
            raise DataError(
                f"{root}, split {split}: label {label} is of identity folder {of_visible[label]} in the visible list "
                f"and of {of_thermal[label]} in the thermal one; get the original files"
            )


def check_sides(
    root: Path, split: int, visible: LabelledImages, thermal: LabelledImages, allow_partial: bool
) -> None:
    """Compare both modalities of a part with the known counts and with each other."""
    if set(visible.identity.tolist()) != set(thermal.identity.tolist()):
        text = f"{root}, split {split}: the label sets of the two modalities differ"
        if not allow_partial:
            raise DataError(f"{text}; get the original files, or use --allow-partial-data")
        warnings.warn(text, PartialDataWarning, stacklevel=3)
    refuse_other_labels(root, split, visible, thermal)
    problems = []
    for name, side in (("visible", visible), ("thermal", thermal)):
        ids = len(np.unique(side.identity))
        if (len(side), ids) != (IMAGES, IDENTITIES):
            problems.append(
                f"{name}: {len(side)} images of {ids} identities (expected {IMAGES} of {IDENTITIES})"
            )
    if problems:
        unknown_counts(root, RegDBData.name, f"{root}, split {split}: {'; '.join(problems)}", allow_partial)


def folders(side: LabelledImages) -> set[str]:
    """Return the identity folders of a list."""
    return set(map(folder_name, side.images.paths))


def folder_name(path: str) -> str:
    """Return the identity folder of an image."""
    return PurePosixPath(path).parent.name


def count_split(root: Path, split: int) -> list[tuple[str, int, int]]:
    """Return what was counted in a split, the known number and the one in its files.

    Raises
    ------
    DataError
        If an identity is in training and in test.
    """
    rows: list[tuple[str, int, int]] = []
    people: dict[str, set[str]] = {"train": set(), "test": set()}
    for part in people:
        labels: set[int] = set()
        for modality, name in NAMES.items():
            side = read_index(root, part, modality, split)
            people[part] |= folders(side)
            labels ^= set(side.identity.tolist())
            rows.append((f"{part} {name} images, each split", IMAGES, len(side)))
            rows.append((f"{part} {name} identities, each split", IDENTITIES, len(np.unique(side.identity))))
        rows.append((f"{part} labels of one modality alone, each split", 0, len(labels)))
    if both := sorted(people["train"] & people["test"]):
        raise DataError(
            f"{root}/idx, split {split}: identity folder {both[0]} is in training and in test "
            f"({len(both)} such); get the original files"
        )
    return rows


def count_of_splits(what: str, known: int, numbers: dict[int, int]) -> Count:
    """Compare a number of every split; name the splits only where they are not alike."""
    if len(set(numbers.values())) == 1:
        return count(what, known, next(iter(numbers.values())))
    wrong = ", ".join(f"{number} in split {split}" for split, number in numbers.items() if number != known)
    return Count(what, str(known), wrong, False)


def image_path(modality: Modality, identity: int, number: int) -> str:
    """Name an image of a twin."""
    letter = "vt"[modality]
    sex = ("female", "male")[identity % 2]
    return f"{FOLDERS[modality]}/{identity}/{sex}_front_{letter}_{identity:05d}_{number + 1}.bmp"


def plan_twin(identities: int, images: int, seed: int) -> Plan:
    """Plan a twin: ten random halvings into training and test identities."""
    if identities % 2:
        raise DataError(f"{identities} identities: RegDB's splits are halves, so the number must be even")
    shots = [
        Shot(image_path(modality, identity, number), identity, CAMERAS[modality], bool(modality), number)
        for modality in Modality
        for identity in range(1, identities + 1)
        for number in range(images)
    ]
    texts = {}
    for split in SPLITS:
        order = (generator("regdb split", seed, split).permutation(identities) + 1).tolist()
        half = identities // 2
        for part, ids in (("train", sorted(order[:half])), ("test", sorted(order[half:]))):
            for modality, name in NAMES.items():
                lines = [
                    f"{image_path(modality, identity, number)} {label}\n"
                    for label, identity in enumerate(ids)
                    for number in range(images)
                ]
                texts[f"idx/{part}_{name}_{split}.txt"] = "".join(lines)
    return Plan(shots, texts)


class RegDBData(Dataset):
    """RegDB: 412 people before one visible and one thermal camera, ten halvings into training and test."""

    name = "regdb"
    summary = "RegDB: one visible and one thermal camera, ten splits"
    landmarks = "Visible, Thermal and idx"
    tree = TREE
    image_folders = tuple(FOLDERS.values())
    list_folders = ("idx",)
    suffix = ".bmp"
    other_suffixes = (".jpg", ".jpeg", ".png")
    splits = tuple(SPLITS)
    split_is_trial = True
    n_trials = len(SPLITS)
    headline = Headline("regdb", "visible-to-thermal")
    twin = Twin(120, 10, plan_twin, lambda seed: plan_twin(2 * IDENTITIES, IMAGES_A_PERSON, seed))

    def recognises(self, root: Path) -> bool:
        """Look for the three folders."""
        return all((root / name).is_dir() for name in (*self.list_folders, *self.image_folders))

    def counts(self, root: Path) -> list[Count]:
        """Images and identities of every split; a leak between training and test is an error."""
        numbers: dict[tuple[str, int], dict[int, int]] = {}
        for split in self.splits:
            for what, known, number in count_split(root, split):
                numbers.setdefault((what, known), {})[split] = number
        return [count_of_splits(what, known, by_split) for (what, known), by_split in numbers.items()]

    def training(self, root: Path, split: int, *, allow_partial: bool = False) -> LabelledImages:
        """Training images of one split, visible first, then infrared, in file order."""
        visible, thermal = (read_index(root, "train", m, split) for m in Modality)
        check_sides(root, split, visible, thermal, allow_partial)
        trained = folders(visible) | folders(thermal)
        tested = {name for m in Modality for name in folders(read_index(root, "test", m, split))}
        if both := sorted(trained & tested):
            raise DataError(
                f"{root}/idx: identity folder {both[0]} is in the training and in the test files of "
                f"split {split} ({len(both)} such); the split leaks, get the original files"
            )
        return joined([visible, thermal])


class RegDB(Protocol):
    """RegDB, ten trials, both directions."""

    id = "regdb"
    version = "1"
    dataset = RegDBData()
    summary = "RegDB: ten trials, each trained on its own split; visible to thermal and thermal to visible"

    def trials(self, root: Path, split: int, *, allow_partial: bool = False) -> list[Trial]:
        """Both directions of the split's own trial; no other trial may be tested with its weights."""
        visible, thermal = (read_index(root, "test", m, split) for m in Modality)
        check_sides(root, split, visible, thermal, allow_partial)
        return [
            Trial("visible-to-thermal", split, visible, thermal, "whole split"),
            Trial("thermal-to-visible", split, thermal, visible, "whole split"),
        ]

    def score(
        self,
        distance: Distance,
        query_ids: IntArray,
        gallery_ids: IntArray,
        query_cams: IntArray,
        gallery_cams: IntArray,
    ) -> Scores:
        """CMC over images; nothing is removed."""
        skip = np.zeros((1, len(gallery_ids)), dtype=bool)
        return evaluate(
            distance, query_ids, gallery_ids, skip, np.zeros(len(query_ids), dtype=np.int64), False
        )
