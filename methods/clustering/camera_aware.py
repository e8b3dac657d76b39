"""CA-Jaccard: camera-aware k-reciprocal Jaccard distances (Chen et al., CVPR 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.clustering.checks import check_eps, check_features, check_group, check_k, check_min_samples
from methods.clustering.encoding import encode, mix
from methods.clustering.jaccard import jaccard_distances
from methods.clustering.kernels import Kernels, kernels_for
from methods.clustering.locality import locality_order
from methods.clustering.neighbours import other_group_neighbours, same_group_neighbours
from methods.clustering.pipeline import LARGEST_RADIUS, Clustering, density_clusters, summarise
from methods.clustering.reciprocal import reciprocal_sets
from methods.clustering.values import Neighbours, NeighbourSets, SparseDistances
from methods.errors import MethodError
from methods.timing import timed


@dataclass(frozen=True)
class CameraAware:
    """Settings of CA-Jaccard.

    Attributes
    ----------
    camera : int64 tensor (n,)
    k1_intra, k1_inter : int
        Neighbours of the same and of the other cameras in the reciprocal test. The intra list holds k1_intra
        others and the sample itself, the inter list k1_inter + 1 others (quirk Q19).
    k2_intra, k2_inter : int
        How many of each list the expansion averages over, all with the same weight.
    fill_lists : bool
        Where a list has fewer samples than it asks for, go on with those of the wrong side (quirk Q21).
    """

    camera: Tensor
    k1_intra: int = 5
    k1_inter: int = 20
    k2_intra: int = 2
    k2_inter: int = 4
    fill_lists: bool = False

    def check(self, n: int) -> None:
        """Refuse settings that do not fit n samples."""
        check_group("camera", self.camera, n)
        for name, k1, k2 in (
            ("intra", self.k1_intra, self.k2_intra),
            ("inter", self.k1_inter, self.k2_inter),
        ):
            check_k(n, k1, f"k1_{name}")
            if not 0 <= k2 <= k1 + 1:
                raise MethodError(f"k2_{name} = {k2} must lie between 0 and k1_{name} + 1 = {k1 + 1}")
        if self.k2_intra + self.k2_inter == 0:
            raise MethodError("k2_intra and k2_inter are both 0: there is nothing to average over")


def camera_aware_graph(
    features: Tensor, settings: CameraAware, *, radius: float
) -> tuple[SparseDistances, Neighbours]:
    """Compute CA-Jaccard distances at or below a radius.

    A camera with fewer samples than its lists ask for has shorter lists, unless the settings fill them.

    Parameters
    ----------
    features : float32 tensor (n, d)
        Unit rows.
    radius : float
        In (0, 1).

    Returns
    -------
    SparseDistances, Neighbours
        The lists are the intra list followed by the inter list.
    """
    check_features(features)
    settings.check(len(features))
    kernels = kernels_for(features)
    with timed("neighbours"):
        intra, inter = _intra_and_inter(features, settings, kernels)
        lists = Neighbours(
            torch.cat([intra.index, inter.index], 1), torch.cat([intra.similarity, inter.similarity], 1)
        )
    with timed("reciprocal"):
        order = locality_order(lists.index)
        intra, inter, reordered = (part.reordered(order) for part in (intra, inter, lists))
        sets = _union(reciprocal_sets(intra.index, kernels), reciprocal_sets(inter.index, kernels))
    with timed("encode"):
        encoding = encode(features, reordered, sets, kernels, order)
    with timed("expand"):
        near = torch.cat([intra.index[:, : settings.k2_intra], inter.index[:, : settings.k2_inter]], 1)
        listed = near >= 0
        weights = listed / listed.sum(1, keepdim=True).clamp(min=1).double()
        encoding = mix(encoding, near, weights, kernels)
    with timed("jaccard"):
        graph = jaccard_distances(encoding, radius, kernels, order)
    return graph, lists


def camera_aware_clusters(
    features: Tensor, settings: CameraAware, *, eps: float, min_samples: int
) -> Clustering:
    """Cluster features by DBSCAN on their CA-Jaccard distances.

    Parameters
    ----------
    eps : float
        Radius, in (0, 1].
    features, settings
        As in :func:`camera_aware_graph`.
    """
    check_eps(eps)
    check_min_samples(min_samples)
    graph, lists = camera_aware_graph(features, settings, radius=min(eps, LARGEST_RADIUS))
    with timed("cluster"):
        labels = density_clusters(graph, eps, min_samples)
    ordered = lists.similarity.sort(1, descending=True).values.clamp(min=-1)
    return summarise(labels, Neighbours(lists.index, ordered))


def _intra_and_inter(
    features: Tensor, settings: CameraAware, kernels: Kernels
) -> tuple[Neighbours, Neighbours]:
    """List the nearest samples of the same camera, the sample among them, and those of the others."""
    k_intra, k_inter = settings.k1_intra + 1, settings.k1_inter + 1
    if not settings.fill_lists:
        intra = same_group_neighbours(features, k_intra, settings.camera, kernels)
        return intra, other_group_neighbours(features, k_inter, settings.camera, kernels)
    longest = max(k_intra, k_inter)
    intra = same_group_neighbours(features, longest, settings.camera, kernels)
    inter = other_group_neighbours(features, longest, settings.camera, kernels)
    return _followed(intra, inter).first(k_intra), _followed(inter, intra).first(k_inter)


def _followed(lists: Neighbours, others: Neighbours) -> Neighbours:
    """Let every list go on, where it ends, with the other one of its sample."""
    index = torch.cat([lists.index, others.index], 1)
    similarity = torch.cat([lists.similarity, others.similarity], 1)
    order = (index < 0).int().argsort(dim=1, stable=True)
    return Neighbours(index.gather(1, order), similarity.gather(1, order))


def _union(first: NeighbourSets, second: NeighbourSets) -> NeighbourSets:
    """Unite sets of the same samples."""
    n = len(first)
    united = torch.cat([s.indices + n * s.rows for s in (first, second)]).unique()
    indptr = torch.searchsorted(united, n * torch.arange(n + 1, device=united.device))
    indices = (united % n).int()
    return NeighbourSets(indptr, indices, indices[:0])
