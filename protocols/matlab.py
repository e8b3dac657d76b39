"""Reads arrays and cells of MATLAB files of version 5 to 7 (``save -v7``, ``scipy.io.savemat``).

A damaged file gives an error and nothing else: every length is compared with what is there before it is used.
The format is the one that MathWorks describes in "MAT-File Format", chapter 1 (level 5).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocols.base import DataError

__all__ = ["read_matlab"]

HEADER = 128
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of numbers in a data element."""
MATRIX, COMPRESSED = 14, 15
CELL, NUMERIC = 1, range(6, 16)
"""Classes of arrays that are read; 2 to 5 are structures, objects, texts and sparse matrices."""
COMPLEX = 0x800
MAX_BYTES = 2**29
"""Of a variable, after decompression."""
MAX_DEPTH = 8
"""Of cells in cells."""


class Element(NamedTuple):
    """A data element: its type and its bytes."""

    kind: int
    data: memoryview


def read_matlab(path: Path, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Read the variables of those names, as far as the file has them.

    Returns
    -------
    dict of str to array
        Matrices have the type of number they are stored in, cells are arrays of objects.

    Raises
    ------
    DataError
        If it is no such file, damaged, or a wanted variable is neither a matrix nor a cell; says what it is instead.
    """
    raw = path.read_bytes()
    if raw[:8] == b"\x89HDF\r\n\x1a\n" or b"MATLAB 7.3" in raw[:32]:
        raise DataError("a MATLAB file of version 7.3; save it with `save -v7`")
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128])
    if order is None:
        raise DataError("no MATLAB file of version 5 to 7")
    found = {}
    try:
        for element in elements(memoryview(raw)[HEADER:], order):
            matrix = inflated(element, order) if element.kind == COMPRESSED else element
            if matrix.kind == MATRIX:
                name, value = variable(matrix.data, order, wanted)
                if name in wanted:
                    found[name] = value
    except (ValueError, struct.error, zlib.error) as error:
        raise DataError(f"a damaged MATLAB file: {error}") from error
    return found


def elements(data: memoryview, order: str) -> Iterator[Element]:
    """Split bytes into data elements."""
    place = 0
    while place < len(data):
        if len(data) - place < 8:
            raise ValueError("it ends within a tag")
        first, second = struct.unpack_from(f"{order}II", data, place)
        size, kind = first >> 16, first & 0xFFFF
        start = place + 4 if size else place + 8
        if not size:
            kind, size = first, second
        elif size > 4:
            raise ValueError("a small element is larger than four bytes")
        if size > len(data) - start:
            raise ValueError("an element is longer than the file")
        yield Element(kind, data[start : start + size])
        end = start + size
        place = end if kind == COMPRESSED else max(place + 8, end + -end % 8)


def inflated(element: Element, order: str) -> Element:
    """Return the element within a compressed one."""
    stream = zlib.decompressobj()
    data = stream.decompress(element.data, MAX_BYTES)
    if stream.unconsumed_tail:
        raise ValueError(f"a variable has more than {MAX_BYTES // 2**20} MiB")
    if not stream.eof:
        raise ValueError("a compressed variable is cut short")
    return next(elements(memoryview(data), order), Element(0, memoryview(b"")))


def variable(
    data: memoryview, order: str, wanted: Collection[str] | None, depth: int = 0
) -> tuple[str, npt.NDArray[Any]]:
    """Return name and value of a matrix element; an empty value if its name is not wanted (None: all are)."""
    if not len(data):
        return "", np.empty((0, 0))
    parts = list(elements(data, order))
    if len(parts) < 3:
        raise ValueError("a variable lacks its size or its name")
    (flags,) = struct.unpack_from(f"{order}I", parts[0].data)
    shape = tuple(numbers(parts[1], order).tolist())
    name = bytes(parts[2].data).decode("ascii", "replace")
    if wanted is not None and name not in wanted:
        return name, np.empty((0, 0))
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"{name!a} has the size {shape}")
    kind, count = flags & 0xFF, math.prod(shape)
    if kind == CELL:
        return name, cells(parts[3:], order, shape, depth)
    if kind not in NUMERIC or flags & COMPLEX:
        raise ValueError(f"{name!a} is no matrix of real numbers and no cell")
    values = numbers(parts[3], order) if len(parts) > 3 else np.empty(0)
    if len(values) != count:
        raise ValueError(f"{name!a} has {len(values)} numbers for the size {shape}")
    return name, values.reshape(shape, order="F")


def cells(parts: list[Element], order: str, shape: tuple[int, ...], depth: int) -> npt.NDArray[Any]:
    """Return a cell as an array of objects."""
    if depth >= MAX_DEPTH:
        raise ValueError(f"cells lie more than {MAX_DEPTH} deep")
    if len(parts) != math.prod(shape) or any(part.kind != MATRIX for part in parts):
        raise ValueError(f"a cell of the size {shape} holds {len(parts)} values")
    flat = np.empty(len(parts), dtype=object)
    for place, part in enumerate(parts):
        flat[place] = variable(part.data, order, None, depth + 1)[1]
    return flat.reshape(shape, order="F")


def numbers(element: Element, order: str) -> npt.NDArray[Any]:
    """Return the numbers of a data element, in the machine's byte order."""
    if element.kind not in STORED:
        raise ValueError(f"numbers are of the unknown type {element.kind}")
    dtype = np.dtype(STORED[element.kind])
    if len(element.data) % dtype.itemsize:
        raise ValueError("numbers are cut short")
    return np.frombuffer(element.data, f"{order}{STORED[element.kind]}").astype(dtype, copy=False)
