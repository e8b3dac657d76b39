"""Images decoded once a machine: files of resized images that all runs share.

A cache is a folder ``<height>x<width>-<filter>-<key>`` with ``images.npy`` (n, 3, h, w) and ``index.npz``: of each
source file size, times, inode and the SHA-256 of its contents, and of each decoded image a checksum. It is made under
a lock, whole or not at all, and may be deleted at any time. It is made again when a source file has other contents;
contents are only looked at where size, times or inode have moved.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
import torch
from torch import Tensor

from harness.errors import HarnessError, format_error
from harness.inputs.images import ImageFiles, IntArray, UInt8Array
from harness.runs.files import waiting_for, write_atomic
from results.files import new_file

FORMAT = 1
"""Raised when decoding or the files of a cache change."""


class Index(NamedTuple):
    """What a cache knows of its n images.

    Attributes
    ----------
    sources : int64 (n, 4)
        Size, modification and change time in ns, and inode of the files.
    contents : uint8 (n, 32)
        SHA-256 of the files.
    checksums : uint32 (n,)
        CRC-32 of the decoded images.
    """

    sources: IntArray
    contents: UInt8Array
    checksums: npt.NDArray[np.uint32]


class CachedImages:
    """Decoded images in a mapped file; each is checked when it is first read.

    Parameters
    ----------
    folder : Path
    pixels : uint8 array (n, 3, h, w)
        Mapped from the folder's file.
    index : Index
    """

    def __init__(self, folder: Path, pixels: UInt8Array, index: Index) -> None:
        self._folder, self._array, self._index = folder, pixels, index
        self._pixels = torch.from_numpy(pixels)
        self._checked = np.zeros(len(pixels), dtype=np.bool_)

    def take(self, rows: IntArray) -> Tensor:
        """Return images (b, 3, h, w), uint8.

        Raises
        ------
        HarnessError
            If one is not what was written; says what to delete.
        """
        for row in np.unique(rows[~self._checked[rows]]).tolist():
            if checksum(self._array[row]) != self._index.checksums[row]:
                raise HarnessError(
                    f"{self._folder}: image {row} is not what was written; delete this folder, and it is made again"
                )
            self._checked[row] = True
        return self._pixels.index_select(0, torch.from_numpy(rows))


def checksum(image: UInt8Array) -> int:
    """Return the CRC-32 of an image."""
    return zlib.crc32(image.data)


def open_cache(files: ImageFiles, caches: Path, say: Callable[[str], None]) -> CachedImages | None:
    """Open the cache of some files, and make it if there is none; None if it cannot be written.

    Parameters
    ----------
    files : ImageFiles
    caches : Path
        Folder of all caches.
    say : callable
        Told if another process has to finish first.

    Raises
    ------
    HarnessError
        If an image cannot be read.
    """
    folder = caches / name_of(files)
    try:
        caches.mkdir(parents=True, exist_ok=True)
        with waiting_for(caches / f"{folder.name}.lock", say):
            found = existing(files, folder)
            if found is None:
                make(files, folder)
                found = existing(files, folder)
        return found
    except OSError as error:
        said, _ = format_error(error)
        warnings.warn(
            f"decoded images could not be kept in {folder}, and are decoded anew ({said})", stacklevel=2
        )
        return None


def name_of(files: ImageFiles) -> str:
    """Name the cache of some files: by size, filter, and a digest of the list."""
    about = [FORMAT, PIL.__version__, str(files.root.resolve()), files.paths]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    return f"{files.height}x{files.width}-{files.resample.name.lower()}-{key}"


def existing(files: ImageFiles, folder: Path) -> CachedImages | None:
    """Open a cache that is there, whole, and of these very contents."""
    try:
        with np.load(folder / "index.npz", allow_pickle=False) as stored:
            index = Index(*(stored[name] for name in Index._fields))
        pixels = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    if pixels.shape != files.shape or pixels.dtype != np.uint8:
        return None
    sources = states(files)
    moved = np.flatnonzero((sources != index.sources).any(axis=1))
    if len(moved):
        if any(content_of(files.file(row)) != index.contents[row].tobytes() for row in moved.tolist()):
            return None
        index = index._replace(sources=sources)
        write_index(folder, index)
    return CachedImages(folder, pixels, index)


def states(files: ImageFiles) -> IntArray:
    """Return size, times and inode of every file (n, 4); -1 where there is none."""
    found = np.full((len(files), 4), -1, dtype=np.int64)
    for row in range(len(files)):
        try:
            state = files.file(row).stat()
        except OSError:
            continue
        found[row] = state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino & (2**63 - 1)
    return found


def content_of(path: Path) -> bytes:
    """Return the SHA-256 of a file; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def make(files: ImageFiles, folder: Path) -> None:
    """Decode all images into a folder that appears when it is whole."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        sources = states(files)  # before the contents are read
        contents = np.empty((len(files), 32), dtype=np.uint8)
        checksums = np.empty(len(files), dtype=np.uint32)
        # plain writes: a full disk is an error here, but the end of the process in a mapped file
        with new_file(scratch / "images.npy") as write:
            header = io.BytesIO()
            about = {"descr": "|u1", "fortran_order": False, "shape": files.shape}
            np.lib.format.write_array_header_1_0(header, about)
            write(header.getvalue())
            for rows in files.blocks():
                images, contents[rows] = files.decode(rows)
                checksums[rows] = [checksum(image) for image in images]
                write(images.reshape(-1).data)
        write_index(scratch, Index(sources, contents, checksums))
        if folder.exists():
            shutil.rmtree(folder)
        scratch.chmod(0o755)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_index(folder: Path, index: Index) -> None:
    """Write what a cache knows of its images."""
    buffer = io.BytesIO()
    np.savez(buffer, **index._asdict())
    write_atomic(folder / "index.npz", buffer.getvalue())


def size_mib(caches: Path) -> float:
    """Return what all caches below a folder take on disk, in MiB."""
    return sum(path.stat().st_size for path in caches.rglob("*") if path.is_file()) / 2**20
