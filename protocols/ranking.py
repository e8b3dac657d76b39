"""The compiled loops of :mod:`protocols.metrics`: ranks of all matches of a query in one pass over its gallery row."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from protocols.base import IntArray

FloatArray = npt.NDArray[np.float64]


@numba.njit(cache=True, parallel=True)
def rank_matches(  # type: ignore[no-untyped-def]
    distance: FloatArray,
    query_code: IntArray,
    gallery_code: IntArray,
    skip: npt.NDArray[np.bool_],
    skip_group: IntArray,
    offsets: IntArray,
    identities: int,
):
    """Return per match its rank, also with ties lost, and per query the identities ahead and a tie flag."""
    hits = np.zeros(offsets[-1], np.int64)
    worst = np.zeros(offsets[-1], np.int64)
    ahead = np.zeros(len(query_code), np.int64)
    tied = np.zeros(len(query_code), np.bool_)
    for q in numba.prange(len(query_code)):
        part = slice(offsets[q], offsets[q + 1])
        if offsets[q] < offsets[q + 1]:
            hidden = skip[skip_group[q]]
            ahead[q], tied[q] = rank_query(
                distance[q], hidden, gallery_code, query_code[q], identities, hits[part], worst[part]
            )
    return hits, worst, ahead, tied


@numba.njit(cache=True)
def rank_query(row, hidden, codes, query_code, identities, hits, worst):  # type: ignore[no-untyped-def]
    """Rank a query's matches into `hits` and `worst`; return identities ahead and whether wrong ones tie."""
    near = nearest(row, hidden, codes, query_code, len(hits))
    before = np.zeros(len(near) + 1, np.int64)
    before_or_tied = np.zeros(len(near) + 1, np.int64)
    # among matches at one distance, those already passed: an image between them beats only the later ones
    passed = np.zeros(len(near) + 1, np.int64)
    counted = np.zeros(identities, np.bool_)
    ahead, tied = 0, False
    below = count_below(near, row)
    for g in range(len(row)):
        if hidden[g]:
            continue
        low = below[g]
        if codes[g] == query_code:
            passed[low] += 1
            continue
        before_or_tied[low] += 1
        if near[low] == row[g]:
            tied = True
            low += passed[low]
        before[low] += 1
        # slot 0 holds what beats the nearest match
        if low == 0 and not counted[codes[g]]:
            counted[codes[g]] = True
            ahead += 1
    hits[:] = np.cumsum(before)[: len(hits)] + np.arange(1, len(hits) + 1)
    worst[:] = np.cumsum(before_or_tied)[: len(hits)] + np.arange(1, len(hits) + 1)
    return ahead, tied


@numba.njit(cache=True)
def nearest(row, hidden, codes, query_code, matches):  # type: ignore[no-untyped-def]
    """Return the sorted distances of a query's matches, filled up with infinity to a power of two."""
    size = 1
    while size <= matches:
        size *= 2
    near = np.full(size, np.inf)
    filled = 0
    for g in range(len(row)):
        if codes[g] == query_code and not hidden[g]:
            near[filled] = row[g]
            filled += 1
    near[:matches].sort()
    return near


@numba.njit(cache=True)
def count_below(near, row):  # type: ignore[no-untyped-def]
    """Count for each value of a row the entries below it, by binary searches that all take a step together.

    A search at a time mispredicts its branches; a step at a time has none, and is vectorised.
    """
    low = np.zeros(len(row), np.int32)
    step = np.int32(len(near) >> 1)
    while step:
        for g in range(len(row)):
            low[g] += step if near[np.uint32(low[g] + step - 1)] < row[g] else np.int32(0)
        step >>= 1
    return low


@numba.njit(cache=True, parallel=True)
def nearest_rows(distance, skip, skip_group, count):  # type: ignore[no-untyped-def]
    """Return rows and distances (q, count) of the nearest images by (distance, index); -1 and infinity beyond."""
    rows = np.full((len(distance), count), -1, np.int64)
    values = np.full((len(distance), count), np.inf)
    for q in numba.prange(len(distance)):
        hidden = skip[skip_group[q]]
        for g in range(distance.shape[1]):
            # most images are farther than the farthest that is kept; equal ones come later in the gallery
            if distance[q, g] >= values[q, count - 1] or hidden[g]:
                continue
            place = count - 1
            while place > 0 and distance[q, g] < values[q, place - 1]:
                values[q, place], rows[q, place] = values[q, place - 1], rows[q, place - 1]
                place -= 1
            values[q, place], rows[q, place] = distance[q, g], g
    return rows, values
