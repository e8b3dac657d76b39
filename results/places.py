"""Where runs lie: directories below folders, and folders within bundles."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from results.bundles import is_bundle, open_bundle
from results.errors import ResultsError
from results.files import Folder


def run_directories(path: Path) -> Sequence[Folder]:
    """Return the run directories at or below a folder, or within a bundle, sorted.

    Raises
    ------
    ResultsError
        If `path` is neither.
    """
    if is_bundle(path):
        return open_bundle(path)
    if not path.is_dir():
        raise ResultsError(
            f"{path} is no folder and no bundle; give run directories, folders that hold some, or .zip"
        )
    return sorted(folders_with("manifest.json", path, ()))


def folders_with(name: str, folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Yield the folders at or below `folder` that hold a file, links to folders followed unless they lead back."""
    place = os.path.realpath(folder)
    if place in above:
        return
    if (folder / name).is_file():
        yield folder
    with os.scandir(folder) as entries:
        below = sorted(entry.name for entry in entries if entry.is_dir())
    for one in below:
        yield from folders_with(name, folder / one, (*above, place))


def directories_below(paths: Iterable[Path]) -> dict[str, Folder]:
    """Return the run directories at or below `paths`, by where they really are: several paths may lead to one."""
    return {os.path.realpath(str(one)): one for path in paths for one in run_directories(path)}
