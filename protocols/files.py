"""What both data sets' readers share: listing image folders, and the message for a wrong layout."""

from __future__ import annotations

import warnings
from pathlib import Path

from protocols.base import DataError


class DataWarning(UserWarning):
    """Something on disk is odd but usable."""


class PartialDataWarning(DataWarning):
    """Counts are not the known ones, and the user asked to go on."""


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
            warnings.warn(f"{entry} is not a {suffix} file and is left out", DataWarning, stacklevel=2)
    if not names:
        raise DataError(f"{folder} holds no {suffix} image; restore its images or remove the folder")
    return sorted(names)


def wrong_layout(root: Path, missing: str, tree: str) -> DataError:
    """Return the error that shows the layout that was looked for."""
    return DataError(f"{root}: {missing} not found. Expected tree:\n{tree}")
