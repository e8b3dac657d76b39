"""Association by counting and voting: ADCA's aggregation, GUR's label propagation, MPJL's row refinement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from methods.clustering.labels import NOISE, n_clusters
from methods.clustering.neighbours import top_neighbours

TIE = 1e-12
"""Relative difference up to which sums of votes are equal, whatever the order of summation."""


@dataclass(frozen=True)
class PairCounts:
    """How often images of two clusters are similar.

    Attributes
    ----------
    counts : int64 tensor (K_v, K_r)
        Pairs of images at or above the threshold.
    best : float32 tensor (K_v, K_r)
        Largest similarity over all pairs of images of the two clusters; -inf for an empty cluster.
    """

    counts: Tensor
    best: Tensor


def pair_counts(
    visible_features: Tensor,
    infrared_features: Tensor,
    visible_labels: Tensor,
    infrared_labels: Tensor,
    threshold: float = 0.5,
    *,
    block: int = 1024,
) -> PairCounts:
    """Count the similar image pairs of every pair of clusters (ADCA).

    Memory: `block` x infrared images, and clusters x clusters.

    Parameters
    ----------
    visible_features, infrared_features : float32 tensors (n_v, d) and (n_r, d), unit rows
    visible_labels, infrared_labels : int64 tensors (n_v,) and (n_r,)
        Two label spaces; noise (< 0) takes no part.
    threshold : float
        Cosine from which on a pair counts.
    block : int
        Visible images at a time.

    Returns
    -------
    PairCounts
    """
    visible, y_v = _without_noise(visible_features, visible_labels)
    infrared, y_r = _without_noise(infrared_features, infrared_labels)
    k_v, k_r = n_clusters(y_v), n_clusters(y_r)
    counts = torch.zeros(k_v, k_r, dtype=torch.int64, device=visible.device)
    best = visible.new_full((k_v, k_r), -torch.inf)
    for start in range(0, len(visible), block):
        part = y_v[start : start + block]
        similarity = infrared @ visible[start : start + block].T
        hits = counts.new_zeros(k_r, len(part)).index_add_(0, y_r, (similarity >= threshold).long())
        counts.index_add_(0, part, hits.T)
        highest = similarity.new_full((k_r, len(part)), -torch.inf)
        highest.scatter_reduce_(0, y_r[:, None].expand_as(similarity), similarity, "amax")
        best.scatter_reduce_(0, part[:, None].expand(-1, k_r), highest.T, "amax")
    return PairCounts(counts, best)


def aggregate_by_counts(pairs: PairCounts) -> Tensor:
    """Accept cluster pairs greedily by decreasing count, every cluster at most once (ADCA).

    Equal counts: the pair whose best similarity is larger first, then the lower numbers.

    Returns
    -------
    int64 tensor (K_v,)
        Infrared partner of every visible cluster, -1 without one.
    """
    counts, best = pairs.counts.cpu().numpy(), pairs.best.cpu().numpy()
    partner = np.full(counts.shape[0], -1, dtype=np.int64)
    p, q = counts.nonzero()
    order = np.lexsort((q, p, -best[p, q], -counts[p, q]))
    p, q = p[order], q[order]
    while p.size:
        partner[p[0]] = q[0]
        free = (p != p[0]) & (q != q[0])
        p, q = p[free], q[free]
    return torch.from_numpy(partner).to(pairs.counts.device)


def aggregate_rows(rows: Tensor, targets: Tensor, partner: Tensor, mixing: float = 0.1) -> Tensor:
    """Move memory rows to their partners among `targets` (ADCA; one way only, not normalised: quirk Q11).

    Parameters
    ----------
    rows, targets : float32 tensors (K, d) and (L, d)
        ADCA moves visible rows to infrared ones.
    partner : int64 tensor (K,)
        As :func:`aggregate_by_counts` returns it; rows without a partner stay.
    mixing : float
        Share of the old row.

    Returns
    -------
    float32 tensor (K, d)
    """
    moved, matched = rows.clone(), partner >= 0
    moved[matched] = mixing * rows[matched] + (1 - mixing) * targets[partner[matched]]
    return moved


def propagate_labels(
    features_to: Tensor, features_from: Tensor, labels_from: Tensor, top_k: int, *, block: int = 1024
) -> Tensor:
    """Give every sample the label its nearest neighbours of the other modality vote for (GUR).

    A vote weighs softmax(cosine) over all neighbours; the softmax's denominator is common to all votes of a
    sample and is left out. Noise votes as a class of its own; the lowest class wins a tie, noise before all.

    Parameters
    ----------
    features_to, features_from : float32 tensors (n, d) and (m, d), unit rows
    labels_from : int64 tensor (m,)
    top_k : int
        Neighbours that vote.
    block : int
        Samples at a time.

    Returns
    -------
    int64 tensor (n,)
        -1 where noise won, or where there is nobody to vote.
    """
    similarity, index = top_neighbours(features_to, features_from, top_k, block=block)
    return _vote(_merge_noise(labels_from.to(index.device))[index], similarity.double().exp(), block)


def smooth_labels(features: Tensor, labels: Tensor, top_k: int, *, block: int = 1024) -> Tensor:
    """Replace labels by the unweighted vote of the `top_k` nearest samples, itself included (GUR).

    Noise votes as a class of its own; the lowest class wins a tie, noise before all.

    Parameters
    ----------
    features : float32 tensor (n, d), unit rows
    labels : int64 tensor (n,)
    top_k : int
    block : int
        Samples at a time.

    Returns
    -------
    int64 tensor (n,)
    """
    index = top_neighbours(features, features, top_k, include_self=True, block=block)[1]
    votes = _merge_noise(labels.to(index.device))[index]
    return _vote(votes, torch.ones(votes.shape, dtype=torch.float64, device=votes.device), block)


def refine_rows(
    features: Tensor,
    labels: Tensor,
    rows: Tensor,
    threshold: float = 0.5,
    momentum: float = 0.4,
    *,
    block: int = 1024,
) -> Tensor:
    """Move each memory row by the clusters of the other modality that prefer it (MPJL's SBMR).

    Cluster p prefers the row q with the largest mean over its members of max(0, cosine - threshold), the
    first one on ties. If that is positive: row q <- momentum * row + (1 - momentum) * mean of the members
    with cosine >= threshold; several clusters on one row in increasing p. Similarities are those to `rows`
    as given; nothing is normalised.

    Parameters
    ----------
    features : float32 tensor (n, d), unit rows
    labels : int64 tensor (n,)
        Noise (< 0) takes no part.
    rows : float32 tensor (K, d)
        Memory of the other modality.
    threshold, momentum : float
    block : int
        Samples at a time.

    Returns
    -------
    float32 tensor (K, d)
    """
    features, labels = _without_noise(features, labels)
    if not len(labels) or not len(rows):
        return rows.clone()
    score, preferred = _preferred_rows(features, labels, rows, threshold, block)
    blocks = zip(features.split(block), preferred[labels].split(block), strict=True)
    similarity = torch.cat([(part @ rows.T).gather(1, q[:, None])[:, 0] for part, q in blocks])
    close = similarity >= threshold
    total = features.new_zeros(len(score), rows.shape[1]).index_add_(0, labels[close], features[close])
    means = total / labels[close].bincount(minlength=len(score)).clamp(min=1)[:, None]
    moving = score > 0
    return _mix_in_order(rows, means[moving], preferred[moving], momentum)


def _preferred_rows(
    features: Tensor, labels: Tensor, rows: Tensor, threshold: float, block: int
) -> tuple[Tensor, Tensor]:
    """Return the best score and its row for every cluster; sums replace means: the argmax is the same."""
    score = features.new_zeros(n_clusters(labels), len(rows))
    for part, y in zip(features.split(block), labels.split(block), strict=True):
        score.index_add_(0, y, (part @ rows.T - threshold).clamp(min=0))
    preferred = score.argmax(1)
    return score.gather(1, preferred[:, None])[:, 0], preferred


def _mix_in_order(rows: Tensor, values: Tensor, target: Tensor, momentum: float) -> Tensor:
    """Apply row <- momentum * row + (1 - momentum) * value for every value, in order, in closed form."""
    order = target.argsort(stable=True)
    hits = target.bincount(minlength=len(rows))
    position = torch.empty_like(target)
    position[order] = torch.arange(len(target), device=target.device)
    later = hits.cumsum(0)[target] - 1 - position
    weight = (1 - momentum) * momentum ** later.to(rows.dtype)
    kept = momentum ** hits.to(rows.dtype)
    return (kept[:, None] * rows).index_add_(0, target, weight[:, None] * values)


def _vote(labels: Tensor, weights: Tensor, block: int) -> Tensor:
    """Return the label (n,) of largest total weight among each row's (n, k), the lowest on ties."""
    if not labels.shape[1]:
        return labels.new_full((len(labels),), NOISE)
    winners = [labels.new_empty(0)]
    for y, w in zip(labels.split(block), weights.split(block), strict=True):
        total = ((y[:, :, None] == y[:, None, :]) * w[:, None, :]).sum(2)
        beaten = total < total.max(1, keepdim=True).values * (1 - TIE)
        winners.append(y.masked_fill(beaten, torch.iinfo(y.dtype).max).min(1).values)
    return torch.cat(winners)


def _merge_noise(labels: Tensor) -> Tensor:
    return labels.clamp(min=NOISE)


def _without_noise(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    labels = labels.to(features.device)
    return features[labels >= 0], labels[labels >= 0]
