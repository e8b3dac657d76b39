"""Compiled kernels of everything after the search, for arrays in main memory.

Rows are cut into chunks that threads take in parallel; a row's result never depends on the chunking. Sums of
encodings are integers (see :data:`ONE`), so their order does not matter either.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

ONE = 1 << 30
"""Fixed-point unit of an encoding's weights: integers add up to the same sum in any order, on any device."""
EXPONENTIAL_ONE = 1 << 40
"""Fixed-point unit of the softmax's exponentials, for the same reason."""

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Transposed = tuple[Longs, Ints, Ints, Longs]
"""What :func:`by_column` returns."""


@njit(fastmath=True, cache=True, nogil=True)
def dot(x: Floats, y: Floats) -> np.float32:
    """Return the inner product of two rows, summed in float64 and rounded once to float32."""
    total = 0.0
    for c in range(len(x)):
        total += np.float64(x[c]) * np.float64(y[c])
    return np.float32(total)


@njit(parallel=True, cache=True, nogil=True)
def reverse_rank(index: Ints, order: Longs) -> Ints:
    """Return (n, k): the position of i in the list of its p-th neighbour, k where it is absent.

    `order` is the order in which threads take the samples; neighbours one after the other share cached lists.
    """
    n, k = index.shape
    rank = np.full((n, k), k, np.int32)
    for r in prange(n):
        i = order[r]
        for p in range(k):
            j = index[i, p]
            if j < 0:
                continue
            for q in range(k):
                if index[j, q] == i:
                    rank[i, p] = q
                    break
    return rank


@njit(cache=True, nogil=True)
def _expanded_row(i: int, index: Ints, rank: Ints, half: int, stamp: Ints, out: Ints) -> int:
    """Write R*(i) into `out`, ascending, and return its size; `stamp` (n,) remembers who is in it."""
    k = index.shape[1]
    inside, added = 2 * i + 1, 2 * i + 2
    size = 0
    for p in range(k):
        if rank[i, p] < k:
            stamp[index[i, p]] = inside
            out[size] = index[i, p]
            size += 1
    for r in range(size):
        j = out[r]
        members = common = 0
        for q in range(half):
            if rank[j, q] < half:
                members += 1
                common += stamp[index[j, q]] == inside
        if 3 * common > 2 * members:
            for q in range(half):
                m = index[j, q]
                if rank[j, q] < half and stamp[m] != inside and stamp[m] != added:
                    stamp[m] = added
                    out[size] = m
                    size += 1
    out[:size] = np.sort(out[:size])
    return size


@njit(parallel=True, cache=True, nogil=True)
def expanded_sets(index: Ints, rank: Ints, half: int, order: Longs, chunk: int) -> tuple[Longs, Ints]:
    """Return the expanded k-reciprocal sets R* as (start (n + 1,), members); `order` as in reverse_rank."""
    n, k = index.shape
    chunks = (n + chunk - 1) // chunk
    width = k * (half + 1)
    size = np.zeros(n, np.int64)
    parts = [np.empty(0, np.int32) for _ in range(chunks)]
    for c in prange(chunks):
        first, last = c * chunk, min(n, (c + 1) * chunk)
        stamp = np.zeros(n, np.int32)
        rows = np.empty((last - first) * width, np.int32)
        used = 0
        for r in range(first, last):
            i = order[r]
            size[i] = _expanded_row(i, index, rank, half, stamp, rows[used:])
            used += size[i]
        parts[c] = rows[:used].copy()
    start = np.zeros(n + 1, np.int64)
    start[1:] = np.cumsum(size)
    member = np.empty(start[n], np.int32)
    for c in prange(chunks):
        used = 0
        for r in range(c * chunk, min(n, (c + 1) * chunk)):
            i = order[r]
            member[start[i] : start[i + 1]] = parts[c][used : used + size[i]]
            used += size[i]
    return start, member


