"""Compiled kernels of the k-reciprocal sets."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from methods.clustering.kernels.numba_arrays import Ints, Longs, position, row_starts

CHUNK = 512
"""Rows that a thread takes at a time."""


def expanded_sets(index: Ints, half: int, threads: int) -> tuple[Longs, Ints]:
    """Return the sets R*(i) as (indptr (n + 1,), members); half sets of length 0 leave R(i) as it is.

    Parameters
    ----------
    index : int32 array (n, k)
        Neighbour lists; -1 fills lists that end early.
    half : int
        Length of the lists of which half sets are made.
    """
    rank = reverse_rank(index)
    sizes, members = _expanded_chunks(index, rank, half, threads)
    return row_starts(sizes), np.concatenate(members)


@njit(parallel=True, cache=True, nogil=True)
def reverse_rank(index: Ints) -> Ints:
    """Return (n, k): the position of i in the list of its p-th neighbour, k where it is absent."""
    n, k = index.shape
    rank = np.full((n, k), k, np.int32)
    for i in prange(n):
        for p in range(k):
            if index[i, p] >= 0:
                rank[i, p] = position(i, index[index[i, p]])
    return rank


@njit(parallel=True, cache=True, nogil=True)
def _half_sets(index: Ints, rank: Ints, half: int) -> tuple[Ints, Ints]:
    """Return the reciprocal sets of the first `half` neighbours: members (n, half) and how many there are (n,)."""
    n = len(index)
    members, sizes = np.empty((n, half), np.int32), np.zeros(n, np.int32)
    for i in prange(n):
        for q in range(half):
            if rank[i, q] < half:
                members[i, sizes[i]] = index[i, q]
                sizes[i] += 1
    return members, sizes


@njit(cache=True, nogil=True)
def _expanded_row(
    i: int, index: Ints, rank: Ints, half_sets: tuple[Ints, Ints], stamp: Ints, out: Ints
) -> int:
    """Write R*(i) into `out`, and return its size.

    `stamp` (n,) tells who is in which set without being cleared between rows: row i marks the members of R(i) with
    2 i + 2 and those that were added with 2 i + 1, and whatever is smaller is a mark of an earlier row.
    """
    k = index.shape[1]
    half_members, half_sizes = half_sets
    added, inside = np.int32(2 * i + 1), np.int32(2 * i + 2)
    size = 0
    for p in range(k):
        if rank[i, p] < k:
            stamp[index[i, p]] = inside
            out[size] = index[i, p]
            size += 1
    # the range is fixed here, so half sets of those that are added below are not looked at
    for r in range(size):
        members = half_members[out[r]][: half_sizes[out[r]]]
        common = 0
        for t in range(len(members)):
            common += stamp[np.uint32(members[t])] == inside  # unsigned: no test for a negative index
        if 3 * common > 2 * len(members):
            for t in range(len(members)):
                m = np.uint32(members[t])
                # written without asking whether it is new; if it is not, the next one overwrites it
                out[size] = m
                size += stamp[m] < added
                stamp[m] = max(stamp[m], added)
    return size


@njit(parallel=True, cache=True, nogil=True)
def _expanded_chunks(index: Ints, rank: Ints, half: int, threads: int) -> tuple[Longs, list[Ints]]:
    """Return the size of every R*(i), and the members chunk by chunk."""
    n, k = index.shape
    chunks = (n + CHUNK - 1) // CHUNK
    half_sets = _half_sets(index, rank, half)
    sizes = np.zeros(n, np.int64)
    parts = [np.empty(0, np.int32) for _ in range(chunks)]
    for thread in prange(threads):
        stamp = np.zeros(n, np.int32)
        room = np.empty(CHUNK * k * (half + 1), np.int32)
        for c in range(thread, chunks, threads):
            used = 0
            for i in range(c * CHUNK, min(n, (c + 1) * CHUNK)):
                sizes[i] = _expanded_row(i, index, rank, half_sets, stamp, room[used:])
                used += sizes[i]
            parts[c] = room[:used].copy()
    return sizes, parts
