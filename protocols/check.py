"""Looks a data root over: which data set it is, its counts against the known ones, and what is odd in it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from protocols import regdb, sysu_mm01
from protocols.base import DataError
from protocols.files import MARKER, ForeignFileWarning, is_synthetic

TREES = {"sysu-mm01": sysu_mm01.TREE, "regdb": regdb.TREE}
SUFFIXES = {"sysu-mm01": ".jpg", "regdb": ".bmp"}


@dataclass(frozen=True)
class Row:
    """One thing that was counted."""

    what: str
    expected: str
    found: str
    ok: bool


@dataclass(frozen=True)
class CheckReport:
    """What a data check found.

    Attributes
    ----------
    dataset : str
    synthetic : bool
    rows : list of Row
        Counts; on a twin, those that its own generation promised.
    problems : list of str
        Unreadable images and byte-identical duplicates; one line each. A foreign file is only warned of.
    """

    dataset: str
    synthetic: bool
    rows: list[Row]
    problems: list[str]

    @property
    def counts_ok(self) -> bool:
        """Whether every count is the known one."""
        return all(row.ok for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.counts_ok and not self.problems

    def refuse(self) -> None:
        """Raise the error that lists what is wrong."""
        wrong = [f"{row.what}: expected {row.expected}, found {row.found}" for row in self.rows if not row.ok]
        raise DataError(
            "; ".join(wrong + self.problems)
            + "; restore the missing files, or use --allow-partial-data, which marks every row"
        )


def dataset_at(root: Path) -> str:
    """Say which data set lies at a root.

    Raises
    ------
    DataError
        If there is none; says what was looked for and shows both trees.
    """
    if (root / "exp").is_dir() and any((root / f"cam{c}").is_dir() for c in range(1, 7)):
        return "sysu-mm01"
    if (root / "idx").is_dir() and (root / "Visible").is_dir() and (root / "Thermal").is_dir():
        return "regdb"
    trees = "\n".join(f"{name}:\n{tree}" for name, tree in TREES.items())
    what = "is no data root" if root.is_dir() else "does not exist or is not a folder"
    raise DataError(
        f"{root} {what}: looked for cam1 .. cam6 and exp, or for Visible, Thermal and idx. "
        f"Expected trees:\n{trees}"
    )


def image_folders(dataset: str) -> tuple[str, ...]:
    """Return the top folders that hold images."""
    return tuple(f"cam{c}" for c in range(1, 7)) if dataset == "sysu-mm01" else ("Visible", "Thermal")


def files_below(root: Path, tops: Sequence[str]) -> Iterator[Path]:
    """Yield every file below the top folders, sorted."""
    for top in tops:
        yield from sorted(path for path in (root / top).rglob("*") if path.is_file())


def digest_file(path: Path) -> str:
    """Digest a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths: Sequence[Path]) -> list[str]:
    """Digest many files; reading releases the interpreter lock, so threads help."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(digest_file, paths))


def fingerprint(root: Path, dataset: str) -> str:
    """Return the SHA-256 over sorted relative paths and contents of images and split files."""
    lists = ("exp",) if dataset == "sysu-mm01" else ("idx",)
    paths = list(files_below(root, image_folders(dataset) + lists))
    whole = hashlib.sha256()
    for path, digest in zip(paths, digests(paths), strict=True):
        whole.update(f"{path.relative_to(root).as_posix()} {digest}\n".encode())
    return whole.hexdigest()


def unreadable(path: Path) -> str:
    """Decode an image; return what is wrong with it, or nothing."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        return f"unreadable image {path}: {error}"
    return ""


def check(root: Path, dataset: str, *, images: bool = True) -> CheckReport:
    """Check a data root.

    Parameters
    ----------
    root : Path
    dataset : str
        As :func:`dataset_at` says.
    images : bool
        Open every image and compare contents too; otherwise only lists and counts.

    Raises
    ------
    DataError
        If split files are malformed, or identities leak between splits.
    """
    synthetic = is_synthetic(root)
    with warnings.catch_warnings():
        if images:  # all foreign files are named below
            warnings.simplefilter("ignore", ForeignFileWarning)
        rows = sysu_rows(root) if dataset == "sysu-mm01" else regdb_rows(root)
    if synthetic and not all(row.ok for row in rows):
        rows = promised_rows(root, dataset)
    problems = list(odd_files(root, dataset)) if images else []
    return CheckReport(dataset, synthetic, rows, problems)