@njit(parallel=True, cache=True, nogil=True)
def softmax_weights(
    features: Floats, index: Ints, similarity: Floats, start: Longs, member: Ints, order: Longs
) -> Ints:
    """Return fixed-point softmax weights of -(2 - 2 f_i.f_j) over each row's members; `order` as in reverse_rank."""
    n, k = index.shape
    weight = np.empty(len(member), np.int32)
    for r in prange(n):
        i = order[r]
        first, last = start[i], start[i + 1]
        value = np.empty(last - first, np.int64)
        total = np.int64(0)
        for t in range(last - first):
            j = member[first + t]
            known = -1
            for p in range(k):
                if index[i, p] == j:
                    known = p
                    break
            s = similarity[i, known] if known >= 0 else dot(features[i], features[j])
            value[t] = np.int64(np.rint(np.exp(2.0 * np.float64(s) - 2.0) * EXPONENTIAL_ONE))
            total += value[t]
        for t in range(last - first):
            weight[first + t] = np.int32(max(1.0, np.rint(np.float64(value[t]) / np.float64(total) * ONE)))
    return weight


@njit(parallel=True, cache=True, nogil=True)
def _joined(size: Longs, columns: list[Ints], values: list[Ints], chunk: int) -> tuple[Longs, Ints, Ints]:
    """Put the chunks' entries one after the other: (start, column, value)."""
    n = len(size)
    start = np.zeros(n + 1, np.int64)
    start[1:] = np.cumsum(size)
    column = np.empty(start[n], np.int32)
    value = np.empty(start[n], np.int32)
    for c in prange(len(columns)):
        first = start[c * chunk]
        column[first : first + len(columns[c])] = columns[c]
        value[first : first + len(values[c])] = values[c]
    return start, column, value


@njit(cache=True, nogil=True)
def _room(first: int, last: int, start: Longs, index: Ints, share: Ints) -> int:
    """Return an upper bound of the entries that rows first..last of W V have."""
    room = 0
    for i in range(first, last):
        for p in range(index.shape[1]):
            if share[i, p] > 0:
                room += start[index[i, p] + 1] - start[index[i, p]]
    return room


@njit(parallel=True, cache=True, nogil=True)
def mix_rows(
    start: Longs, column: Ints, weight: Ints, index: Ints, share: Ints, chunk: int
) -> tuple[Longs, Ints, Ints]:
    """Return W V as (start, column, weight); row i of W holds `share[i, p]` at `index[i, p]`."""
    n, width = index.shape
    chunks = (n + chunk - 1) // chunk
    size = np.zeros(n, np.int64)
    columns = [np.empty(0, np.int32) for _ in range(chunks)]
    weights = [np.empty(0, np.int32) for _ in range(chunks)]
    for c in prange(chunks):
        first, last = c * chunk, min(n, (c + 1) * chunk)
        room = _room(first, last, start, index, share)
        total = np.zeros(n, np.int64)
        touched = np.empty(room, np.int32)
        mixed = np.empty(room, np.int32)
        used = 0
        for i in range(first, last):
            begin = used
            for p in range(width):
                w = np.int64(share[i, p])
                if w > 0:
                    j = index[i, p]
                    for t in range(start[j], start[j + 1]):
                        m = column[t]
                        if total[m] == 0:
                            touched[used] = m
                            used += 1
                        total[m] += w * weight[t]
            for t in range(begin, used):
                mixed[t] = np.int32((total[touched[t]] + (ONE >> 1)) >> 30)
                total[touched[t]] = 0
            size[i] = used - begin
        columns[c] = touched[:used].copy()
        weights[c] = mixed[:used].copy()
    return _joined(size, columns, weights, chunk)


@njit(parallel=True, cache=True, nogil=True)
def by_column(
    start: Longs, column: Ints, weight: Ints, n: int, parts: int
) -> tuple[Longs, Ints, Ints, Longs]:
    """Transpose: (column starts, rows ascending, weights) and where each entry went.

    Threads share out the columns in `parts` ranges, and each reads all entries.
    """
    begin = np.zeros(n + 1, np.int64)
    for part in prange(parts):
        first, last = part * n // parts, (part + 1) * n // parts
        for t in range(len(column)):
            if first <= column[t] < last:
                begin[column[t] + 1] += 1
    for m in range(n):
        begin[m + 1] += begin[m]
    fill = begin[:-1].copy()
    row = np.empty(len(column), np.int32)
    value = np.empty(len(column), np.int32)
    place = np.empty(len(column), np.int64)
    for part in prange(parts):
        first, last = part * n // parts, (part + 1) * n // parts
        for i in range(n):
            for t in range(start[i], start[i + 1]):
                if first <= column[t] < last:
                    at = fill[column[t]]
                    fill[column[t]] += 1
                    row[at] = i
                    value[at] = weight[t]
                    place[t] = at
    return begin, row, value, place


