"""Compiled kernels of the Jaccard distances: which rows of an encoding share how much, and the distance of that.

Rows go to threads in chunks; what a row gives never depends on the chunking. Weights are integers, so the order in
which they are added does not matter either. Hot loops index with unsigned integers, which skips the test for a
negative index, and they do not branch on the data: an entry that may not be needed is written and then overwritten.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from methods.clustering.kernels.numba_arrays import Chunks, Floats, Ints, Longs, Rows, joined
from methods.clustering.values import WEIGHT_SCALE

CHUNK = 256
"""Rows that a thread takes at a time."""


class Columns(NamedTuple):
    """A square matrix by columns.

    Attributes
    ----------
    start : int64 array (n + 1,)
    entries : int64 array (m,)
        An entry's row, ascending in a column, above its weight in the lower 32 bits: both are read at once.
    place : int32 array (m,)
        Of every entry in the order of rows: how many of its column come before it.
    """

    start: Longs
    entries: Longs
    place: Ints


class Scratch(NamedTuple):
    """What a thread works in.

    Attributes
    ----------
    total : int32 array (n,)
        Weight shared with each row so far; 0 between rows.
    weight_of : int32 array (n,)
        A row's weights as a dense array, while candidates are verified; 0 otherwise.
    touched : int32 array (n + 1,)
        Rows with a total. One more than there are rows: a place is written before it is known to count.
    """

    total: Ints
    weight_of: Ints
    touched: Ints


def overlaps(encoding: Rows, min_overlap: int, order: Longs, threads: int) -> Rows:
    """Return the shared weights, sums over l of min(V[i, l], V[j, l]), that reach `min_overlap`.

    Returns
    -------
    Rows
        Symmetric, row r being called order[r], indices ascending.
    """
    columns = by_column(encoding, threads)
    upper = joined(Chunks(*_overlap_chunks(encoding, columns, min_overlap, threads)))
    return Rows(*_renamed(Rows(*_mirrored(upper)), order))


def by_column(matrix: Rows, parts: int) -> Columns:
    """Transpose a square matrix in as many ranges of rows as there are threads.

    Memory is n integers a range. NumPy allocates what is largest: it asks the system for huge pages, numba does not.
    """
    entries, place = np.empty(len(matrix.indices), np.int64), np.empty_like(matrix.indices)
    return Columns(_transpose(matrix, parts, entries, place), entries, place)


@njit(parallel=True, cache=True, nogil=True)
def distance_of(overlap: Ints) -> Floats:
    """Return float32 distances 1 - s / (2 - s), not below 0, of shared weights s."""
    distance = np.empty(len(overlap), np.float32)
    for t in prange(len(overlap)):
        s = overlap[t] / WEIGHT_SCALE
        distance[t] = max(0.0, 1.0 - s / (2.0 - s))
    return distance


@njit(parallel=True, cache=True, nogil=True)
def _transpose(matrix: Rows, parts: int, entries: Longs, place: Ints) -> Longs:
    """Fill the entries and places of :class:`Columns`; return where columns start."""
    indptr, indices, values = matrix
    n = len(indptr) - 1
    # how many entries a range of rows has in every column, and from these how many there are in the ranges before
    before = np.zeros((parts, n), np.int32)
    for part in prange(parts):
        count = before[part]
        for t in range(indptr[part * n // parts], indptr[(part + 1) * n // parts]):
            count[np.uint32(indices[t])] += 1
    start = np.zeros(n + 1, np.int64)
    for m in range(n):
        total = np.int32(0)
        for part in range(parts):
            before[part, m], total = total, total + before[part, m]
        start[m + 1] = start[m] + total
    # the counts go on from there as places of the entries, so ranges are filled in parallel and rows ascend
    for part in prange(parts):
        filled = before[part]
        for i in range(part * n // parts, (part + 1) * n // parts):
            for t in range(indptr[i], indptr[i + 1]):
                column = np.uint32(indices[t])
                place[t] = filled[column]
                filled[column] += 1
                entries[np.uint64(start[column] + place[t])] = (np.int64(i) << 32) | values[t]
    return start


@njit(cache=True, nogil=True)
def _cheapest_first(price: Floats) -> Longs:
    """Return positive numbers in approximately ascending order: bucketed by float exponent, within 25 % of exact.

    The leading bits of a float32 are its logarithm, and counting by these is faster than sorting.
    """
    bucket = price.view(np.int32) >> 21  # sign, exponent and the first two bits of the fraction
    lowest = bucket.min()
    first = np.zeros(bucket.max() - lowest + 2, np.int64)
    for b in bucket:
        first[b - lowest + 1] += 1
    for b in range(1, len(first)):
        first[b] += first[b - 1]
    order = np.empty(len(price), np.int64)
    for q in range(len(price)):
        order[first[bucket[q] - lowest]] = q
        first[bucket[q] - lowest] += 1
    return order


@njit(cache=True, nogil=True)
def _add_column(entries: Longs, weight: int, total: Ints, touched: Ints, size: int) -> int:
    """Add min(weight, the entry's) to the total of every entry's row; return the size of `touched`."""
    for entry in entries:
        j = np.uint64(entry) >> np.uint64(32)
        touched[size] = j
        size += total[j] == 0
        total[j] += min(weight, entry & 0xFFFFFFFF)
    return size


@njit(cache=True, nogil=True)
def _prune(needed: int, total: Ints, touched: Ints) -> int:
    """Move rows whose total is at least `needed` to the front of `touched`, forget the others; return how many stay."""
    size = 0
    for t in range(len(touched)):
        j = np.uint32(touched[t])
        stays = total[j] >= needed
        touched[size] = j
        size += stays
        total[j] = total[j] if stays else 0
    return size


@njit(cache=True, nogil=True)
def _verify(i: int, encoding: Rows, scratch: Scratch, size: int) -> None:
    """Replace the totals of the first `size` touched rows by the whole overlap with row i."""
    indptr, indices, values = encoding
    total, weight_of, touched = scratch
    for t in range(indptr[i], indptr[i + 1]):
        weight_of[np.uint32(indices[t])] = values[t]
    for j in touched[:size]:
        row_indices, row_values = indices[indptr[j] : indptr[j + 1]], values[indptr[j] : indptr[j + 1]]
        overlap = np.int32(0)
        for t in range(len(row_indices)):
            overlap += min(weight_of[np.uint32(row_indices[t])], row_values[t])
        total[j] = overlap
    for t in range(indptr[i], indptr[i + 1]):
        weight_of[np.uint32(indices[t])] = 0


@njit(cache=True, nogil=True)
def _row_overlaps(i: int, encoding: Rows, columns: Columns, min_overlap: int, scratch: Scratch) -> int:
    """Find the j >= i that share at least `min_overlap` with i: return how many rows were touched, totals set.

    Visit columns in order of partners per unit of weight. Stop when the remaining weight cannot lift a new row to
    `min_overlap`; then verify the candidates exactly, or finish the columns if that is cheaper. Rows that are pruned
    may be met again in the columns left: what these weigh is too little for them, so they are sorted out in the end.
    """
    indptr, indices, values = encoding
    start, entries, place = columns
    first, last = indptr[i], indptr[i + 1]
    if first == last:
        return 0
    price = np.empty(last - first, np.float32)
    weight_left = partners_left = 0
    for t in range(first, last):
        # entries above place[t] in the column belong to rows >= i: every pair is met once
        partners = start[indices[t] + 1] - start[indices[t]] - place[t]
        price[t - first] = partners / np.float32(values[t])
        partners_left += partners
        weight_left += values[t]
    order = _cheapest_first(price)
    size = done = 0
    # with less than min_overlap left nobody new gets there; going on to 0.85 of it leaves fewer candidates to verify
    while done < len(order) and 20 * weight_left > 17 * min_overlap:
        t = first + order[done]
        begin, end = start[indices[t]] + place[t], start[indices[t] + 1]
        size = _add_column(entries[begin:end], values[t], scratch.total, scratch.touched, size)
        weight_left -= values[t]
        partners_left -= end - begin
        done += 1
    size = _prune(min_overlap - weight_left, scratch.total, scratch.touched[:size])
    if partners_left < size * len(order):
        for q in range(done, len(order)):
            t = first + order[q]
            begin, end = start[indices[t]] + place[t], start[indices[t] + 1]
            size = _add_column(entries[begin:end], values[t], scratch.total, scratch.touched, size)
    elif partners_left:
        _verify(i, encoding, scratch, size)
    return size


@njit(cache=True, nogil=True)
def _rows_overlaps(
    first: int, last: int, encoding: Rows, columns: Columns, min_overlap: int, scratch: Scratch, sizes: Longs
) -> tuple[Ints, Ints]:
    """Return the partners j >= i of the rows first..last and what they share, and write how many each row has."""
    total, _, touched = scratch
    partner, overlap = np.empty(1024, np.int32), np.empty(1024, np.int32)
    used = 0
    for i in range(first, last):
        n_touched = _row_overlaps(i, encoding, columns, min_overlap, scratch)
        if used + n_touched > len(partner):
            partner = np.concatenate((partner[:used], np.empty(used + n_touched, np.int32)))
            overlap = np.concatenate((overlap[:used], np.empty(used + n_touched, np.int32)))
        before = used
        for r in range(n_touched):
            j = touched[r]
            if total[j] >= min_overlap:
                partner[used] = j
                overlap[used] = total[j]
                used += 1
            total[j] = 0
        sizes[i] = used - before
    return partner[:used].copy(), overlap[:used].copy()


@njit(parallel=True, cache=True, nogil=True)
def _overlap_chunks(
    encoding: Rows, columns: Columns, min_overlap: int, threads: int
) -> tuple[Longs, list[Ints], list[Ints]]:
    """Return the upper triangle of shared weights, diagonal included, as :class:`Chunks`."""
    n = len(encoding.indptr) - 1
    chunks = (n + CHUNK - 1) // CHUNK
    sizes = np.zeros(n, np.int64)
    indices = [np.empty(0, np.int32) for _ in range(chunks)]
    values = [np.empty(0, np.int32) for _ in range(chunks)]
    for thread in prange(threads):
        scratch = Scratch(np.zeros(n, np.int32), np.zeros(n, np.int32), np.empty(n + 1, np.int32))
        # threads take turns at the chunks, for early rows have more partners j >= i
        for c in range(thread, chunks, threads):
            indices[c], values[c] = _rows_overlaps(
                c * CHUNK, min(n, (c + 1) * CHUNK), encoding, columns, min_overlap, scratch, sizes
            )
    return sizes, indices, values


@njit(cache=True, nogil=True)
def _mirrored(upper: Rows) -> tuple[Longs, Ints, Ints]:
    """Return the whole symmetric matrix, indices in any order, from its upper triangle with diagonal."""
    indptr, indices, values = upper
    n = len(indptr) - 1
    start = np.zeros(n + 1, np.int64)
    for i in range(n):
        for t in range(indptr[i], indptr[i + 1]):
            start[i + 1] += 1
            if indices[t] != i:
                start[indices[t] + 1] += 1
    for i in range(n):
        start[i + 1] += start[i]
    fill = start[:-1].copy()
    out_indices = np.empty(start[n], np.int32)
    out_values = np.empty(start[n], np.int32)
    for i in range(n):
        for t in range(indptr[i], indptr[i + 1]):
            j = indices[t]
            out_indices[fill[i]] = j
            out_values[fill[i]] = values[t]
            fill[i] += 1
            if j != i:
                out_indices[fill[j]] = i
                out_values[fill[j]] = values[t]
                fill[j] += 1
    return start, out_indices, out_values


@njit(parallel=True, cache=True, nogil=True)
def _renamed(matrix: Rows, order: Longs) -> tuple[Longs, Ints, Ints]:
    """Return a sparse matrix whose row and column r are called order[r], indices ascending."""
    indptr, indices, values = matrix
    n = len(indptr) - 1
    start = np.zeros(n + 1, np.int64)
    for r in range(n):
        start[order[r] + 1] = indptr[r + 1] - indptr[r]
    for i in range(n):
        start[i + 1] += start[i]
    out_indices, out_values = np.empty_like(indices), np.empty_like(values)
    for r in prange(n):
        # name and value in one integer: sorting it sorts by name, for values are positive
        entry = np.empty(indptr[r + 1] - indptr[r], np.int64)
        for t in range(len(entry)):
            entry[t] = (order[indices[indptr[r] + t]] << 32) | values[indptr[r] + t]
        entry.sort()
        for t in range(len(entry)):
            out_indices[start[order[r]] + t] = entry[t] >> 32
            out_values[start[order[r]] + t] = entry[t] & 0xFFFFFFFF
    return start, out_indices, out_values
