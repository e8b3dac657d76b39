"""Compiled kernels that collect the candidates of every row's nearest neighbours from blocks of approximations.

Approximate similarities are compared as integers: the bits of a float, with the magnitude bits of negative
numbers inverted, order like the float itself. So one kernel serves bfloat16 (int16) and float32 (int32).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from methods.clustering.first_pass import ErrorBound
from methods.clustering.kernels.numba_arrays import Ints

Keys = NDArray[Any]
"""int16 or int32 bit patterns of bfloat16 or float32 numbers."""

STRIP = 64
"""Numbers tested together before any of them is looked at alone."""
COLUMN_RANGE = 256
"""Columns that one thread takes at a time."""


class Candidates(NamedTuple):
    """Lists of candidates, one for every row.

    Attributes
    ----------
    keys : integer array (n, room)
        Ordered bits of their approximate similarities.
    ids : int32 array (n, room)
    size : int32 array (n,)
        Candidates of a row; -1 where they did not fit.
    cut : integer array (n,)
        No sample that was dropped has a key above it.
    """

    keys: Keys
    ids: Ints
    size: Ints
    cut: Keys


class Block(NamedTuple):
    """Raw bits of the approximate similarities between two ranges of samples, and where these start."""

    raw: Keys
    first_row: int
    first_column: int


def no_candidates(n: int, room: int, dtype: type[np.signedinteger]) -> Candidates:
    """Return empty lists with a place for `room` candidates each."""
    keys, ids = np.empty((n, room), dtype), np.empty((n, room), np.int32)
    return Candidates(keys, ids, np.zeros(n, np.int32), np.full(n, np.iinfo(dtype).min, dtype))


@njit(cache=True, nogil=True)
def value_of(key: int, bits: int) -> np.float32:
    """Return the float whose ordered key of `bits` bits this is."""
    raw = key if key >= 0 else key ^ ((1 << (bits - 1)) - 1)
    cell = np.empty(1, np.int32)
    cell[0] = np.int32(raw << (32 - bits))
    return np.float32(cell.view(np.float32)[0])


@njit(cache=True, nogil=True)
def _key_below(value: float, bits: int) -> int:
    """Return the key of a float at or below `value`: what lies above it is above the key."""
    cell = np.empty(1, np.float32)
    cell[0] = value
    raw = int(cell.view(np.int32)[0]) >> (32 - bits)
    key = raw if raw >= 0 else raw ^ ((1 << (bits - 1)) - 1)
    return max(key - 1, -(1 << (bits - 1)))


@njit(cache=True, nogil=True)
def shrink(keys: Keys, ids: Ints, size: int, k: int, bits: int, bound: ErrorBound) -> tuple[int, int]:
    """Drop candidates that cannot be among the k nearest; return (how many stay, new cut).

    An approximation v is off by at most e(v) = absolute + relative |v|. With T the k-th largest one, k samples
    are truly at T - e(T) or above, and a sample with v <= T - 2 e(T) (1 + 2 relative) is truly at most
    v + e(v), which is less. The last 1e-6 makes it strictly less after rounding to float32, so ties are kept too.
    """
    lowest = np.partition(keys[:size], size - k)[size - k]
    kth = np.float64(value_of(lowest, bits))
    error = bound.absolute + bound.relative * abs(kth)
    cut = _key_below(kth - 2.0 * error * (1.0 + 2.0 * bound.relative) - 1e-6, bits)
    kept = 0
    for t in range(size):
        if keys[t] > cut:
            keys[kept] = keys[t]
            ids[kept] = ids[t]
            kept += 1
    return kept, cut


@njit(cache=True, nogil=True)
def _push(row: int, key: int, sample: int, lists: Candidates, k: int, bits: int, bound: ErrorBound) -> None:
    """Add a candidate to a row's list; a list that stays full after shrinking is given up (size -1)."""
    if lists.size[row] < 0:
        return
    capacity = lists.keys.shape[1]
    if lists.size[row] == capacity:
        kept, new_cut = shrink(lists.keys[row], lists.ids[row], capacity, k, bits, bound)
        lists.size[row] = kept
        lists.cut[row] = new_cut
        if 4 * kept > 3 * capacity:
            lists.size[row] = -1
            lists.cut[row] = (
                1 << (bits - 1)
            ) - 1  # the largest key: nothing is above it, so nobody is pushed again
        if key <= lists.cut[row]:
            return
    lists.keys[row, lists.size[row]] = key
    lists.ids[row, lists.size[row]] = sample
    lists.size[row] += 1


