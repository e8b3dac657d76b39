"""Which clusters survive a looser and a tighter clustering (SpCL, NeurIPS 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.clustering.labels import own_label_for_noise


@dataclass(frozen=True)
class Reliability:
    """Stability of a labeling; small values are good.

    Attributes
    ----------
    labels : int64 tensor (n,)
        Every noise sample has a label of its own, after the clusters and in index order.
    compactness, independence : float64 tensors (n,)
        Jaccard distance of the sample's cluster to its cluster in the tight and in the loose labeling.
    cluster_compactness, cluster_independence : float64 tensors (labels,)
        Their minima over the members; +inf for a number without members.
    size : int64 tensor (labels,)
    """

    labels: Tensor
    compactness: Tensor
    independence: Tensor
    cluster_compactness: Tensor
    cluster_independence: Tensor
    size: Tensor


def label_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - |A & B| / |A | B| (n,), float64, A and B the samples that share i's label in each labeling.

    Intersections are counts of label pairs, so that memory is linear in n. Labels (n,) int64 without noise.
    """
    a, b = (labels.unique(return_inverse=True)[1] for labels in (first, second))
    pair, shared = (a * len(b) + b).unique(return_inverse=True, return_counts=True)[1:]
    intersection = shared[pair]
    union = a.bincount()[a] + b.bincount()[b] - intersection
    return 1 - intersection.double() / union


def reliability(labels: Tensor, tight: Tensor, loose: Tensor) -> Reliability:
    """Compare a labeling with a tighter and a looser one.

    Parameters
    ----------
    labels, tight, loose : int64 tensors (n,)
        Negative labels are noise.

    Returns
    -------
    Reliability
    """
    labels, tight, loose = (own_label_for_noise(each) for each in (labels, tight, loose))
    compactness, independence = label_distance(labels, tight), label_distance(labels, loose)
    size = labels.bincount()
    unset = compactness.new_full((len(size),), torch.inf)
    return Reliability(
        labels,
        compactness,
        independence,
        unset.scatter_reduce(0, labels, compactness, "amin"),
        unset.scatter_reduce(0, labels, independence, "amin"),
        size,
    )


def independence_threshold(scores: Reliability, fraction: float = 0.9) -> float | None:
    """Return the independence that about `fraction` of the clusters attain (SpCL fixes it at epoch 0).

    Returns
    -------
    float or None
        The sorted values' entry min(m - 1, round(fraction * m)) over the m labels with two members or more;
        None if there is no such label, so that nothing can be fixed yet.
    """
    values = scores.cluster_independence[scores.size > 1].sort().values
    if not len(values):
        return None
    return float(values[min(len(values) - 1, round(fraction * len(values)))])


def reliable_labels(scores: Reliability, threshold: float) -> Tensor:
    """Keep the reliable members of independent clusters; all others become singletons.

    Returns
    -------
    int64 tensor (n,)
        New singletons are numbered after all labels, in index order; numbers may be missing.
    """
    y = scores.labels
    kept = (scores.cluster_independence[y] <= threshold) & (
        scores.compactness <= scores.cluster_compactness[y]
    )
    return torch.where(kept, y, len(scores.size) + (~kept).cumsum(0) - 1)