@njit(cache=True, nogil=True)
def _add_column(
    t: int, m: int, mine: int, transposed: Transposed, total: Ints, touched: Ints, size: int
) -> int:
    """Add min(mine, V[j, m]) to every j >= i that shares column m; `t` is where i's own entry lies."""
    begin, row, value, place = transposed
    for u in range(place[t], begin[m + 1]):
        j = row[u]
        if total[j] == 0:
            touched[size] = j
            size += 1
        total[j] += min(mine, value[u])
    return size


@njit(cache=True, nogil=True)
def _row_overlaps(  # noqa: C901 - one loop whose two branches share every array
    i: int,
    start: Longs,
    column: Ints,
    weight: Ints,
    transposed: Transposed,
    least: int,
    total: Ints,
    own: Ints,
    touched: Ints,
) -> int:
    """Find the j >= i that share at least `least` with i: leave them in `touched`, their sums in `total`.

    Columns go in order of partners per weight. Once the weight left is below `least`, nobody new can get there,
    and those who still can are confirmed one by one, unless going through the columns left costs less.
    """
    begin, _, _, place = transposed
    first, last = start[i], start[i + 1]
    price = np.empty(last - first, np.float32)
    rest = np.int64(0)
    for t in range(first, last):
        price[t - first] = (begin[column[t] + 1] - place[t]) / np.float32(weight[t])
        rest += weight[t]
        own[column[t]] = weight[t]
    order = np.argsort(price)
    size = done = 0
    while done < len(order) and 10 * rest > 9 * least:
        t = first + order[done]
        size = _add_column(t, column[t], weight[t], transposed, total, touched, size)
        rest -= weight[t]
        done += 1
    hopeful = cost = 0
    for r in range(size):
        hopeful += total[touched[r]] + rest >= least
    for q in range(done, len(order)):
        cost += begin[column[first + order[q]] + 1] - place[first + order[q]]
    if cost < hopeful * len(order):
        for q in range(done, len(order)):
            t = first + order[q]
            size = _add_column(t, column[t], weight[t], transposed, total, touched, size)
    elif cost:
        for r in range(size):
            j = touched[r]
            if total[j] + rest >= least:
                total[j] = 0
                for t in range(start[j], start[j + 1]):
                    total[j] += min(own[column[t]], weight[t])
    for t in range(first, last):
        own[column[t]] = 0
    return size


@njit(parallel=True, cache=True, nogil=True)
def overlaps(
    start: Longs, column: Ints, weight: Ints, transposed: Transposed, least: int, order: Ints, chunk: int
) -> tuple[Longs, Ints, Ints]:
    """Return sums over l of min(V[i, l], V[j, l]) for j >= i where they reach `least`, as sparse rows.

    `order` is the order in which threads take the chunks of rows (early rows have more partners).
    """
    n = len(start) - 1
    size = np.zeros(n, np.int64)
    columns = [np.empty(0, np.int32) for _ in range(len(order))]
    sums = [np.empty(0, np.int32) for _ in range(len(order))]
    for position in prange(len(order)):
        c = order[position]
        total, own = np.zeros(n, np.int32), np.zeros(n, np.int32)
        touched = np.empty(n, np.int32)
        found, shared = np.empty(1024, np.int32), np.empty(1024, np.int32)
        used = 0
        for i in range(c * chunk, min(n, (c + 1) * chunk)):
            partners = _row_overlaps(i, start, column, weight, transposed, least, total, own, touched)
            if used + partners > len(found):
                found = np.concatenate((found[:used], np.empty(used + partners, np.int32)))
                shared = np.concatenate((shared[:used], np.empty(used + partners, np.int32)))
            for r in range(partners):
                j = touched[r]
                if total[j] >= least:
                    found[used] = j
                    shared[used] = total[j]
                    used += 1
                    size[i] += 1
                total[j] = 0
        columns[c] = found[:used].copy()
        sums[c] = shared[:used].copy()
    return _joined(size, columns, sums, chunk)


