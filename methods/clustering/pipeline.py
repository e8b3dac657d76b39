"""From features to pseudo-labels: the stages in order, and what a method calls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from methods.clustering.checks import check_eps, check_features, check_k, check_min_samples
from methods.clustering.dbscan import dbscan
from methods.clustering.encoding import encode, expand
from methods.clustering.expansion import Expansion
from methods.clustering.jaccard import jaccard_distances
from methods.clustering.kernels import Kernels, kernels_for
from methods.clustering.labels import NOISE
from methods.clustering.locality import locality_order
from methods.clustering.neighbours import euclidean_neighbours, exact_neighbours
from methods.clustering.reciprocal import expanded_sets
from methods.clustering.values import Neighbours, SparseDistances
from methods.timing import timed

LARGEST_RADIUS = float(np.nextafter(np.float32(1), np.float32(0)))
"""Largest radius of a sparse graph: samples that share nothing are at distance 1."""


@dataclass(frozen=True)
class Clustering:
    """Pseudo-labels and what a message about them needs.

    Attributes
    ----------
    labels : int64 tensor (n,)
        Numbered from 0; -1 is noise.
    n_clusters : int
    nearest, farthest : float
        Median squared distance 2 - 2 f_i.f_j to the second and to the last neighbour of the lists.
    neighbours : Neighbours, optional
        The lists, for whoever needs them again.
    """

    labels: Tensor
    n_clusters: int
    nearest: float
    farthest: float
    neighbours: Neighbours | None = None

    @property
    def n_noise(self) -> int:
        """Return the number of samples that no cluster took."""
        return int((self.labels == NOISE).sum())

    @property
    def distances_seen(self) -> str:
        """Say how far neighbours are, for messages."""
        return (
            f"median squared distance to the nearest sample {self.nearest:.3g}, "
            f"to the last of k1 {self.farthest:.3g}"
        )


def jaccard_graph(
    features: Tensor, *, k1: int, radius: float, expansion: Expansion, unit: bool = True
) -> tuple[SparseDistances, Neighbours]:
    """Compute the Jaccard distances at or below a radius; several eps can share one graph.

    Parameters
    ----------
    features : float32 tensor (n, d)
    k1 : int
        Length of the neighbour lists, the sample itself included (quirk Q3).
    radius : float
        Largest eps that will be asked of the graph, in (0, 1).
    expansion : Expansion
        Local query expansion: ``MeanExpansion(k2)``, ``ModalityMean``, ``MIE``, ``Capped``.
    unit : bool
        Rows are unit vectors, and must be. False takes rows of any length (quirks Q2 and Q29): neighbours are then
        those of least Euclidean distance, weights and distances as for unit rows.

    Returns
    -------
    SparseDistances, Neighbours

    Raises
    ------
    MethodError
        k1 > n, k2 > k1, radius out of range, features with NaN or not of unit length.
    """
    check_features(features, unit=unit)
    check_k(len(features), k1)
    expansion.check(len(features), k1)
    kernels = kernels_for(features)
    with timed("neighbours"):
        neighbours = exact_neighbours(features, k1, kernels) if unit else euclidean_neighbours(features, k1)
    graph = graph_of(features, neighbours, radius=radius, expansion=expansion, kernels=kernels)
    return graph, neighbours


def graph_of(
    features: Tensor, neighbours: Neighbours, *, radius: float, expansion: Expansion, kernels: Kernels
) -> SparseDistances:
    """Compute the Jaccard distances at or below a radius from neighbour lists that are known."""
    with timed("reciprocal"):
        order = locality_order(neighbours.index)
        lists = neighbours.reordered(order)
        sets = expanded_sets(lists.index, kernels)
    with timed("encode"):
        encoding = encode(features, lists, sets, kernels, order)
    with timed("expand"):
        encoding = expand(encoding, lists.index, expansion.reordered(order), kernels)
    with timed("jaccard"):
        return jaccard_distances(encoding, radius, kernels, order)


def jaccard_clusters(
    features: Tensor,
    *,
    k1: int,
    eps: float,
    min_samples: int,
    expansion: Expansion,
    unit: bool = True,
) -> Clustering:
    """Cluster features by DBSCAN on their Jaccard distances.

    Parameters
    ----------
    eps : float
        Radius, in (0, 1]; 1 makes every sample the neighbour of every other.
    min_samples : int
        Samples within eps, itself counted, that make a core point.
    features, k1, expansion, unit
        As in :func:`jaccard_graph`.

    Raises
    ------
    MethodError
        k1 > n, k2 > k1, eps outside (0, 1], features with NaN or not of unit length.
    """
    check_eps(eps)
    check_min_samples(min_samples)
    radius = min(eps, LARGEST_RADIUS)
    graph, neighbours = jaccard_graph(features, k1=k1, radius=radius, expansion=expansion, unit=unit)
    with timed("cluster"):
        labels = density_clusters(graph, eps, min_samples)
    return summarise(labels, neighbours)


def density_clusters(graph: SparseDistances, eps: float, min_samples: int) -> Tensor:
    """Run DBSCAN, eps = 1 included, where all samples are neighbours and the graph says nothing."""
    if np.float32(eps) < 1:
        return dbscan(graph, eps, min_samples)
    return torch.full((len(graph),), 0 if len(graph) >= min_samples else NOISE, device=graph.indptr.device)


def summarise(labels: Tensor, neighbours: Neighbours) -> Clustering:
    """Attach the number of clusters, the neighbour distances and the lists to labels."""
    similarity = neighbours.similarity
    columns = similarity[:, min(1, similarity.shape[1] - 1)], similarity[:, -1]
    nearest, farthest = (float(2 - 2 * column.median()) for column in columns)
    return Clustering(labels, int(labels.max()) + 1, nearest, farthest, neighbours)
