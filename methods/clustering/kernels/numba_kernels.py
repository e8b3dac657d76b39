"""Compiled kernels of everything after the search, for arrays in main memory.

Rows are cut into chunks that threads take in parallel; a row's result never depends on the chunking. Sums of
encodings are integers (see :data:`ONE`), so their order does not matter either.

The busiest loops address arrays by unsigned integers, for a signed one might count from the end, which costs a test
each time. And they take no decisions that depend on the data, which a processor cannot foresee: what may turn out not
to count is written where the next entry overwrites it.

The largest arrays are allocated by NumPy outside the kernels: it asks the system for huge pages, numba does not.
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
Transposed = tuple[Longs, Longs, Ints]
"""What :func:`by_column` returns."""
Chunks = tuple[Longs, list[Ints], list[Ints]]
"""Sizes of sparse rows, and the columns and the values of all rows, chunk by chunk."""


def _starts(size: Longs) -> Longs:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])


def _joined(size: Longs, columns: list[Ints], values: list[Ints]) -> tuple[Longs, Ints, Ints]:
    """Put the chunks' entries one after the other: (start, column, value)."""
    return _starts(size), np.concatenate(columns), np.concatenate(values)


@njit(fastmath=True, cache=True, nogil=True)
def dot(x: Floats, y: Floats) -> np.float32:
    """Return the inner product of two rows, summed in float64 and rounded once to float32."""
    total = 0.0
    for c in range(len(x)):
        total += np.float64(x[c]) * np.float64(y[c])
    return np.float32(total)


@njit(cache=True, nogil=True)
def _position(sample: int, ids: Ints) -> int:
    """Return where a sample stands in a list of different ones, the list's length where it does not.

    Without a break in the loop, several entries are compared at a time.
    """
    found = np.int32(len(ids))
    for q in range(len(ids)):
        found = min(found, np.int32(q) if ids[q] == sample else np.int32(len(ids)))
    return int(found)


@njit(parallel=True, cache=True, nogil=True)
def reverse_rank(index: Ints) -> Ints:
    """Return (n, k): the position of i in the list of its p-th neighbour, k where it is absent."""
    n, k = index.shape
    rank = np.full((n, k), k, np.int32)
    for i in prange(n):
        for p in range(k):
            if index[i, p] >= 0:
                rank[i, p] = _position(i, index[index[i, p]])
    return rank


@njit(parallel=True, cache=True, nogil=True)
def half_sets(index: Ints, rank: Ints, half: int) -> tuple[Ints, Ints]:
    """Return the reciprocal sets of the first `half` neighbours: members (n, half) and how many there are (n,)."""
    n = len(index)
    member, size = np.empty((n, half), np.int32), np.zeros(n, np.int32)
    for i in prange(n):
        for q in range(half):
            if rank[i, q] < half:
                member[i, size[i]] = index[i, q]
                size[i] += 1
    return member, size


@njit(cache=True, nogil=True)
def _expanded_row(
    i: int, index: Ints, rank: Ints, half_member: Ints, half_size: Ints, stamp: Ints, out: Ints
) -> int:
    """Write R*(i) into `out`, and return its size; `stamp` (n,) remembers who is in it."""
    k = index.shape[1]
    added, inside = np.int32(2 * i + 1), np.int32(2 * i + 2)
    size = 0
    for p in range(k):
        if rank[i, p] < k:
            stamp[index[i, p]] = inside
            out[size] = index[i, p]
            size += 1
    for r in range(size):
        members = half_member[out[r]][: half_size[out[r]]]
        common = 0
        for t in range(len(members)):
            common += stamp[np.uint32(members[t])] == inside
        if 3 * common > 2 * len(members):
            for t in range(len(members)):
                m = np.uint32(members[t])
                out[size] = m
                size += stamp[m] < added
                stamp[m] = max(stamp[m], added)
    return size


