"""Compiled kernels of the encodings: softmax weights, and mixtures of rows."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from methods.clustering.kernels.numba_arrays import Chunks, Floats, Ints, Longs, Rows, dot, joined, position
from methods.clustering.values import EXPONENTIAL_SCALE, WEIGHT_SCALE

CHUNK = 256
"""Rows that a thread takes at a time."""


@njit(parallel=True, cache=True, nogil=True)
def softmax_weights(
    features: Floats, order: Longs, index: Ints, similarity: Floats, indptr: Longs, members: Ints
) -> Ints:
    """Return integer softmax weights of -(2 - 2 f_i.f_j) over each row's members; f_i is row order[i]."""
    n, k = index.shape
    weight = np.empty(len(members), np.int32)
    for i in prange(n):
        first, last = indptr[i], indptr[i + 1]
        exponential = np.empty(last - first, np.int64)
        total = np.int64(0)
        for t in range(last - first):
            j = members[first + t]
            known = position(j, index[i])
            s = similarity[i, known] if known < k else dot(features[order[i]], features[order[j]])
            exponential[t] = np.int64(np.rint(np.exp(2.0 * np.float64(s) - 2.0) * EXPONENTIAL_SCALE))
            total += exponential[t]
        for t in range(last - first):
            share = np.float64(exponential[t]) / np.float64(total) * WEIGHT_SCALE
            weight[first + t] = np.int32(max(1.0, np.rint(share)))
    return weight


def mix_rows(encoding: Rows, index: Ints, share: Ints, threads: int) -> Rows:
    """Return W V; row i of W holds `share[i, p]` at `index[i, p]`, in units of 1 / WEIGHT_SCALE."""
    return joined(Chunks(*_mixed_chunks(encoding, index, share, threads)))


@njit(cache=True, nogil=True)
def _largest_size(first: int, last: int, indptr: Longs, index: Ints, share: Ints) -> int:
    """Return an upper bound of the entries that rows first..last of W V have."""
    size = 0
    for i in range(first, last):
        for p in range(index.shape[1]):
            if share[i, p] > 0:
                size += indptr[index[i, p] + 1] - indptr[index[i, p]]
    return size


@njit(cache=True, nogil=True)
def _mixed_row(encoding: Rows, near: Ints, share: Ints, total: Longs, indices: Ints, values: Ints) -> int:
    """Write a row of W V into `indices` and `values`, and return its size; `total` (n,) is 0 before and after."""
    size = 0
    for p in range(len(near)):
        w = np.int64(share[p])
        if w > 0:
            j = near[p]
            for t in range(encoding.indptr[j], encoding.indptr[j + 1]):
                m = np.uint32(encoding.indices[t])  # unsigned: no test for a negative index
                # written without asking whether it is new; if it is not, the next one overwrites it
                indices[size] = m
                size += total[m] == 0
                total[m] += w * encoding.values[t]
    for t in range(size):
        m = np.uint32(indices[t])
        values[t] = np.int32((total[m] + (WEIGHT_SCALE >> 1)) >> 30)  # rounded back to the unit of weights
        total[m] = 0
    return size


@njit(parallel=True, cache=True, nogil=True)
def _mixed_chunks(
    encoding: Rows, index: Ints, share: Ints, threads: int
) -> tuple[Longs, list[Ints], list[Ints]]:
    """Return the rows of W V as :class:`Chunks`."""
    n = len(index)
    chunks = (n + CHUNK - 1) // CHUNK
    sizes = np.zeros(n, np.int64)
    indices = [np.empty(0, np.int32) for _ in range(chunks)]
    values = [np.empty(0, np.int32) for _ in range(chunks)]
    for thread in prange(threads):
        total = np.zeros(n, np.int64)
        for c in range(thread, chunks, threads):
            first, last = c * CHUNK, min(n, (c + 1) * CHUNK)
            room = _largest_size(first, last, encoding.indptr, index, share)
            chunk_indices, chunk_values = np.empty(room, np.int32), np.empty(room, np.int32)
            used = 0
            for i in range(first, last):
                sizes[i] = _mixed_row(
                    encoding, index[i], share[i], total, chunk_indices[used:], chunk_values[used:]
                )
                used += sizes[i]
            indices[c] = chunk_indices[:used].copy()
            values[c] = chunk_values[:used].copy()
    return sizes, indices, values