def count_row(what: str, expected: object, found: object) -> Row:
    """Compare a count."""
    return Row(what, str(expected), str(found), expected == found)


def sysu_rows(root: Path) -> list[Row]:
    """Count SYSU-MM01's identities, and its images by camera."""
    ids = sysu_mm01.read_splits(root)
    if (root / sysu_mm01.PERMUTATIONS).is_file():
        sysu_mm01.read_permutations(root)
    rows = []
    for part, chosen, known, counts in (
        ("training", ids["train"] + ids["val"], sysu_mm01.TRAIN_IDENTITIES, sysu_mm01.TRAIN_COUNTS),
        ("test", ids["test"], sysu_mm01.TEST_IDENTITIES, sysu_mm01.TEST_COUNTS),
    ):
        rows.append(count_row(f"{part} identities", known, len(chosen)))
        for camera, count in counts.items():
            found = [len(sysu_mm01.folder_images(root, camera, identity)) for identity in chosen]
            rows.append(count_row(f"{part} images, camera {camera}", count, sum(found)))
            if part == "test" and (seen := sysu_mm01.GALLERY_IDENTITIES.get(camera)):
                rows.append(count_row(f"test identities, camera {camera}", seen, np.count_nonzero(found)))
    return rows


def regdb_rows(root: Path) -> list[Row]:
    """Count RegDB's identities and images over all splits; a leak between training and test is an error."""
    found: dict[tuple[str, int], dict[int, int]] = {}
    for split in regdb.RegDB.splits:
        folders: dict[str, set[str]] = {}
        for part in ("train", "test"):
            labels: set[int] = set()
            for modality, name in regdb.NAMES.items():
                side = regdb.read_index(root, part, modality, split)
                folders[part] = folders.get(part, set()) | regdb.folders(side)
                labels ^= set(side.identity.tolist())
                for what, known, count in (
                    (f"{part} {name} images", regdb.IMAGES, len(side)),
                    (f"{part} {name} identities", regdb.IDENTITIES, len(np.unique(side.identity))),
                ):
                    found.setdefault((f"{what}, each split", known), {})[split] = count
            found.setdefault((f"{part} labels of one modality alone, each split", 0), {})[split] = len(labels)
        if both := sorted(folders["train"] & folders["test"]):
            raise DataError(
                f"{root}/idx, split {split}: identity folder {both[0]} is in training and in test "
                f"({len(both)} such); get the original files"
            )
    return [splits_row(what, known, counts) for (what, known), counts in found.items()]


def splits_row(what: str, known: int, counts: dict[int, int]) -> Row:
    """Compare a count of every split; name the splits only where they are not alike."""
    if len(set(counts.values())) == 1:
        return count_row(what, known, counts[min(counts)])
    wrong = ", ".join(f"{count} in split {split}" for split, count in counts.items() if count != known)
    return Row(what, str(known), wrong, False)


def promised_rows(root: Path, dataset: str) -> list[Row]:
    """Compare a twin with the counts that its generation wrote down."""
    try:
        counts = dict(json.loads((root / MARKER).read_text(encoding="utf-8"))["counts"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{root / MARKER} is damaged ({error}); make the twin again") from error
    found = {
        top: sum(map(partial(is_image, dataset), files_below(root, (top,)))) for top in image_folders(dataset)
    }
    return [count_row(f"images below {top}", counts.get(top, 0), n) for top, n in found.items()]


def is_image(dataset: str, path: Path) -> bool:
    """Say whether a file's name is that of an image of the data set."""
    return path.suffix.lower() == SUFFIXES[dataset]


def odd_files(root: Path, dataset: str) -> Iterator[str]:
    """Yield a line for every unreadable or duplicate image; warn of every foreign file."""
    paths = list(files_below(root, image_folders(dataset)))
    for path in paths:
        if not is_image(dataset, path):
            warnings.warn(f"foreign file {path} is ignored", ForeignFileWarning, stacklevel=2)
    good = [path for path in paths if is_image(dataset, path)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield from filter(None, pool.map(unreadable, good))
    seen: dict[str, Path] = {}
    for path, digest in zip(good, digests(good), strict=True):
        if digest in seen:
            yield f"{path} has the same bytes as {seen[digest]}"
        seen.setdefault(digest, path)
