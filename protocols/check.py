"""Looks a data root over: which data set it is, its counts against the known ones, and what is odd in it.

What is known of a data set, its :class:`~protocols.base.Dataset` says; nothing here knows one by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from protocols.base import Count, DataError, Dataset, count, differences
from protocols.files import (
    MARKER,
    ForeignFileWarning,
    files_in,
    is_synthetic,
    odd_image,
    open_image,
    unmarked,
)


@dataclass(frozen=True)
class CheckReport:
    """What a data check found.

    Attributes
    ----------
    dataset : Dataset
    synthetic : bool
    rows : list of Count
        Counts; on a twin, those that its own generation promised.
    problems : list of str
        Unreadable images and byte-identical duplicates; one line each. A foreign file is only warned of.
    """

    dataset: Dataset
    synthetic: bool
    rows: list[Count]
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
        raise DataError(
            "; ".join(differences(self.rows) + self.problems)
            + "; restore the missing files, or use --allow-partial-data, which marks every row"
        )


def dataset_at(root: Path, known: Sequence[Dataset]) -> Dataset:
    """Say which of the known data sets lies at a root.

    Raises
    ------
    DataError
        If none does; says what was looked for and shows the trees.
    """
    for dataset in known:
        if dataset.recognises(root):
            return dataset
    trees = "\n".join(f"{dataset.name}:\n{dataset.tree}" for dataset in known)
    landmarks = ", or for ".join(dataset.landmarks for dataset in known)
    what = "is no data root" if root.is_dir() else "does not exist or is not a folder"
    exports = sorted(path.name for path in root.glob("*.npy")) if root.is_dir() else []
    if exports:
        what += (
            f" (arrays as {exports[0]} are exports of resized images: they lack cameras, file names and the test "
            "images, which the protocols need; get the original images)"
        )
    raise DataError(f"{root} {what}: looked for {landmarks}. Expected trees:\n{trees}")


def files_below(root: Path, tops: Sequence[str]) -> Iterator[Path]:
    """Yield every file below the top folders, sorted, but for what systems leave; links are followed."""
    for top in tops:
        if (root / top).is_dir():
            yield from sorted(files_in(root / top))


def digest_file(path: Path) -> str:
    """Digest a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths: Sequence[Path]) -> list[str]:
    """Digest many files; reading releases the interpreter lock, so threads help."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(digest_file, paths))


def fingerprint(root: Path, dataset: Dataset) -> str:
    """Return the SHA-256 over sorted relative paths and contents of images and split files.

    Raises
    ------
    DataError
        If an image is of a twin, and the root is not said to be one.
    """
    paths = list(files_below(root, dataset.image_folders + dataset.list_folders))
    if said := unmarked(root, paths):
        raise DataError(said)
    whole = hashlib.sha256()
    for path, digest in zip(paths, digests(paths), strict=True):
        whole.update(os.fsencode(path.relative_to(root)) + f" {digest}\n".encode())
    return whole.hexdigest()


def unreadable(path: Path) -> str:
    """Decode an image; return what is wrong with it, or nothing."""
    try:
        with open_image(path) as image:
            image.load()
            odd = odd_image(image)
    except Exception as error:  # decoders raise anything on damaged files
        return f"unreadable image {path}: {error}"
    return f"unusable image {path}: {odd}" if odd else ""


def check(root: Path, dataset: Dataset, *, images: bool = True) -> CheckReport:
    """Check a data root.

    Parameters
    ----------
    root : Path
    dataset : Dataset
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
        rows = dataset.counts(root)
    if synthetic and not all(row.ok for row in rows):
        rows = promised_rows(root, dataset)
    problems = list(odd_files(root, dataset)) if images else []
    return CheckReport(dataset, synthetic, rows, problems)


def promised_rows(root: Path, dataset: Dataset) -> list[Count]:
    """Compare a twin with the counts that its generation wrote down."""
    try:
        promised = dict(json.loads((root / MARKER).read_text(encoding="utf-8"))["counts"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{root / MARKER} is damaged ({error}); make the twin again") from error
    numbers = {
        top: sum(is_image(dataset, path) for path in files_below(root, (top,)))
        for top in dataset.image_folders
    }
    return [count(f"images below {top}", promised.get(top, 0), number) for top, number in numbers.items()]


def is_image(dataset: Dataset, path: Path) -> bool:
    """Say whether a file's name is that of an image of the data set."""
    return path.suffix.lower() in (dataset.suffix, *dataset.other_suffixes)


def odd_files(root: Path, dataset: Dataset) -> Iterator[str]:
    """Yield a line for every unreadable or duplicate image; warn of every foreign file."""
    paths = list(files_below(root, dataset.image_folders))
    for path in paths:
        if not is_image(dataset, path):
            warnings.warn(f"foreign file {path} is ignored", ForeignFileWarning, stacklevel=2)
    images = [path for path in paths if is_image(dataset, path)]
    if said := unmarked(root, images):
        yield said
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield from filter(None, pool.map(unreadable, images))
    for group in dataset.duplicate_groups():
        yield from duplicates([path for path in images if path.relative_to(root).parts[0] in group])


def duplicates(paths: Sequence[Path]) -> Iterator[str]:
    """Yield a line for every file with the same bytes as one before."""
    first: dict[str, Path] = {}
    for path, digest in zip(paths, digests(paths), strict=True):
        if digest in first:
            yield f"{path} has the same bytes as {first[digest]}"
        first.setdefault(digest, path)
