"""Matching of clusters as sets of sub-cluster centres (MMM, ECCV 2024): k-means, distances, partners, labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from methods.clustering.labels import NOISE, n_clusters
from methods.errors import MethodError

STEPS, TOLERANCE = 300, 1e-4
"""Limits of k-means: iterations, and the squared shift of all centres in units of the mean variance."""
MatchingRule = Literal["nearest", "assignment"]


@dataclass(frozen=True)
class Memories:
    """The sub-cluster centres ("memories") of every cluster.

    Attributes
    ----------
    centres : float32 tensor (clusters, memories, d)
        Not normalised; a cluster with fewer members than memories has zeros behind its own.
    count : int64 tensor (clusters,)
        How many of them a cluster has.
    """

    centres: Tensor
    count: Tensor

    def real(self) -> Tensor:
        """Boolean (clusters, memories): the centres that are there."""
        return torch.arange(self.centres.shape[1], device=self.count.device) < self.count[:, None]


def split_memories(
    features: Tensor, labels: Tensor, memories: int = 4, seed: int = 0, *, starts: int = 10, block: int = 4096
) -> Memories:
    """Split every cluster by k-means: k-means++ starts, the best of several, the same draws for every cluster.

    Clusters of similar size are split at the same time.

    Parameters
    ----------
    features : float32 tensor (n, d)
    labels : int64 tensor (n,)
        Numbered from 0 without gaps; negative labels take no part.
    memories : int
        Centres of a cluster; a cluster with fewer members has one for each.
    seed : int
    starts : int
    block : int
        Members that are held at a time.

    Returns
    -------
    Memories
    """
    labels = labels.to(features.device)
    size = labels[labels > NOISE].bincount(minlength=n_clusters(labels))
    members = labels.argsort(stable=True)[len(labels) - int(size.sum()) :]
    first = size.cumsum(0) - size
    draws = torch.rand(starts, memories, generator=torch.Generator().manual_seed(seed))
    centres = features.new_zeros(len(size), memories, features.shape[1])
    for chosen in _similar_sizes(size, block):
        place = torch.arange(int(size[chosen].max()), device=labels.device)
        inside = place < size[chosen, None]
        rows = features[members[(first[chosen, None] + place).clamp(max=len(members) - 1)]]
        centres[chosen] = _best_split(rows * inside[..., None], inside, draws.to(features.device))
    found = Memories(centres, size.clamp(max=memories))
    centres.masked_fill_(~found.real()[..., None], 0)
    return found


def _similar_sizes(size: Tensor, block: int) -> Iterator[Tensor]:
    """Yield groups of clusters by rising size; a group's largest size times its length fits a block."""
    order, start = size.argsort(stable=True), 0
    sizes = size[order].tolist()
    while start < len(sizes):
        stop = start + 1
        while stop < len(sizes) and sizes[stop] * (stop + 1 - start) <= block:
            stop += 1
        yield order[start:stop]
        start = stop


def _best_split(rows: Tensor, inside: Tensor, draws: Tensor) -> Tensor:
    """Return the centres (c, memories, d) of clusters with members `rows` (c, s, d), zero where not `inside`.

    A centre is kept as the shares of the members in it: distances then take the members' inner products alone.
    """
    starts, (clusters, _, d) = len(draws), rows.shape
    count = inside.sum(1)
    mean = rows.sum(1, keepdim=True) / count[:, None, None]
    members = Members((rows - mean) * inside[..., None])
    limit = TOLERANCE * members.squares.sum(1) / count / d
    shares = _plus_plus(members, inside, draws)
    products = members.products(shares)
    moving = torch.ones(clusters, starts, dtype=torch.bool, device=rows.device)
    for _ in range(STEPS):
        nearest = members.distances(shares, products).argmin(2)  # (c, starts, s)
        own = inside[:, None, None].to(rows.dtype).expand(-1, starts, -1, -1)
        taken = torch.zeros_like(shares).scatter_(2, nearest[:, :, None], own)
        filled = taken.sum(3, keepdim=True)
        # an empty sub-cluster keeps its centre
        moved = torch.where(moving[..., None, None] & (filled > 0), taken / filled.clamp(min=1), shares)
        there = members.products(moved)
        shift = ((moved - shares) * (there - products)).sum((2, 3))
        shares, products, moving = moved, there, moving & (shift > limit[:, None])
        if not bool(moving.any()):
            break
    inertia = (members.distances(shares, products).amin(2) * inside[:, None]).sum(2)
    best = shares[torch.arange(clusters, device=rows.device), inertia.argmin(1)]
    return best @ members.rows + mean


