"""Soft labels from the clusters of nearest neighbours, and how far these agree with a label (N-ULC, AAAI 2025)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.clustering.labels import n_clusters


@dataclass(frozen=True)
class SoftLabels:
    """A distribution over clusters and a weight for every image; only clusters of its neighbours have a share.

    Attributes
    ----------
    cluster : int64 tensor (n, m)
        A cluster may be there more than once; its shares add up.
    share : float32 tensor (n, m)
        Sum to 1, or to 0 for noise without a clustered neighbour.
    weight : float32 tensor (n,)
        0 for noise.
    """

    cluster: Tensor
    share: Tensor
    weight: Tensor

    def of(self, rows: Tensor, clusters: int) -> Tensor:
        """Return the distributions (b, clusters) of the images `rows` (b,)."""
        dense = self.share.new_zeros(len(rows), clusters)
        return dense.scatter_add_(1, self.cluster[rows], self.share[rows])


def neighbour_labels(
    neighbours: Tensor, neighbour_cluster: Tensor, label: Tensor, sharpness: float = 10.0
) -> SoftLabels:
    """Read soft labels off the neighbours of every image, and weigh the image by how far they agree with its label.

    The share of cluster k goes with the intersection over union of an image's m neighbours and the cluster,
    J_k = c_k / (m - c_k + n_k), where c_k of the neighbours and n_k of all candidates are in k. With s the share of
    the image's own label the weight is exp(-sharpness (1 - s)^2). An image of which no neighbour has a cluster gets
    its label itself, and the weight of s = 0; published code divides 0 by 0 (quirk Q43).

    Parameters
    ----------
    neighbours : int64 tensor (n, m)
        Candidates; noise among them counts for no cluster, but keeps its place among the m (quirk Q42).
    neighbour_cluster : int64 tensor (candidates,)
        Cluster of every candidate; negative for noise.
    label : int64 tensor (n,)
        Label of every image among the clusters of the candidates; negative for noise.
    sharpness : float

    Returns
    -------
    SoftLabels
    """
    m, known = neighbours.shape[1], label >= 0
    cluster = neighbour_cluster[neighbours].sort(dim=1).values
    size = neighbour_cluster[neighbour_cluster >= 0].bincount(minlength=max(1, n_clusters(neighbour_cluster)))
    first, count = _runs(cluster)
    counted = first & (cluster >= 0)
    cluster = cluster.clamp(min=0)
    overlap = (count / (m - count + size[cluster])).float().masked_fill(~counted, 0)
    total = overlap.sum(1, keepdim=True)
    share = overlap / total.where(total > 0, 1)
    own = (share * (cluster == label[:, None])).sum(1)
    weight = torch.exp(-sharpness * (1 - own).square()).masked_fill(~known, 0)
    # the label itself stands in where nobody has a cluster
    alone = (total[:, 0] == 0) & known
    return SoftLabels(
        torch.cat([cluster, label.clamp(min=0)[:, None]], 1),
        torch.cat([share, alone.float()[:, None]], 1),
        weight,
    )


def _runs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return where runs of equal values begin in each sorted row, and there how long they are."""
    n, m = values.shape
    first = torch.ones_like(values, dtype=torch.bool)
    first[:, 1:] = values[:, 1:] != values[:, :-1]
    run = first.flatten().cumsum(0) - 1
    return first, run.bincount()[run].view(n, m) if n * m else torch.zeros_like(values)
