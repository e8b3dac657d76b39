"""The search in tensor operations: blocks of rows against all, then exact re-ranking."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from methods.clustering.first_pass import FirstPass, bfloat16_pass, float32_pass, has_bfloat16_units
from methods.clustering.kernels.interface import SearchResult
from methods.clustering.kernels.torch_blocks import blocks, pair_similarity, row_starts
from methods.clustering.values import Neighbours


def searches(features: Tensor, k: int, group: Tensor, *, fastest: bool) -> Iterator[SearchResult]:
    """Search in bfloat16 where there are units for it, then in float32."""
    group = group.to(features.device)
    if fastest and has_bfloat16_units(features.device):
        yield search_blocks(features, k, group, bfloat16_pass(features))
    yield search_blocks(features, k, group, float32_pass(features))


def search_blocks(features: Tensor, k: int, group: Tensor, first_pass: FirstPass) -> SearchResult:
    """Find lists from blocks of the first pass, and the rows that its bound does not prove."""
    n = len(features)
    lists = Neighbours.empty(n, k, features.device)
    width = min(n, max(k + 64, 2 * k))
    absolute, relative = first_pass.bound
    unproven = []
    for rows in blocks(n, n, features.device, 4096):
        others = all_of_other_groups(group, rows)
        if others is None or len(others) < width:
            near = first_pass.rows[rows] @ first_pass.rows.T
            near[same_group(group, rows)] = -torch.inf
            value, candidate = near.topk(width, dim=1)
        else:
            value, place = (first_pass.rows[rows] @ first_pass.rows[others].T).topk(width, dim=1)
            candidate = others[place]
        kth, last = value[:, k - 1].double(), value[:, -1].double()
        # what lies beyond the last candidate could truly be as near as the k-th
        beyond = last + absolute + relative * last.abs() >= kth - absolute - relative * kth.abs() - 1e-6
        unproven.append(rows[beyond & last.isfinite()] if width < n else rows[:0])
        allowed = value.isfinite()
        rank_candidates(features, rows, row_starts(allowed.sum(1)), candidate[allowed], lists)
    return SearchResult(lists, torch.cat(unproven))


def repair(features: Tensor, group: Tensor, rows: Tensor, lists: Neighbours) -> None:
    """Search some rows in float32 with room for any number of candidates, and re-rank those exactly.

    These are few, so that one function serves every device, main memory included.
    """
    if len(rows) == 0:
        return
    k = lists.index.shape[1]
    group = group.to(features.device)
    slack = 2 * float32_pass(features).bound.absolute + 1e-6
    for part in rows.split(256):
        near = features[part] @ features.T
        near[same_group(group, part)] = -torch.inf
        kth = near.topk(k, dim=1).values[:, -1:]
        row, candidate = ((near > kth - slack) & near.isfinite()).nonzero(as_tuple=True)
        start = torch.searchsorted(row, torch.arange(len(part) + 1, device=row.device))
        rank_candidates(features, part, start, candidate, lists)


def all_of_other_groups(group: Tensor, rows: Tensor) -> Tensor | None:
    """Return the samples that are not of the rows' group (>= 0); None if the rows have none in common."""
    first = group[rows[0]]
    if bool(first < 0) or bool((group[rows] != first).any()):
        return None
    return (group != first).nonzero().squeeze(1)


def same_group(group: Tensor, rows: Tensor) -> Tensor:
    """Return which pairs of the rows and all samples are of the same group (>= 0): bool tensor (rows, n)."""
    return (group[rows, None] == group[None]) & (group[rows, None] >= 0)


def rank_candidates(
    features: Tensor, rows: Tensor, start: Tensor, candidate: Tensor, lists: Neighbours
) -> None:
    """Write the k best candidates of some rows into `lists`, by (larger exact similarity, smaller index).

    Parameters
    ----------
    rows : int64 tensor (r,)
    start : int64 tensor (r + 1,)
        Row r's candidates are ``candidate[start[r]:start[r + 1]]``.
    """
    k = lists.index.shape[1]
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), start[1:] - start[:-1])
    exact = torch.empty(len(candidate), device=features.device)
    for part in blocks(len(candidate), 4 * features.shape[1], features.device):
        exact[part] = pair_similarity(features, rows[owner[part]], candidate[part])
    # stable sorts from the least to the most important key
    order = torch.argsort(candidate)
    for key in (-exact, owner):
        order = order[torch.argsort(key[order], stable=True)]
    place = torch.arange(len(order), device=rows.device) - start[:-1][owner[order]]
    kept = order[place < k]
    at = (rows[owner[kept]], place[place < k])
    lists.index[at] = candidate[kept]
    lists.similarity[at] = exact[kept]
