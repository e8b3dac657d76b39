"""Arrays out of ``.npz`` files that may come from anybody: nothing is unpickled, and no header is believed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from results.errors import ResultsError

__all__ = ["member", "read_npz"]

BOMB_BYTES, BOMB_RATIO = 2**28, 100
"""Arrays above that size that are packed into less than that part of it are refused: no numbers of anybody are."""
HEADERS = {b"\x01\x00": np.lib.format.read_array_header_1_0}
"""Readers of the headers of ``.npy`` by version; later ones are alike."""


def member(loaded: np.lib.npyio.NpzFile, key: str) -> npt.NDArray[Any]:
    """Read an array of an archive; one whose header promises more than the archive holds is refused before.

    Raises
    ------
    ValueError
        If it is no array, or its header lies. Damaged archives make NumPy and zipfile raise other errors as well.
    """
    archive = loaded.zip
    assert archive is not None
    name = key if key in archive.namelist() else f"{key}.npy"
    with archive.open(name) as file:
        if file.read(6) == b"\x93NUMPY":
            shape, _, dtype = HEADERS.get(file.read(2), np.lib.format.read_array_header_2_0)(file)
            promised, there = math.prod(shape) * dtype.itemsize, archive.getinfo(name).file_size
            if promised > there and not dtype.hasobject:
                raise ValueError(f"its header promises {promised} bytes, {there} are there")
            packed = archive.getinfo(name).compress_size
            if there > BOMB_BYTES and there > BOMB_RATIO * packed:
                raise ValueError(f"{packed} bytes unpack to {there}; save it with numpy.savez, uncompressed")
    array = loaded[key]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key!a} is no array")
    return array


def read_npz(file: Path | IO[bytes], name: str, wanted: Callable[[str], bool], limit: int) -> dict[str, Any]:
    """Read the wanted arrays of a file.

    Parameters
    ----------
    name : str
        How errors name the file.
    limit : int
        Bytes that all arrays together may have.

    Raises
    ------
    ResultsError
        If it is no such file, is damaged, or holds more.
    """
    try:
        with np.load(file, allow_pickle=False) as loaded:
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            assert loaded.zip is not None
            size = sum(entry.file_size for entry in loaded.zip.infolist())
            if size > limit:
                raise ValueError(f"it unpacks to {size} bytes, more than the {limit} that are allowed")
            return {key: member(loaded, key) for key in loaded.files if wanted(key)}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, NotImplementedError) as error:
        raise ResultsError(f"{name} is not a readable array file: {error}") from error
