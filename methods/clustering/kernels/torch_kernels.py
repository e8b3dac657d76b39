"""The stages after the search in tensor operations, for any device; the same results as :mod:`.compiled`.

Sums are over integers, so the order in which a device adds does not matter. Work goes in blocks of rows:
memory stays linear in the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from methods.clustering.first_pass import FirstPass
from methods.clustering.kernels.numba_kernels import EXPONENTIAL_ONE, ONE

BLOCK = 1 << 25
"""Largest number of elements of a block's temporary."""


def _blocks(n: int, per_row: int, most: int = 1 << 14) -> Iterator[Tensor]:
    size = max(1, min(most, BLOCK // max(1, per_row)))
    for first in range(0, n, size):
        yield torch.arange(first, min(n, first + size))


def _starts(size: Tensor) -> Tensor:
    return torch.cat([size.new_zeros(1), size.cumsum(0)])


def _entries(start: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for the sparse rows listed, which of them each entry belongs to, and where the entry lies."""
    size = start[rows + 1] - start[rows]
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), size)
    first = torch.repeat_interleave(size.cumsum(0) - size, size)
    return owner, start[rows][owner] + torch.arange(len(owner), device=rows.device) - first


def reverse_rank(index: Tensor) -> Tensor:
    """Return (n, k): the position of i in the list of its p-th neighbour, k where it is absent."""
    n, k = index.shape
    rank = torch.full_like(index, k)
    for cpu_rows in _blocks(n, k * k):
        rows = cpu_rows.to(index.device)
        near = index[rows]
        same = index[near.clamp(min=0)] == rows[:, None, None]
        found = same.any(2) & (near >= 0)
        rank[rows] = torch.where(found, same.to(torch.uint8).argmax(2), k).to(rank.dtype)
    return rank


def expanded_sets(index: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Return the expanded k-reciprocal sets as (start (n + 1,), members), ascending within a row."""
    n, k = index.shape
    rank = reverse_rank(index)
    half_list, in_half = index[:, :half], rank[:, :half] < half
    sizes, members = [], []
    for cpu_rows in _blocks(n, 4 * k * (half + 1)):
        rows = cpu_rows.to(index.device)
        own = torch.where(rank[rows] < k, index[rows], n)
        near = own.clamp(max=n - 1)
        candidate = half_list[near]
        valid = in_half[near] & (own < n)[:, :, None]
        ordered = own.sort(1).values
        wanted = candidate.flatten(1).contiguous()
        at = torch.searchsorted(ordered, wanted).clamp(max=k - 1)
        inside = (ordered.gather(1, at) == wanted).view_as(candidate) & valid
        taken = valid & (3 * inside.sum(2) > 2 * valid.sum(2))[:, :, None]
        every = torch.cat([own, torch.where(taken, candidate, n).flatten(1)], 1).sort(1).values
        new = every < n
        new[:, 1:] &= every[:, 1:] != every[:, :-1]
        sizes.append(new.sum(1))
        members.append(every[new].int())
    return _starts(torch.cat(sizes)), torch.cat(members)


def softmax_weights(features: Tensor, order: Tensor, start: Tensor, member: Tensor) -> Tensor:
    """Return fixed-point softmax weights of -(2 - 2 f_i.f_j) over each row's members; f_i is row order[i]."""
    n = len(start) - 1
    row = torch.repeat_interleave(torch.arange(n, device=start.device), start[1:] - start[:-1])
    value = torch.empty(len(member), dtype=torch.int64, device=start.device)
    for cpu_part in _blocks(len(member), 4 * features.shape[1]):
        part = cpu_part.to(start.device)
        s = pair_similarity(features, order[row[part]], order[member[part].long()])
        value[part] = torch.round(torch.exp(2 * s.double() - 2) * EXPONENTIAL_ONE).long()
    total = torch.zeros(n, dtype=torch.int64, device=start.device).index_add_(0, row, value)
    return torch.round(value.double() / total[row].double() * ONE).int().clamp(min=1)


def pair_similarity(features: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return inner products of pairs of rows, summed in float64 and rounded once to float32."""
    return (features[i].double() * features[j].double()).sum(1).float()


def mix_rows(
    start: Tensor, column: Tensor, weight: Tensor, index: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return W V as (start, column, weight); row i of W holds `share[i, p]` at `index[i, p]`."""
    n, width = index.shape
    sizes, columns, weights = [], [], []
    for cpu_rows in _blocks(n, n, 256):
        rows = cpu_rows.to(index.device)
        used = (share[rows] > 0).flatten()
        source = index[rows].flatten()[used]
        target = torch.arange(len(rows), device=rows.device).repeat_interleave(width)[used]
        owner, at = _entries(start, source)
        total = torch.zeros(len(rows) * n, dtype=torch.int64, device=rows.device)
        term = share[rows].flatten()[used][owner].long() * weight[at]
        total.index_add_(0, target[owner] * n + column[at], term)
        cell = total.nonzero().squeeze(1)
        sizes.append(torch.bincount(cell // n, minlength=len(rows)))
        columns.append((cell % n).int())
        weights.append(((total[cell] + (ONE >> 1)) >> 30).int())
    return _starts(torch.cat(sizes)), torch.cat(columns), torch.cat(weights)


def overlaps(start: Tensor, column: Tensor, weight: Tensor, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums over l of min(V[i, l], V[j, l]) where they reach `least`: whole symmetric sparse rows."""
    n = len(start) - 1
    begin = _starts(torch.bincount(column, minlength=n))
    by_column = torch.argsort(column, stable=True)
    every_row = torch.repeat_interleave(torch.arange(n, device=start.device), start[1:] - start[:-1])
    row_of, weight_of = every_row[by_column], weight[by_column]
    sizes, columns, sums = [], [], []
    for cpu_rows in _blocks(n, n, 256):
        rows = cpu_rows.to(start.device)
        owner, at = _entries(start, rows)
        entry, partner = _entries(begin, column[at].long())
        total = torch.zeros(len(rows) * n, dtype=torch.int32, device=rows.device)
        term = torch.minimum(weight[at][entry], weight_of[partner])
        total.index_add_(0, owner[entry] * n + row_of[partner], term)
        cell = (total >= least).nonzero().squeeze(1)
        sizes.append(torch.bincount(cell // n, minlength=len(rows)))
        columns.append((cell % n).int())
        sums.append(total[cell])
    return _starts(torch.cat(sizes)), torch.cat(columns), torch.cat(sums)


def renamed(start: Tensor, column: Tensor, value: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a sparse matrix whose sample r is called order[r], columns ascending."""
    size = start[1:] - start[:-1]
    row = order[torch.repeat_interleave(torch.arange(len(size), device=start.device), size)]
    named = order[column.long()]
    place = torch.argsort(row * len(size) + named)
    return _starts(torch.empty_like(size).index_put_((order,), size)), named[place].int(), value[place]


def density_labels(row: Tensor, neighbour: Tensor, core: Tensor) -> Tensor:
    """Number the components of core points by their first member; border points join the lowest number."""
    n = len(core)
    itself = torch.arange(n, device=core.device)
    column = neighbour.long()
    linked = core[row] & core[column]
    left, right = row[linked], column[linked]
    root = itself
    while True:
        lower = root.scatter_reduce(0, left, root[right], "amin")
        lower = lower[lower]
        if torch.equal(lower, root):
            break
        root = lower
    number = ((root == itself) & core).cumsum(0) - 1
    label = torch.where(core, number[root], n)
    reached = ~core[row] & core[column]
    label = label.scatter_reduce(0, row[reached], label[column[reached]], "amin")
    return torch.where(label == n, -1, label)


def search(
    features: Tensor, group: Tensor, first_pass: FirstPass, index: Tensor, similarity: Tensor
) -> Tensor:
    """Fill neighbour lists (n, k) by blocks of rows against all; return the rows whose proof failed.

    A pair of the same group (>= 0) is left out.
    """
    n, k = index.shape
    width = min(n, max(k + 64, 2 * k))
    slack, relative = (float(b) for b in first_pass.bound)
    failed = []
    for cpu_rows in _blocks(n, n, 4096):
        rows = cpu_rows.to(features.device)
        near = first_pass.rows[rows] @ first_pass.rows.T
        near[(group[rows, None] == group[None]) & (group[rows, None] >= 0)] = -torch.inf
        value, candidate = near.topk(width, dim=1)
        kth, last = value[:, k - 1].double(), value[:, -1].double()
        beyond = last + slack + relative * last.abs() >= kth - slack - relative * kth.abs() - 1e-6
        failed.append(rows[beyond & last.isfinite()] if width < n else rows[:0])
        there = value.isfinite()
        size = there.sum(1)
        rank(features, rows, _starts(size), candidate[there], index, similarity)
    return torch.cat(failed)


def rank(
    features: Tensor, rows: Tensor, start: Tensor, candidate: Tensor, index: Tensor, similarity: Tensor
) -> None:
    """Write the k best candidates of some rows, ordered by (larger exact similarity, smaller index).

    Parameters
    ----------
    rows : int64 tensor (r,)
    start : int64 tensor (r + 1,)
        Row r's candidates are ``candidate[start[r]:start[r + 1]]``.
    index, similarity : tensors (n, k)
        Written in the rows named.
    """
    k = index.shape[1]
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), start[1:] - start[:-1])
    exact = torch.empty(len(candidate), device=features.device)
    for cpu_part in _blocks(len(candidate), 4 * features.shape[1]):
        part = cpu_part.to(features.device)
        exact[part] = pair_similarity(features, rows[owner[part]], candidate[part])
    order = torch.argsort(candidate)
    for key in (-exact, owner):
        order = order[torch.argsort(key[order], stable=True)]
    place = torch.arange(len(order), device=rows.device) - start[:-1][owner[order]]
    kept = order[place < k]
    at = (rows[owner[kept]], place[place < k])
    index[at] = candidate[kept]
    similarity[at] = exact[kept]
