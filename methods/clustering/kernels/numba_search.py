"""Compiled kernels of the search: sifting blocks of approximate similarities, and exact re-ranking.

Approximate similarities are compared as integers: the bits of a float, with the magnitude bits of negative
numbers inverted, order like the float itself. So one kernel serves bfloat16 (int16) and float32 (int32).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from methods.clustering.kernels.numba_kernels import Floats, Ints, dot

Doubles = NDArray[np.float64]
Keys = NDArray[Any]
"""int16 or int32 bit patterns of bfloat16 or float32 numbers."""

STRIP = 64
"""Numbers tested together before any of them is looked at alone."""
RANGE = 256
"""Columns that one thread takes at a time."""


@njit(cache=True, nogil=True)
def _value(key: int, bits: int) -> np.float32:
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
def _shrink(
    keys: Keys, ids: Ints, size: int, k: int, bits: int, slack: float, relative: float
) -> tuple[int, int]:
    """Drop candidates that cannot be among the k nearest; return (how many stay, new cut).

    An approximation v is off by at most e(v) = slack + relative |v|. With T the k-th largest one, k samples
    are truly at T - e(T) or above, and a sample with v <= T - 2 e(T) (1 + 2 relative) is truly at most
    v + e(v), which is less. The last 1e-6 makes it strictly less after rounding to float32, so ties are kept too.
    """
    lowest = np.partition(keys[:size], size - k)[size - k]
    kth = np.float64(_value(lowest, bits))
    error = slack + relative * abs(kth)
    cut = _key_below(kth - 2.0 * error * (1.0 + 2.0 * relative) - 1e-6, bits)
    kept = 0
    for t in range(size):
        if keys[t] > cut:
            keys[kept] = keys[t]
            ids[kept] = ids[t]
            kept += 1
    return kept, cut


@njit(cache=True, nogil=True)
def _offer(
    row: int,
    key: int,
    sample: int,
    keys: Keys,
    ids: Ints,
    size: Ints,
    cut: Keys,
    k: int,
    bits: int,
    bound: Doubles,
) -> None:
    """Add a candidate to a row's list; a list that stays full after shrinking is given up (size -1)."""
    if size[row] < 0:
        return
    capacity = keys.shape[1]
    if size[row] == capacity:
        kept, new_cut = _shrink(keys[row], ids[row], capacity, k, bits, bound[0], bound[1])
        size[row] = kept
        cut[row] = new_cut
        if 4 * kept > 3 * capacity:
            size[row] = -1
            cut[row] = (1 << (bits - 1)) - 1
        if key <= cut[row]:
            return
    keys[row, size[row]] = key
    ids[row, size[row]] = sample
    size[row] += 1


@njit(cache=True, nogil=True)
def _any_above(strip: Keys, limit: Keys) -> bool:
    """Say whether raw bits may lie above their limits; a test of positive limits needs no decoding."""
    hit = np.int16(0)
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
def _sift_row(
    strip: Keys,
    i: int,
    first: int,
    keys: Keys,
    ids: Ints,
    size: Ints,
    cut: Keys,
    group: Ints,
    k: int,
    bound: Doubles,
) -> None:
    """Offer samples first.. with the similarities of `strip` to the list of i."""
    bits = strip.itemsize * 8
    for c in range(len(strip)):
        raw = strip[c]
        key = raw ^ ((raw >> (bits - 1)) & ((1 << (bits - 1)) - 1))
        if key > cut[i] and (group[i] < 0 or group[i] != group[first + c]):
            _offer(i, key, first + c, keys, ids, size, cut, k, bits, bound)


@njit(cache=True, nogil=True)
def _sift_column(
    strip: Keys,
    i: int,
    first: int,
    keys: Keys,
    ids: Ints,
    size: Ints,
    cut: Keys,
    group: Ints,
    k: int,
    bound: Doubles,
) -> None:
    """Offer i with the similarities of `strip` to the lists of samples first.. ."""
    bits = strip.itemsize * 8
    for c in range(len(strip)):
        j = first + c
        raw = strip[c]
        key = raw ^ ((raw >> (bits - 1)) & ((1 << (bits - 1)) - 1))
        if key > cut[j] and (group[i] < 0 or group[i] != group[j]):
            _offer(j, key, i, keys, ids, size, cut, k, bits, bound)


