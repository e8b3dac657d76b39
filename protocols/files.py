"""What the readers of data sets share: listing image folders, twins, and the messages for what is wrong or odd."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from protocols.base import Count, DataError, differences

MARKER = "SYNTHETIC.json"
"""The file at the root of a synthetic twin."""


class DataWarning(UserWarning):
    """Something on disk is odd but usable."""


class ForeignFileWarning(DataWarning):
    """A file that is no image lies among images."""


class PartialDataWarning(DataWarning):
    """Counts are not the known ones, and the user asked to go on."""


def is_synthetic(root: Path) -> bool:
    """Say whether a root is a twin."""
    return (root / MARKER).is_file()


def unknown_counts(root: Path, dataset: str, text: str, allow_partial: bool) -> None:
    """Refuse counts that are not the known ones, or warn if the user wants partial data.

    A twin has other counts by design, and its rows are marked anyway. The warning is the same for every list of
    a root, so that it is shown once.

    Raises
    ------
    DataError
        With `text`, which says what differs; not if `allow_partial`, and not for a twin.
    """
    if is_synthetic(root):
        return
    if not allow_partial:
        raise DataError(
            f"{text}; restore the missing files, or use --allow-partial-data, which marks every row"
        )
    warnings.warn(
        f"{root}: counts are not the known ones of {dataset}; rows made from it are marked real-partial, "
        f"and `reidbench data check {root}` lists the differences",
        PartialDataWarning,
        stacklevel=4,
    )


def expect(root: Path, dataset: str, counts: Sequence[Count], allow_partial: bool) -> None:
    """Refuse counts that are not as expected, or warn, as :func:`unknown_counts` does."""
    if wrong := differences(counts):
        unknown_counts(root, dataset, f"{root}: {'; '.join(wrong)}", allow_partial)


def images_in(folder: Path, suffix: str) -> list[str]:
    """Return the names of a folder's images, sorted as strings.

    Parameters
    ----------
    folder : Path
    suffix : str
        ``.jpg`` or ``.bmp``, compared without regard to case; other files are left out with a warning.

    Raises
    ------
    DataError
        If a directory lies where images are expected, or there is no image.
    """
    names = []
    for entry in folder.iterdir():
        if entry.is_dir():
            raise DataError(f"{entry} is a folder, but images are expected there; move it away")
        if entry.suffix.lower() == suffix:
            names.append(entry.name)
        else:
            warnings.warn(f"{entry} is not a {suffix} file and is left out", ForeignFileWarning, stacklevel=2)
    if not names:
        raise DataError(f"{folder} holds no {suffix} image; restore its images or remove the folder")
    return sorted(names)


def needed(root: Path, name: str, tree: str) -> Path:
    """Return the path of a file below `root`; if it is not there, the error shows the layout."""
    path = root / name
    if not path.is_file():
        raise wrong_layout(root, name, tree)
    return path


def wrong_layout(root: Path, missing: str, tree: str) -> DataError:
    """Return the error that shows the layout that was looked for."""
    return DataError(f"{root}: {missing} not found. Expected tree:\n{tree}")
