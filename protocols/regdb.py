"""RegDB: ten trials, each trained on its own split and tested in both directions (protocols-spec, 2)."""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePosixPath

import numpy as np

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
from protocols.files import PartialDataWarning, unknown_counts, wrong_layout
from protocols.metrics import evaluate

NAMES = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}
CAMERAS = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
IDENTITIES, IMAGES = 206, 2060
"""Known identities and images per split and modality (protocols-spec 2.2)."""
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
    path = root / "idx" / f"{part}_{NAMES[modality]}_{split}.txt"
    if not path.is_file():
        raise wrong_layout(root, f"idx/{path.name}", TREE)
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path}: empty; expected one image and label a line")
    rows = [parse_line(root, path, number, line) for number, line in enumerate(lines, start=1)]
    n = len(rows)
    images = Images(
        root,
        tuple(name for name, _ in rows),
        np.full(n, modality, dtype=np.int64),
        np.full(n, CAMERAS[modality], dtype=np.int64),
    )
    return LabelledImages(images, np.array([label for _, label in rows], dtype=np.int64))


def parse_line(root: Path, path: Path, number: int, line: str) -> tuple[str, int]:
    """Split a line at its last run of blanks into a relative path and a label."""
    match = re.fullmatch(r"(.*\S)[ \t]+(\d{1,18})\s*", line)
    if match is None:
        raise DataError(f"{path}, line {number}: {line!r} is not a path, a blank and an integer label")
    name, label = match.group(1), int(match.group(2))
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(f"{path}, line {number}: {name} leads outside the data root")
    if re.search(r"\s\d+$", name):
        raise DataError(f"{path}, line {number}: {line!r} has an extra field; expected a path and a label")
    if not (root / pure).is_file():
        raise DataError(f"{path}, line {number}: no image {name} below {root}; restore it from the original")
    return name, label


def check_sides(
    root: Path, split: int, visible: LabelledImages, thermal: LabelledImages, allow_partial: bool
) -> None:
    """Compare both modalities of a part with the known counts and with each other."""
    if set(visible.identity.tolist()) != set(thermal.identity.tolist()):
        text = f"{root}, split {split}: the label sets of the two modalities differ"
        if not allow_partial:
            raise DataError(f"{text}; get the original files, or use --allow-partial-data")
        warnings.warn(text, PartialDataWarning, stacklevel=3)
    problems = []
    for name, side in (("visible", visible), ("thermal", thermal)):
        ids = len(np.unique(side.identity))
        if (len(side), ids) != (IMAGES, IDENTITIES):
            problems.append(
                f"{name}: {len(side)} images of {ids} identities (expected {IMAGES} of {IDENTITIES})"
            )
    if problems:
        unknown_counts(root, RegDB.dataset, f"{root}, split {split}: {'; '.join(problems)}", allow_partial)


def folders(side: LabelledImages) -> set[str]:
    """Return the identity folders of a list."""
    return {PurePosixPath(path).parent.name for path in side.images.paths}


class RegDB(Protocol):
    """RegDB, ten trials, both directions."""

    id = "regdb"
    version = "1"
    dataset = "regdb"
    summary = "RegDB: ten trials, each trained on its own split; visible to thermal and thermal to visible"
    splits = tuple(range(1, 11))

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
        images = Images(
            root,
            visible.images.paths + thermal.images.paths,
            np.concatenate([visible.images.modality, thermal.images.modality]),
            np.concatenate([visible.images.camera, thermal.images.camera]),
        )
        return LabelledImages(images, np.concatenate([visible.identity, thermal.identity]))

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
        del query_cams, gallery_cams
        skip = np.zeros((1, len(gallery_ids)), dtype=bool)
        return evaluate(
            distance, query_ids, gallery_ids, skip, np.zeros(len(query_ids), dtype=np.int64), False
        )