@njit(parallel=True, cache=True, nogil=True)
def _expanded_chunks(
    index: Ints, rank: Ints, half: int, chunk: int, threads: int
) -> tuple[Longs, list[Ints]]:
    n, k = index.shape
    chunks = (n + chunk - 1) // chunk
    half_member, half_size = half_sets(index, rank, half)
    size = np.zeros(n, np.int64)
    parts = [np.empty(0, np.int32) for _ in range(chunks)]
    for thread in prange(threads):
        stamp = np.zeros(n, np.int32)
        rows = np.empty(chunk * k * (half + 1), np.int32)
        for c in range(thread, chunks, threads):
            used = 0
            for i in range(c * chunk, min(n, (c + 1) * chunk)):
                size[i] = _expanded_row(i, index, rank, half_member, half_size, stamp, rows[used:])
                used += size[i]
            parts[c] = rows[:used].copy()
    return size, parts


def expanded_sets(index: Ints, rank: Ints, half: int, chunk: int, threads: int) -> tuple[Longs, Ints]:
    """Return the expanded k-reciprocal sets R* as (start (n + 1,), members); `rank` is that of reverse_rank."""
    size, members = _expanded_chunks(index, rank, half, chunk, threads)
    return _starts(size), np.concatenate(members)


@njit(parallel=True, cache=True, nogil=True)
def softmax_weights(
    features: Floats, order: Longs, index: Ints, similarity: Floats, start: Longs, member: Ints
) -> Ints:
    """Return fixed-point softmax weights of -(2 - 2 f_i.f_j) over each row's members; f_i is row order[i]."""
    n, k = index.shape
    weight = np.empty(len(member), np.int32)
    for i in prange(n):
        first, last = start[i], start[i + 1]
        value = np.empty(last - first, np.int64)
        total = np.int64(0)
        for t in range(last - first):
            j = member[first + t]
            known = _position(j, index[i])
            s = similarity[i, known] if known < k else dot(features[order[i]], features[order[j]])
            value[t] = np.int64(np.rint(np.exp(2.0 * np.float64(s) - 2.0) * EXPONENTIAL_ONE))
            total += value[t]
        for t in range(last - first):
            weight[first + t] = np.int32(max(1.0, np.rint(np.float64(value[t]) / np.float64(total) * ONE)))
    return weight


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
def _mixed_chunks(
    start: Longs, column: Ints, weight: Ints, index: Ints, share: Ints, chunk: int, threads: int
) -> Chunks:
    n, width = index.shape
    chunks = (n + chunk - 1) // chunk
    size = np.zeros(n, np.int64)
    columns = [np.empty(0, np.int32) for _ in range(chunks)]
    weights = [np.empty(0, np.int32) for _ in range(chunks)]
    for thread in prange(threads):
        total = np.zeros(n, np.int64)
        for c in range(thread, chunks, threads):
            first, last = c * chunk, min(n, (c + 1) * chunk)
            room = _room(first, last, start, index, share)
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
                            m = np.uint32(column[t])
                            touched[used] = m
                            used += total[m] == 0
                            total[m] += w * weight[t]
                for t in range(begin, used):
                    m = np.uint32(touched[t])
                    mixed[t] = np.int32((total[m] + (ONE >> 1)) >> 30)
                    total[m] = 0
                size[i] = used - begin
            columns[c] = touched[:used].copy()
            weights[c] = mixed[:used].copy()
    return size, columns, weights


def mix_rows(
    start: Longs, column: Ints, weight: Ints, index: Ints, share: Ints, chunk: int, threads: int
) -> tuple[Longs, Ints, Ints]:
    """Return W V as (start, column, weight); row i of W holds `share[i, p]` at `index[i, p]`."""
    return _joined(*_mixed_chunks(start, column, weight, index, share, chunk, threads))