@njit(cache=True, nogil=True)
def mirrored(start: Longs, column: Ints, value: Floats) -> tuple[Longs, Ints, Floats]:
    """Return the whole symmetric matrix, columns in any order, from its upper triangle with diagonal."""
    n = len(start) - 1
    begin = np.zeros(n + 1, np.int64)
    for i in range(n):
        for t in range(start[i], start[i + 1]):
            begin[i + 1] += 1
            if column[t] != i:
                begin[column[t] + 1] += 1
    for i in range(n):
        begin[i + 1] += begin[i]
    fill = begin[:-1].copy()
    out_column = np.empty(begin[n], np.int32)
    out_value = np.empty(begin[n], np.float32)
    for i in range(n):
        for t in range(start[i], start[i + 1]):
            j = column[t]
            out_column[fill[i]] = j
            out_value[fill[i]] = value[t]
            fill[i] += 1
            if j != i:
                out_column[fill[j]] = i
                out_value[fill[j]] = value[t]
                fill[j] += 1
    return begin, out_column, out_value


@njit(parallel=True, cache=True, nogil=True)
def first_heavy_column(start: Longs, column: Ints, weight: Ints) -> Ints:
    """Return each row's first column among those at least half as heavy as its heaviest, n for an empty row.

    It is a minimum hash of the row: rows that share their weight tend to share it.
    """
    n = len(start) - 1
    first = np.full(n, n, np.int32)
    for i in prange(n):
        heaviest = 0
        for t in range(start[i], start[i + 1]):
            heaviest = max(heaviest, weight[t])
        for t in range(start[i], start[i + 1]):
            if 2 * np.int64(weight[t]) >= heaviest:
                first[i] = min(first[i], column[t])
    return first


@njit(parallel=True, cache=True, nogil=True)
def renumbered(
    start: Longs, column: Ints, weight: Ints, order: Longs, rank: Longs
) -> tuple[Longs, Ints, Ints]:
    """Return the rows in `order`, their columns renumbered by `rank`, the inverse of `order`."""
    n = len(start) - 1
    begin = np.zeros(n + 1, np.int64)
    out_column, out_weight = np.empty_like(column), np.empty_like(weight)
    for r in range(n):
        begin[r + 1] = begin[r] + start[order[r] + 1] - start[order[r]]
    for r in prange(n):
        first, last = start[order[r]], start[order[r] + 1]
        for t in range(first, last):
            out_column[begin[r] + t - first] = rank[column[t]]
        out_weight[begin[r] : begin[r + 1]] = weight[first:last]
    return begin, out_column, out_weight


@njit(parallel=True, cache=True, nogil=True)
def restored(
    start: Longs, column: Ints, value: Floats, order: Longs, rank: Longs, parts: int
) -> tuple[Longs, Ints, Floats]:
    """Undo the renumbering of a symmetric matrix, columns ascending.

    Each row is written as a column, rows in their old order: that sorts every row, for the matrix is symmetric.
    Threads share out the rows in `parts` ranges.
    """
    n = len(start) - 1
    begin = np.zeros(n + 1, np.int64)
    for i in range(n):
        begin[i + 1] = begin[i] + start[rank[i] + 1] - start[rank[i]]
    fill = begin[:-1].copy()
    out_column, out_value = np.empty_like(column), np.empty_like(value)
    for part in prange(parts):
        first, last = part * n // parts, (part + 1) * n // parts
        for i in range(n):
            for t in range(start[rank[i]], start[rank[i] + 1]):
                j = order[column[t]]
                if first <= j < last:
                    out_column[fill[j]] = i
                    out_value[fill[j]] = value[t]
                    fill[j] += 1
    return begin, out_column, out_value


@njit(cache=True, nogil=True)
def density_labels(start: Longs, neighbour: Ints, core: Bools) -> Longs:
    """Number the components of core points by their first member; border points join the lowest number."""
    n = len(core)
    label = np.full(n, -1, np.int64)
    stack = np.empty(n, np.int64)
    found = 0
    for seed in range(n):
        if label[seed] >= 0 or not core[seed]:
            continue
        label[seed] = found
        stack[0] = seed
        height = 1
        while height:
            height -= 1
            i = stack[height]
            for t in range(start[i], start[i + 1]):
                j = neighbour[t]
                if label[j] < 0:
                    label[j] = found
                    if core[j]:
                        stack[height] = j
                        height += 1
        found += 1
    return label