class Members:
    """Members (c, s, d) of clusters, and what k-means asks of centres that are given as shares of them."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.squares = rows.square().sum(2)
        self.gram = rows @ rows.mT if rows.shape[1] <= rows.shape[2] else None
        """Their inner products (c, s, s), unless there are more members than dimensions."""

    def products(self, shares: Tensor) -> Tensor:
        """Return the inner products (c, starts, memories, s) of centres with members; `shares` are of this shape."""
        flat = shares.flatten(1, 2)
        found = (flat @ self.rows) @ self.rows.mT if self.gram is None else flat @ self.gram
        return found.view_as(shares)

    def distances(self, shares: Tensor, products: Tensor) -> Tensor:
        """Return the squared distances (c, starts, memories, s) of members from centres."""
        norms = (shares * products).sum(3, keepdim=True) + self.squares[:, None, None]
        return (norms - 2 * products).clamp(min=0)


def _plus_plus(members: Members, inside: Tensor, draws: Tensor) -> Tensor:
    """Choose members as first centres, each in proportion to its squared distance: shares (c, starts, memories, s)."""
    starts, count = len(draws), inside.sum(1)
    chance = inside[:, None].to(draws.dtype).expand(-1, starts, -1)
    closest = torch.full_like(chance, torch.inf)
    chosen = []
    for draw in draws.T:
        sums = chance.cumsum(2)
        pick = (sums <= draw[:, None] * sums[..., -1:]).sum(2)
        place = torch.minimum(pick, count[:, None] - 1)[..., None]
        chosen.append(torch.zeros_like(closest).scatter_(2, place, 1))
        alone = chosen[-1][:, :, None]
        gap = members.distances(alone, members.products(alone))[:, :, 0]
        # members at a chosen place are not chosen again, whatever rounding leaves
        closest = torch.minimum(closest, gap.masked_fill(gap < 1e-7 * gap.amax(2, keepdim=True), 0))
        chance = closest * inside[:, None]
    return torch.stack(chosen, 2)


def set_distance(visible: Memories, infrared: Memories, *, block: int = 1024) -> Tensor:
    """Return the distance of every visible from every infrared cluster: sum of those to the nearest visible memory.

    D(p, q) = sum over the infrared memories i of q of the least |m_i(q) - m_j(p)| over the visible ones j of p; not
    symmetric. Where q has fewer memories, their mean stands for the missing ones.

    Parameters
    ----------
    visible, infrared : Memories
    block : int
        Infrared clusters at a time.

    Returns
    -------
    float64 tensor (K_v, K_r)
    """
    k_v, memories, _ = visible.centres.shape
    targets = visible.centres.double().flatten(0, 1)
    if not k_v:
        return targets.new_empty(0, len(infrared.centres))
    # |b|^2 of |a - b|^2 = |a|^2 + |b|^2 - 2 a.b; |a| decides nothing about the nearest
    squares = targets.square().sum(1).masked_fill(~visible.real().flatten(), torch.inf)
    blocks = [targets.new_empty(0, k_v)]
    for centres, real in zip(infrared.centres.split(block), infrared.real().split(block), strict=True):
        sources = centres.double().flatten(0, 1)
        least = torch.addmm(squares, sources, targets.T, alpha=-2).view(-1, k_v, memories).amin(2)
        away = (least + sources.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
        total = away.view(-1, memories, k_v).masked_fill(~real[..., None], 0).sum(1)
        blocks.append(total * memories / real.sum(1, keepdim=True))
    return torch.cat(blocks).T


def nearest_match(distance: Tensor) -> Tensor:
    """Return the nearest infrared cluster (K_v,) of every visible one, the lowest on ties; many may share one."""
    return distance.argmin(1)


def assigned_match(distance: Tensor) -> Tensor:
    """Return partners (K_v,) by the one-to-one assignment of least total distance; leftovers go to their nearest."""
    from scipy.optimize import linear_sum_assignment  # a look at a method need not wait for it

    partner = nearest_match(distance)
    rows, columns = linear_sum_assignment(distance.cpu().numpy())
    partner[torch.from_numpy(rows)] = torch.from_numpy(columns).to(partner.device)
    return partner


def memory_distance(
    visible: tuple[Tensor, Tensor], infrared: tuple[Tensor, Tensor], memories: int = 4, *, starts: int = 10
) -> Tensor:
    """Split the clusters of both sides, given as features and labels; return their distances (K_v, K_r)."""
    return set_distance(*(split_memories(*side, memories, starts=starts) for side in (visible, infrared)))


def matched_labels(
    visible: Tensor,
    infrared: Tensor,
    distance: Tensor,
    rule: MatchingRule = "nearest",
    *,
    match_all: bool = True,
) -> tuple[Tensor, Tensor]:
    """Give visible images the labels of their clusters' infrared partners.

    Parameters
    ----------
    visible, infrared : int64 tensors (n_v,), (n_r,)
        Labels of two label spaces; noise is -1.
    distance : tensor (K_v, K_r)
    rule : str
        Partners by :func:`nearest_match` or :func:`assigned_match`.
    match_all : bool
        If not, the last cluster of either side is left out, as in the public code (quirk Q51): the visible one keeps
        its number, and images whose numbers are too large are dropped.

    Returns
    -------
    int64 tensors (n_v,), (n_r,)
        In the numbers of the infrared clusters; -1 for noise and for what is dropped.

    Raises
    ------
    MethodError
        If a visible cluster has no infrared one to be matched with.
    """
    k_v, k_r = distance.shape
    candidates = distance if match_all else distance[:-1, :-1]
    if len(candidates) and not candidates.shape[1]:
        raise MethodError(
            f"no infrared cluster to match with: there are {k_v} visible and {k_r} infrared ones"
        )
    partner = (
        (nearest_match if rule == "nearest" else assigned_match)(candidates) if len(candidates) else None
    )
    kept_number = torch.arange(len(candidates), k_v, device=visible.device)
    partner = kept_number if partner is None else torch.cat([partner.to(visible.device), kept_number])
    renamed = torch.where(visible > NOISE, partner[visible.clamp(min=0)], NOISE) if k_v else visible
    if match_all:
        return renamed, infrared
    # noise counts as a label there
    limit = max(len(renamed.unique()), len(infrared.unique()))
    # a number beyond the infrared clusters breaks the public run
    return tuple(y.masked_fill((y > limit) | (y >= k_r), NOISE) for y in (renamed, infrared))  # type: ignore[return-value]
