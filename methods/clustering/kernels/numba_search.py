"""The search in main memory: candidates from blocks of a first pass, then exact re-ranking."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from methods.clustering.first_pass import (
    NO_ERROR,
    ErrorBound,
    FirstPass,
    bfloat16_pass,
    float32_pass,
    has_bfloat16_units,
)
from methods.clustering.kernels.interface import SearchResult
from methods.clustering.kernels.numba_arrays import Bools, Doubles, Floats, Ints, Lists, Longs, dot
from methods.clustering.kernels.numba_candidates import (
    Block,
    Candidates,
    Keys,
    filter_block,
    no_candidates,
    shrink,
    value_of,
)
from methods.clustering.projection import Projection, leading_projection
from methods.clustering.values import Neighbours

BLOCK = 1024
"""Rows and columns of a block of the first pass (its 4 MB of float32 stay in cache)."""
PROJECTED_CANDIDATES = 4
"""Candidates for each of the k neighbours that a search by projections looks at exactly."""


def searches(features: Tensor, k: int, group: Tensor, *, fastest: bool) -> Iterator[SearchResult]:
    """Search by the cheapest first pass: bfloat16, or projections where no units make it cheap; then in float32."""
    features = features.contiguous()
    group = group.to(torch.int32).contiguous()
    if fastest and has_bfloat16_units(features.device):
        yield search_blocks(features, k, group, bfloat16_pass(features))
    elif fastest:
        keep = PROJECTED_CANDIDATES * k
        projection = leading_projection(features, k, keep, group)
        if projection is not None:
            yield search_projected(features, k, group, projection, keep)
    yield search_blocks(features, k, group, float32_pass(features))


def search_blocks(features: Tensor, k: int, group: Tensor, first_pass: FirstPass) -> SearchResult:
    """Find lists from blocks of the first pass, and the rows that its bound does not prove."""
    lists = Neighbours.empty(len(features), k, features.device)
    candidates = collect(first_pass, group, k, max(192, 4 * k))
    failed = rerank(features.numpy(), candidates, _arrays(lists), first_pass.bits, first_pass.bound)
    return SearchResult(lists, torch.from_numpy(failed).nonzero().squeeze(1))


def search_projected(
    features: Tensor, k: int, group: Tensor, projection: Projection, keep: int
) -> SearchResult:
    """Find lists from the `keep` nearest by projection, and the rows that these do not prove."""
    lists = Neighbours.empty(len(features), k, features.device)
    # no bound yet: what is dropped is only remembered, and compared with the exact k-th nearest in the end
    candidates = collect(FirstPass(projection.rows, NO_ERROR), group, keep, 2 * keep)
    failed = rerank_projected(
        features.numpy(), candidates, _arrays(lists), keep, projection.residual, projection.slack
    )
    return SearchResult(lists, torch.from_numpy(failed).nonzero().squeeze(1))


def _arrays(lists: Neighbours) -> Lists:
    return Lists(lists.index.numpy(), lists.similarity.numpy())


def collect(first_pass: FirstPass, group: Tensor, k: int, room: int) -> Candidates:
    """Collect candidates of the k nearest in lists of `room`, from blocks of the first pass, each pair once."""
    n = len(first_pass.rows)
    lists = no_candidates(n, min(n, room), first_pass.key_dtype)
    groups = group.numpy()
    common = [common_group(groups[first : first + BLOCK]) for first in range(0, n, BLOCK)]
    for first_row in range(0, n, BLOCK):
        for first_column in range(first_row, n, BLOCK):
            if common[first_row // BLOCK] == common[first_column // BLOCK] >= 0:
                continue
            rows, columns = slice(first_row, first_row + BLOCK), slice(first_column, first_column + BLOCK)
            block = Block(first_pass.block(rows, columns), first_row, first_column)
            filter_block(block, lists, groups, k, first_pass.bound)
    return lists


def common_group(groups: Ints) -> int:
    """Return the group that all samples of a block belong to, -1 if they have none in common."""
    return int(groups[0]) if bool((groups == groups[0]).all()) else -1


@njit(parallel=True, cache=True, nogil=True)
def rerank(features: Floats, candidates: Candidates, lists: Lists, bits: int, bound: ErrorBound) -> Bools:
    """Re-rank candidates by exact similarity into `lists`; return which rows failed.

    A row fails if its list was given up, or if an approximation was farther off than the bound claims.
    """
    keys, ids, size, _ = candidates
    n, k = lists.ids.shape
    failed = np.zeros(n, np.bool_)
    for i in prange(n):
        count = size[i]
        if count < 0:
            failed[i] = True
            continue
        if count > k:
            count, _ = shrink(keys[i], ids[i], count, k, bits, bound)
        exact = np.empty(count, np.float32)
        for t in range(count):
            exact[t] = dot(features[i], features[ids[i, t]])
            near = np.float64(value_of(keys[i, t], bits))
            # "not <=" instead of ">": a NaN fails too
            failed[i] |= not abs(exact[t] - near) <= bound.absolute + bound.relative * abs(near)
        _write_best(exact, ids[i, :count], lists.ids[i], lists.similarity[i])
    return failed


@njit(parallel=True, cache=True, nogil=True)
def rerank_projected(
    features: Floats,
    candidates: Candidates,
    lists: Lists,
    keep: int,
    residual: Doubles,
    slack: float,
) -> Bools:
    """Re-rank candidates found by projection; return which rows the k nearest among them do not prove.

    What was dropped has a product of at most the cut. Its similarity is at most that plus slack + |e_i| max |e|,
    which must be below the exact k-th nearest.
    """
    keys, ids, size, cut = candidates
    n, k = lists.ids.shape
    failed = np.zeros(n, np.bool_)
    longest = residual.max()
    for i in prange(n):
        count, dropped = size[i], int(cut[i])
        if count < 0:
            failed[i] = True
            continue
        if count > keep:
            count, last = shrink(keys[i], ids[i], count, keep, 32, ErrorBound(0.0, 0.0))
            dropped = max(dropped, last)
        failed[i] = _rank_projected(features, i, keys[i, :count], ids[i, :count], residual, slack, lists)
        if dropped > -(1 << 31):  # the lowest key: nothing was dropped
            largest = np.float64(value_of(dropped, 32)) + slack + residual[i] * longest
            failed[i] |= not (count >= k and largest < lists.similarity[i, k - 1] - 1e-6)
    return failed


@njit(cache=True, nogil=True)
def _rank_projected(
    features: Floats, i: int, keys: Keys, ids: Ints, residual: Doubles, slack: float, lists: Lists
) -> bool:
    """Write the best candidates of row i; return whether a product was farther off than the residuals claim.

    The k largest products are looked at first; one that cannot reach the least of their similarities needs no look.
    """
    count, k = len(ids), lists.ids.shape[1]
    kth = np.partition(keys, count - k)[count - k] if count > k else -(1 << 31)
    exact, looked, seen = np.empty(count, np.float32), np.empty(count, np.int32), 0
    least, failed = np.inf, False
    for first in (True, False):
        for t in range(count):
            if (keys[t] >= kth) != first:
                continue
            product, bound = np.float64(value_of(keys[t], 32)), slack + residual[i] * residual[ids[t]] + 1e-6
            if product + bound < least and not first:
                continue
            exact[seen], looked[seen] = dot(features[i], features[ids[t]]), ids[t]
            # "not <=" instead of ">": a NaN fails too
            failed |= not abs(exact[seen] - product) <= bound
            seen += 1
        least = exact[:seen].min() if seen else least
    _write_best(exact[:seen], looked[:seen], lists.ids[i], lists.similarity[i])
    return failed


@njit(cache=True, nogil=True)
def _write_best(exact: Floats, ids: Ints, index: Longs, similarity: Floats) -> None:
    """Write the best candidates in order of (larger similarity, smaller index)."""
    by_index = np.argsort(ids)
    order = by_index[np.argsort(-exact[by_index], kind="mergesort")]
    for p in range(min(len(order), len(index))):
        index[p] = ids[order[p]]
        similarity[p] = exact[order[p]]
