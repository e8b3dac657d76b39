"""Labels moved to the nearest of density prototypes (RPNR, ACM MM 2024)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.clustering.labels import n_clusters


def density_prototypes(
    features: Tensor, labels: Tensor, size: int, cut: float = 0.5, *, block: int = 1024
) -> Tensor:
    """Return the mean of the densest members of every cluster.

    A member's density is the number of members with a cosine above `cut` minus that of members below it. Members of
    equal density (there are many: a tight cluster ties as a whole) go by their order (quirk Q44).

    Parameters
    ----------
    features : float32 tensor (n, d)
    labels : int64 tensor (n,)
        Numbered from 0 without gaps; negative labels take no part.
    size : int
        Members that make a prototype; all if a cluster has fewer.
    cut : float
    block : int
        Members at a time.

    Returns
    -------
    float32 tensor (clusters, d)
        Not normalised.
    """
    members = labels.argsort(stable=True)[int((labels < 0).sum()) :]
    counts = labels[members].bincount()
    unit = normalize(features[members])
    density = torch.cat(
        [unit.new_empty(0), *(_density(part, cut, block) for part in unit.split(counts.tolist()))]
    )
    by_density = density.argsort(descending=True, stable=True)
    order = by_density[labels[members][by_density].argsort(stable=True)]
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - first.repeat_interleave(counts)
    chosen = members[order[rank < size]]
    total = features.new_zeros(len(counts), features.shape[1]).index_add_(0, labels[chosen], features[chosen])
    return total / counts.clamp(max=size)[:, None]


def _density(unit: Tensor, cut: float, block: int) -> Tensor:
    """Return the density of every member of one cluster, given as unit rows."""
    return torch.cat([(part @ unit.T - cut).sign().sum(1) for part in unit.split(block)])


def nearest_prototypes(features: Tensor, labels: Tensor, prototypes: Tensor, *, block: int = 4096) -> Tensor:
    """Give every clustered image the label of the prototype of largest cosine, the lowest on ties; noise stays noise.

    Parameters
    ----------
    features : float32 tensor (n, d)
    labels : int64 tensor (n,)
    prototypes : float32 tensor (clusters, d)
        Of any length.
    block : int
        Images at a time.

    Returns
    -------
    int64 tensor (n,)
        A cluster may end without an image.
    """
    if not n_clusters(labels):
        return labels.clone()
    directions = normalize(prototypes)
    nearest = torch.cat([(normalize(part) @ directions.T).argmax(1) for part in features.split(block)])
    return torch.where(labels >= 0, nearest, labels)
