"""What the readers of data sets share: listing image folders, twins, and the messages for what is wrong or odd."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from PIL import Image

from protocols.base import Count, DataError, differences

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What an image may be, whatever its file is called. Pillow has a program of the system draw EPS."""
LEFT = ("._",), (".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini")
"""What macOS and Windows leave beside images: beginnings of names, and names; in small letters."""
MARKER = "SYNTHETIC.json"
"""The file at the root of a synthetic twin."""
MARK = b"\nsynthetic twin of reidbench\n"
"""The end of every image of a twin that has the counts of real data; readers of images stop before it."""


class DataWarning(UserWarning):
    """Something on disk is odd but usable."""


class ForeignFileWarning(DataWarning):
    """A file that is no image lies among images."""


class PartialDataWarning(DataWarning):
    """Counts are not the known ones, and the user asked to go on."""


def is_synthetic(root: Path) -> bool:
    """Say whether a root is a twin."""
    return (root / MARKER).is_file()


def is_marked(path: Path) -> bool:
    """Say whether a file is an image of a twin with the counts of real data."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - len(MARK)))
        return file.read() == MARK


def unmarked(root: Path, images: Iterable[Path]) -> str:
    """Say which image at a root is of a twin, though the root is not said to be one; empty if there is none."""
    if is_synthetic(root):
        return ""
    found = next(filter(is_marked, images), None)
    return (
        f"{found} is of a synthetic twin, but {MARKER} is missing from {root}; bring it back" if found else ""
    )


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


def is_leftover(name: str) -> bool:
    """Say whether macOS or Windows leaves a file of that name; the ``._`` files of macOS end in others' suffixes."""
    starts, names = LEFT
    return name.startswith(starts) or name.lower() in names


def files_in(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Yield the files at or below a folder, in no order, but for what systems leave beside them.

    Links to folders are followed, unless they lead back to one above (`above`: their devices and inodes).
    """
    stat = folder.stat()
    place = (stat.st_dev, stat.st_ino)
    if place in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from files_in(folder / entry.name, (*above, place))
            elif entry.is_file() and not is_leftover(entry.name):
                yield folder / entry.name


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
        ``.jpg`` or ``.bmp``, compared without regard to case; other files are left out with a warning, what
        systems leave beside images without one.

    Raises
    ------
    DataError
        If a directory, a pipe or a link to nowhere lies where images are expected, or there is no image.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_leftover(entry.name):
                continue
            if entry.is_dir():
                raise DataError(f"{entry.path} is a folder, but images are expected there; move it away")
            if not entry.is_file():
                what = "a link to nowhere" if entry.is_symlink() else "no regular file"
                raise DataError(f"{entry.path} is {what}, but images are expected there; move it away")
            if Path(entry.name).suffix.lower() == suffix:
                names.append(entry.name)
            else:
                warnings.warn(
                    f"{entry.path} is not a {suffix} file and is left out", ForeignFileWarning, stacklevel=2
                )
    if not names:
        raise DataError(f"{folder} holds no {suffix} image; restore its images or remove the folder")
    return sorted(names)


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """Open an image of one of the :data:`FORMATS`; it is read later, as ``PIL.Image.open`` says."""
    return Image.open(file, formats=FORMATS)


def odd_image(image: Image.Image) -> str:
    """Say why an opened image cannot be used as it is; empty if it can.

    Pixels of 16 or 32 bits would all turn white: which of their numbers is white, only their owner knows.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return f"it has more than 8 bits a pixel (mode {image.mode}), which would all turn white; convert it to 8 bits"
    return ""


def needed(root: Path, name: str, tree: str) -> Path:
    """Return the path of a file below `root`; if it is not there, the error shows the layout."""
    path = root / name
    if not path.is_file():
        raise wrong_layout(root, name, tree)
    return path


def wrong_layout(root: Path, missing: str, tree: str) -> DataError:
    """Return the error that shows the layout that was looked for."""
    return DataError(f"{root}: {missing} not found. Expected tree:\n{tree}")


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, by ``os.open`` and ``os.write`` alone.

    Raises
    ------
    OSError
        If it cannot be written; names `path`, of which a part may be left.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(content)
        while len(rest):  # a system may take some bytes at a time
            rest = rest[os.write(handle, rest) :]
    except OSError as error:  # a full disk does not say what it had no room for
        error.filename = str(path)
        raise
    finally:
        os.close(handle)