@njit(cache=True, nogil=True)
def _any_above(strip: Keys, limit: Keys) -> bool:
    """Say whether raw bits may lie above their limits; a test of positive limits needs no decoding."""
    hit = np.int16(0)
    # no break: the whole strip is compared at once
    for c in range(len(strip)):
        hit |= np.int16(strip[c] > limit[c]) | np.int16(limit[c] < 0)
    return hit != 0


@njit(cache=True, nogil=True)
def _any_above_one(strip: Keys, limit: int) -> bool:
    """Say whether raw bits lie above one positive limit."""
    hit = np.int16(0)
    for c in range(len(strip)):
        hit |= np.int16(strip[c] > limit)
    return hit != 0


@njit(cache=True, nogil=True)
def _filter_row(
    strip: Keys, i: int, first: int, lists: Candidates, group: Ints, k: int, bound: ErrorBound
) -> None:
    """Push samples first.. with the similarities of `strip` to the list of i."""
    bits = strip.itemsize * 8
    for c in range(len(strip)):
        raw = strip[c]
        key = raw ^ ((raw >> (bits - 1)) & ((1 << (bits - 1)) - 1))
        if key > lists.cut[i] and (group[i] < 0 or group[i] != group[first + c]):
            _push(i, key, first + c, lists, k, bits, bound)


@njit(cache=True, nogil=True)
def _filter_column(
    strip: Keys, i: int, first: int, lists: Candidates, group: Ints, k: int, bound: ErrorBound
) -> None:
    """Push i with the similarities of `strip` to the lists of samples first.. ."""
    bits = strip.itemsize * 8
    for c in range(len(strip)):
        j = first + c
        raw = strip[c]
        key = raw ^ ((raw >> (bits - 1)) & ((1 << (bits - 1)) - 1))
        if key > lists.cut[j] and (group[i] < 0 or group[i] != group[j]):
            _push(j, key, i, lists, k, bits, bound)


@njit(parallel=True, cache=True, nogil=True)
def filter_block(block: Block, lists: Candidates, group: Ints, k: int, bound: ErrorBound) -> None:
    """Push a block's similarities to the lists of its rows and, off the diagonal, of its columns.

    A pair of the same group (>= 0) is left out.
    """
    raw, first_row, first_column = block
    rows, columns = raw.shape
    cut = lists.cut
    for r in prange(rows):
        i = first_row + r
        for begin in range(0, columns, STRIP):
            strip = raw[r, begin : begin + STRIP]
            if cut[i] < 0 or _any_above_one(strip, cut[i]):
                _filter_row(strip, i, first_column + begin, lists, group, k, bound)
    if first_row == first_column:
        return
    # columns once more, in ranges: two threads must not write to one list
    for part in prange((columns + COLUMN_RANGE - 1) // COLUMN_RANGE):
        last = min(columns, (part + 1) * COLUMN_RANGE)
        for r in range(rows):
            for begin in range(part * COLUMN_RANGE, last, STRIP):
                strip = raw[r, begin : min(last, begin + STRIP)]
                limit = cut[first_column + begin : first_column + begin + len(strip)]
                if _any_above(strip, limit):
                    _filter_column(strip, first_row + r, first_column + begin, lists, group, k, bound)
