"""The back end for any device: the stages in tensor operations, with the results of the compiled one.

Sums are over integers, so the order in which a device adds does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.clustering.kernels.torch_blocks import blocks, entries_of, pair_similarity, row_starts
from methods.clustering.kernels.torch_search import searches
from methods.clustering.values import (
    CSR,
    EXPONENTIAL_SCALE,
    WEIGHT_SCALE,
    Encoding,
    Neighbours,
    NeighbourSets,
)

__all__ = [
    "density_labels",
    "distance_of",
    "expanded_sets",
    "mix_rows",
    "overlaps",
    "searches",
    "softmax_weights",
]


def reverse_rank(index: Tensor) -> Tensor:
    """Return (n, k): the position of i in the list of its p-th neighbour, k where it is absent."""
    n, k = index.shape
    rank = torch.full_like(index, k)
    for rows in blocks(n, k * k, index.device):
        near = index[rows]
        same = index[near.clamp(min=0)] == rows[:, None, None]
        listed = same.any(2) & (near >= 0)
        rank[rows] = torch.where(listed, same.to(torch.uint8).argmax(2), k).to(rank.dtype)
    return rank


def expanded_sets(index: Tensor, half: int) -> NeighbourSets:
    """Return the expanded k-reciprocal sets, ascending within a row."""
    n, k = index.shape
    rank = reverse_rank(index)
    half_list, in_half = index[:, :half], rank[:, :half] < half
    sizes, members = [], []
    for rows in blocks(n, 4 * k * (half + 1), index.device):
        # n stands for nobody: it is sorted to the end
        reciprocal = torch.where(rank[rows] < k, index[rows], n)
        near = reciprocal.clamp(max=n - 1)
        candidate = half_list[near]
        valid = in_half[near] & (reciprocal < n)[:, :, None]
        ordered = reciprocal.sort(1).values
        wanted = candidate.flatten(1).contiguous()
        at = torch.searchsorted(ordered, wanted).clamp(max=k - 1)
        inside = (ordered.gather(1, at) == wanted).view_as(candidate) & valid
        taken = valid & (3 * inside.sum(2) > 2 * valid.sum(2))[:, :, None]
        union = torch.cat([reciprocal, torch.where(taken, candidate, n).flatten(1)], 1).sort(1).values
        first_time = union < n
        first_time[:, 1:] &= union[:, 1:] != union[:, :-1]
        sizes.append(first_time.sum(1))
        members.append(union[first_time].int())
    indices = torch.cat(members)
    return NeighbourSets(row_starts(torch.cat(sizes)), indices, indices[:0])


def softmax_weights(features: Tensor, order: Tensor, neighbours: Neighbours, sets: NeighbourSets) -> Tensor:
    """Return the weights of the sets' members; computing similarities again is cheaper here than finding them."""
    row, member = sets.rows, sets.indices
    exponential = torch.empty(len(member), dtype=torch.int64, device=member.device)
    for part in blocks(len(member), 4 * features.shape[1], member.device):
        s = pair_similarity(features, order[row[part]], order[member[part].long()])
        exponential[part] = torch.round(torch.exp(2 * s.double() - 2) * EXPONENTIAL_SCALE).long()
    total = torch.zeros(len(sets), dtype=torch.int64, device=member.device).index_add_(0, row, exponential)
    share = exponential.double() / total[row].double()
    return torch.round(share * WEIGHT_SCALE).int().clamp(min=1)


def mix_rows(encoding: Encoding, index: Tensor, share: Tensor) -> Encoding:
    """Return W V, ascending within a row."""
    n, width = index.shape
    sizes, indices, values = [], [], []
    # a block's sums are dense: 256 rows times n
    for rows in blocks(n, n, index.device, 256):
        used = (share[rows] > 0).flatten()
        source = index[rows].flatten()[used]
        target = torch.arange(len(rows), device=rows.device).repeat_interleave(width)[used]
        owner, at = entries_of(encoding.indptr, source)
        total = torch.zeros(len(rows) * n, dtype=torch.int64, device=rows.device)
        term = share[rows].flatten()[used][owner].long() * encoding.values[at]
        total.index_add_(0, target[owner] * n + encoding.indices[at], term)
        cell = total.nonzero().squeeze(1)
        sizes.append(torch.bincount(cell // n, minlength=len(rows)))
        indices.append((cell % n).int())
        values.append(((total[cell] + (WEIGHT_SCALE >> 1)) >> 30).int())
    return Encoding(row_starts(torch.cat(sizes)), torch.cat(indices), torch.cat(values))


def overlaps(encoding: Encoding, min_overlap: int, order: Tensor) -> CSR:
    """Return the shared weights that reach `min_overlap`."""
    indptr, column, weight = encoding.indptr, encoding.indices, encoding.values
    n = len(encoding)
    by_column = torch.argsort(column, stable=True)
    column_start = row_starts(torch.bincount(column, minlength=n))
    row_of, weight_of = encoding.rows[by_column], weight[by_column]
    sizes, indices, values = [], [], []
    for rows in blocks(n, n, indptr.device, 256):
        owner, at = entries_of(indptr, rows)
        entry, partner = entries_of(column_start, column[at].long())
        total = torch.zeros(len(rows) * n, dtype=torch.int32, device=rows.device)
        term = torch.minimum(weight[at][entry], weight_of[partner])
        total.index_add_(0, owner[entry] * n + row_of[partner], term)
        cell = (total >= min_overlap).nonzero().squeeze(1)
        sizes.append(torch.bincount(cell // n, minlength=len(rows)))
        indices.append((cell % n).int())
        values.append(total[cell])
    return renamed(CSR(row_starts(torch.cat(sizes)), torch.cat(indices), torch.cat(values)), order)


def renamed(matrix: CSR, order: Tensor) -> CSR:
    """Return a sparse matrix whose row and column r are called order[r], indices ascending."""
    row, column = order[matrix.rows], order[matrix.indices.long()]
    place = torch.argsort(row * len(matrix) + column)
    sizes = torch.empty_like(matrix.sizes).index_put_((order,), matrix.sizes)
    return CSR(row_starts(sizes), column[place].int(), matrix.values[place])


def distance_of(overlap: Tensor) -> Tensor:
    """Return the distances of shared weights."""
    s = overlap.double() / WEIGHT_SCALE
    return (1 - s / (2 - s)).clamp(min=0).float()


def density_labels(graph: CSR, core: Tensor) -> Tensor:
    """Return the labels by passing the lowest number on, from neighbour to neighbour, until nothing changes."""
    n = len(core)
    itself = torch.arange(n, device=core.device)
    row, column = graph.rows, graph.indices.long()
    linked = core[row] & core[column]
    left, right = row[linked], column[linked]
    root = itself
    while True:
        lower = root.scatter_reduce(0, left, root[right], "amin")
        lower = lower[lower]  # the root's root: chains of links halve in every round
        if torch.equal(lower, root):
            break
        root = lower
    number = ((root == itself) & core).cumsum(0) - 1
    label = torch.where(core, number[root], n)
    reached = ~core[row] & core[column]
    label = label.scatter_reduce(0, row[reached], label[column[reached]], "amin")
    return torch.where(label == n, -1, label)