@njit(parallel=True, cache=True, nogil=True)
def sift(
    block: Keys,
    first_row: int,
    first_column: int,
    keys: Keys,
    ids: Ints,
    size: Ints,
    cut: Keys,
    group: Ints,
    k: int,
    bound: Doubles,
) -> None:
    """Offer a block's similarities to the lists of its rows and, off the diagonal, of its columns.

    A pair of the same group (>= 0) is left out.
    """
    rows, columns = block.shape
    for r in prange(rows):
        i = first_row + r
        for begin in range(0, columns, STRIP):
            strip = block[r, begin : begin + STRIP]
            if cut[i] < 0 or _any_above_one(strip, cut[i]):
                _sift_row(strip, i, first_column + begin, keys, ids, size, cut, group, k, bound)
    if first_row == first_column:
        return
    for part in prange((columns + RANGE - 1) // RANGE):
        last = min(columns, (part + 1) * RANGE)
        for r in range(rows):
            for begin in range(part * RANGE, last, STRIP):
                strip = block[r, begin : min(last, begin + STRIP)]
                limit = cut[first_column + begin : first_column + begin + len(strip)]
                if _any_above(strip, limit):
                    _sift_column(
                        strip, first_row + r, first_column + begin, keys, ids, size, cut, group, k, bound
                    )


@njit(parallel=True, cache=True, nogil=True)
def settle(
    features: Floats,
    keys: Keys,
    ids: Ints,
    size: Ints,
    k: int,
    bits: int,
    bound: Doubles,
    index: NDArray[np.int64],
    similarity: Floats,
) -> NDArray[np.bool_]:
    """Re-rank candidates by exact similarity into `index`, `similarity`; return which rows failed.

    A row fails if its list was given up, or if an approximation was farther off than the bound claims.
    """
    n = len(size)
    failed = np.zeros(n, np.bool_)
    for i in prange(n):
        count = size[i]
        if count < 0:
            failed[i] = True
            continue
        if count > k:
            count, _ = _shrink(keys[i], ids[i], count, k, bits, bound[0], bound[1])
        exact = np.empty(count, np.float32)
        for t in range(count):
            exact[t] = dot(features[i], features[ids[i, t]])
            near = np.float64(_value(keys[i, t], bits))
            failed[i] |= not abs(exact[t] - near) <= bound[0] + bound[1] * abs(near)
        rank_row(exact, ids[i, :count], index[i], similarity[i])
    return failed


@njit(parallel=True, cache=True, nogil=True)
def settle_projected(
    features: Floats,
    keys: Keys,
    ids: Ints,
    size: Ints,
    cut: Keys,
    keep: int,
    residual: Doubles,
    slack: float,
    index: NDArray[np.int64],
    similarity: Floats,
) -> NDArray[np.bool_]:
    """Re-rank candidates found by projection; return which rows the k nearest among them do not prove.

    What was dropped has a product of at most the cut. Its similarity is at most that plus slack + |e_i| max |e|,
    which must be below the exact k-th nearest.
    """
    n, k = index.shape
    failed = np.zeros(n, np.bool_)
    longest = residual.max()
    for i in prange(n):
        count, dropped = size[i], int(cut[i])
        if count < 0:
            failed[i] = True
            continue
        if count > keep:
            count, last = _shrink(keys[i], ids[i], count, keep, 32, 0.0, 0.0)
            dropped = max(dropped, last)
        exact = np.empty(count, np.float32)
        for t in range(count):
            exact[t] = dot(features[i], features[ids[i, t]])
            error = abs(exact[t] - np.float64(_value(keys[i, t], 32)))
            failed[i] |= not error <= slack + residual[i] * residual[ids[i, t]] + 1e-6
        rank_row(exact, ids[i, :count], index[i], similarity[i])
        if dropped > -(1 << 31):
            most = np.float64(_value(dropped, 32)) + slack + residual[i] * longest
            failed[i] |= not (count >= k and most < similarity[i, k - 1] - 1e-6)
    return failed


@njit(cache=True, nogil=True)
def rank_row(exact: Floats, ids: Ints, index: NDArray[np.int64], similarity: Floats) -> None:
    """Write the best candidates in order of (larger similarity, smaller index)."""
    by_index = np.argsort(ids)
    order = by_index[np.argsort(-exact[by_index], kind="mergesort")]
    for p in range(min(len(order), len(index))):
        index[p] = ids[order[p]]
        similarity[p] = exact[order[p]]


@njit(parallel=True, cache=True, nogil=True)
def rank_rows(
    features: Floats,
    rows: NDArray[np.int64],
    start: NDArray[np.int64],
    candidates: Ints,
    index: NDArray[np.int64],
    similarity: Floats,
) -> None:
    """Re-rank the candidates of some rows (candidates of rows[r] at start[r]:start[r + 1])."""
    for r in prange(len(rows)):
        i = rows[r]
        mine = candidates[start[r] : start[r + 1]]
        exact = np.empty(len(mine), np.float32)
        for t in range(len(mine)):
            exact[t] = dot(features[i], features[mine[t]])
        rank_row(exact, mine, index[i], similarity[i])