@njit(parallel=True, cache=True, nogil=True)
def _transpose(start: Longs, column: Ints, weight: Ints, parts: int, entry: Longs, place: Ints) -> Longs:
    n = len(start) - 1
    before = np.zeros((parts, n), np.int32)
    for part in prange(parts):
        mine = before[part]
        for t in range(start[part * n // parts], start[(part + 1) * n // parts]):
            mine[np.uint32(column[t])] += 1
    begin = np.zeros(n + 1, np.int64)
    for m in range(n):
        total = np.int32(0)
        for part in range(parts):
            before[part, m], total = total, total + before[part, m]
        begin[m + 1] = begin[m] + total
    for part in prange(parts):
        mine = before[part]
        for i in range(part * n // parts, (part + 1) * n // parts):
            for t in range(start[i], start[i + 1]):
                where = np.uint32(column[t])
                place[t] = mine[where]
                mine[where] += 1
                entry[np.uint64(begin[where] + place[t])] = (np.int64(i) << 32) | weight[t]
    return begin


def by_column(start: Longs, column: Ints, weight: Ints, parts: int) -> Transposed:
    """Transpose a square matrix: (column starts, entries, place).

    An entry holds its row, ascending in a column, above its weight in the lower 32 bits, so that both are read
    at once. ``place`` says of every entry of the rows how many of its column come before it. The rows are cut
    into `parts` ranges, one for each thread; memory is n integers a range.
    """
    entry, place = np.empty(len(column), np.int64), np.empty_like(column)
    return _transpose(start, column, weight, parts, entry, place), entry, place


@njit(cache=True, nogil=True)
def _cheapest_first(price: Floats) -> Longs:
    """Return an order of positive numbers, ascending but for those within a quarter of each other.

    The leading bits of a float32 are its logarithm, and counting by these is faster than sorting.
    """
    bits = price.view(np.int32) >> 21
    least = bits.min()
    first = np.zeros(bits.max() - least + 2, np.int64)
    for b in bits:
        first[b - least + 1] += 1
    for b in range(1, len(first)):
        first[b] += first[b - 1]
    order = np.empty(len(price), np.int64)
    for q in range(len(price)):
        order[first[bits[q] - least]] = q
        first[bits[q] - least] += 1
    return order


@njit(cache=True, nogil=True)
def _add_column(entries: Longs, mine: int, total: Ints, touched: Ints, size: int) -> int:
    """Add min(mine, weight) to the total of every entry's row; return the size of `touched`."""
    for entry in entries:
        j = np.uint64(entry) >> np.uint64(32)
        touched[size] = j
        size += total[j] == 0
        total[j] += min(mine, entry & 0xFFFFFFFF)
    return size


@njit(cache=True, nogil=True)
def _hopeful(enough: int, total: Ints, touched: Ints) -> int:
    """Move those that have `enough` to the front of `touched` and forget the others; return how many stay."""
    size = 0
    for t in range(len(touched)):
        j = np.uint32(touched[t])
        stays = total[j] >= enough
        touched[size] = j
        size += stays
        total[j] = total[j] if stays else 0
    return size


@njit(cache=True, nogil=True)
def _confirm(i: int, start: Longs, column: Ints, weight: Ints, total: Ints, own: Ints, touched: Ints) -> None:
    """Replace the sums of those in `touched` by the whole overlap with row i."""
    for t in range(start[i], start[i + 1]):
        own[np.uint32(column[t])] = weight[t]
    for j in touched:
        columns, weights = column[start[j] : start[j + 1]], weight[start[j] : start[j + 1]]
        overlap = np.int32(0)
        for t in range(len(columns)):
            overlap += min(own[np.uint32(columns[t])], weights[t])
        total[j] = overlap
    for t in range(start[i], start[i + 1]):
        own[np.uint32(column[t])] = 0


@njit(cache=True, nogil=True)
def _row_overlaps(
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
    and those who still can are confirmed one by one, unless going through the columns left costs less. Those who
    cannot are forgotten; that they may be met again in the columns left changes nothing, these weigh too little.
    """
    begin, entry, place = transposed
    first, last = start[i], start[i + 1]
    if first == last:
        return 0
    price = np.empty(last - first, np.float32)
    rest = cost = 0
    for t in range(first, last):
        partners = begin[column[t] + 1] - begin[column[t]] - place[t]
        price[t - first] = partners / np.float32(weight[t])
        cost += partners
        rest += weight[t]
    order = _cheapest_first(price)
    size = done = 0
    while done < len(order) and 20 * rest > 17 * least:
        t = first + order[done]
        here, end = begin[column[t]] + place[t], begin[column[t] + 1]
        size = _add_column(entry[here:end], weight[t], total, touched, size)
        rest -= weight[t]
        cost -= end - here
        done += 1
    size = _hopeful(least - rest, total, touched[:size])
    if cost < size * len(order):
        for q in range(done, len(order)):
            t = first + order[q]
            here, end = begin[column[t]] + place[t], begin[column[t] + 1]
            size = _add_column(entry[here:end], weight[t], total, touched, size)
    elif cost:
        _confirm(i, start, column, weight, total, own, touched[:size])
    return size


@njit(parallel=True, cache=True, nogil=True)
def _overlap_chunks(
    start: Longs, column: Ints, weight: Ints, transposed: Transposed, least: int, chunk: int, threads: int
) -> Chunks:
    n = len(start) - 1
    chunks = (n + chunk - 1) // chunk
    size = np.zeros(n, np.int64)
    columns = [np.empty(0, np.int32) for _ in range(chunks)]
    sums = [np.empty(0, np.int32) for _ in range(chunks)]
    for thread in prange(threads):
        total, own = np.zeros(n, np.int32), np.zeros(n, np.int32)
        touched = np.empty(n + 1, np.int32)  # one more: _add_column writes before it knows that it counts
        found, shared = np.empty(1024, np.int32), np.empty(1024, np.int32)
        for c in range(thread, chunks, threads):
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
    return size, columns, sums


def overlaps(
    start: Longs, column: Ints, weight: Ints, transposed: Transposed, least: int, chunk: int, threads: int
) -> tuple[Longs, Ints, Ints]:
    """Return sums over l of min(V[i, l], V[j, l]) for j >= i where they reach `least`, as sparse rows.

    Threads take turns at the chunks of rows, for early rows have more partners.
    """
    return _joined(*_overlap_chunks(start, column, weight, transposed, least, chunk, threads))


@njit(parallel=True, cache=True, nogil=True)
def distance_of(shared: Ints) -> Floats:
    """Return float32 distances 1 - s / (2 - s), not below 0, of fixed-point shared weights s."""
    distance = np.empty(len(shared), np.float32)
    for t in prange(len(shared)):
        s = shared[t] / ONE
        distance[t] = max(0.0, 1.0 - s / (2.0 - s))
    return distance


@njit(cache=True, nogil=True)
def mirrored(start: Longs, column: Ints, value: Ints) -> tuple[Longs, Ints, Ints]:
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
    out_value = np.empty(begin[n], np.int32)
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
def renamed(start: Longs, column: Ints, value: Ints, order: Longs) -> tuple[Longs, Ints, Ints]:
    """Return a sparse matrix whose sample r is called order[r], columns ascending; values are positive."""
    n = len(start) - 1
    begin = np.zeros(n + 1, np.int64)
    for r in range(n):
        begin[order[r] + 1] = start[r + 1] - start[r]
    for i in range(n):
        begin[i + 1] += begin[i]
    out_column, out_value = np.empty_like(column), np.empty_like(value)
    for r in prange(n):
        entry = np.empty(start[r + 1] - start[r], np.int64)
        for t in range(len(entry)):
            entry[t] = (order[column[start[r] + t]] << 32) | value[start[r] + t]
        entry.sort()
        for t in range(len(entry)):
            out_column[begin[order[r]] + t] = entry[t] >> 32
            out_value[begin[order[r]] + t] = entry[t] & 0xFFFFFFFF
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
