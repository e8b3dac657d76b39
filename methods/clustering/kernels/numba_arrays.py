"""Array types of the compiled kernels, and the two small functions that several of them share.

Careful with named tuples in a function with ``parallel=True``: numba drops ``tuple.array[i] = x`` as dead code there.
Unpack the array first, or write in a function that is called.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Rows(NamedTuple):
    """Sparse rows as arrays: row i has ``values[indptr[i]:indptr[i + 1]]`` at the samples ``indices[...]``."""

    indptr: Longs
    indices: Ints
    values: Ints


class Lists(NamedTuple):
    """Neighbour lists as arrays (n, k)."""

    ids: Longs
    similarity: Floats


class Chunks(NamedTuple):
    """Sparse rows as threads leave them: the size of every row, and the entries chunk by chunk."""

    sizes: Longs
    indices: list[Ints]
    values: list[Ints]


def row_starts(sizes: Longs) -> Longs:
    """Return where every row starts, and where the last one ends: (n + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def joined(chunks: Chunks) -> Rows:
    """Put the chunks' entries one after the other.

    NumPy allocates the result: it asks the system for huge pages, numba does not.
    """
    return Rows(row_starts(chunks.sizes), np.concatenate(chunks.indices), np.concatenate(chunks.values))


@njit(fastmath=True, cache=True, nogil=True)
def dot(x: Floats, y: Floats) -> np.float32:
    """Return the inner product of two rows, summed in float64 and rounded once to float32."""
    total = 0.0
    for c in range(len(x)):
        total += np.float64(x[c]) * np.float64(y[c])
    return np.float32(total)


@njit(cache=True, nogil=True)
def position(sample: int, ids: Ints) -> int:
    """Return where a sample stands in a list of different ones, the list's length where it does not."""
    at = np.int32(len(ids))
    # no break once it is found: without one, the compiler compares several entries at a time
    for q in range(len(ids)):
        at = min(at, np.int32(q) if ids[q] == sample else np.int32(len(ids)))
    return int(at)
