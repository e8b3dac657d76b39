"""The clustering core: neighbours, k-reciprocal encoding, expansion, Jaccard distance, density clustering.

Pure functions, arrays in and out; no training, no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from methods.base import StageTimer, no_timer
from methods.clustering.dbscan import dbscan
from methods.clustering.encoding import Capped, Expansion, ModalityCamera, ModalityMean, Plain, check_k2, encode
from methods.clustering.jaccard import jaccard_graph
from methods.clustering.neighbours import Neighbours, nearest_neighbours
from methods.clustering.reciprocal import expanded_sets
from methods.errors import MethodError

__all__ = [
    "Capped",
    "Clustering",
    "Expansion",
    "ModalityCamera",
    "ModalityMean",
    "Neighbours",
    "Plain",
    "dbscan",
    "distance_graph",
    "jaccard_clusters",
    "nearest_neighbours",
]


@dataclass(frozen=True)
class Clustering:
    """Labels of a clustering, and what helps to explain it.

    Attributes
    ----------
    labels : int64 tensor (n,), on the device of the features; -1 is noise
    graph : float32 csr array (n, n)
        Jaccard distances within eps.
    """

    labels: Tensor
    graph: csr_array


def check_radius(eps: float) -> None:
    """Refuse an eps that is no Jaccard distance."""
    if not 0 < eps <= 1:
        raise MethodError(f"eps = {eps} is not in (0, 1]: Jaccard distances are between 0 and 1")


def distance_graph(
    features: Tensor, *, k1: int, radius: float, expansion: Expansion, stage: StageTimer = no_timer
) -> csr_array:
    """Return the k-reciprocal Jaccard distances within a radius (dmic-spec section 2).

    Parameters
    ----------
    features : float32 tensor (n, d), unit rows
    k1 : int
        List length, the sample itself included (quirk Q3).
    radius : float in (0, 1]
    expansion : Expansion
        Local query expansion.
    stage : StageTimer
        Measures ``neighbours``, ``reciprocal``, ``encode``, ``expand`` and ``jaccard``.

    Raises
    ------
    MethodError
        Unusable features, k1 larger than n, k2 larger than k1, radius out of range.
    """
    check_radius(radius)
    check_k2(expansion.k2, k1)
    with stage("neighbours"):
        index = nearest_neighbours(features, k1).index.cpu().numpy()
    with stage("reciprocal"):
        sets = expanded_sets(index)
    with stage("encode"):
        encoding = encode(features, sets)
    with stage("expand"):
        empty = np.diff(encoding.indptr) == 0
        encoding = csr_array(expansion.weights(index, empty) @ encoding)
    with stage("jaccard"):
        return jaccard_graph(encoding, radius)


def jaccard_clusters(
    features: Tensor,
    *,
    k1: int,
    eps: float,
    min_samples: int,
    expansion: Expansion,
    stage: StageTimer = no_timer,
) -> Clustering:
    """Cluster by DBSCAN on k-reciprocal Jaccard distances; parameters and errors as :func:`distance_graph`."""
    graph = distance_graph(features, k1=k1, radius=eps, expansion=expansion, stage=stage)
    with stage("cluster"):
        labels = dbscan(graph, min_samples)
    return Clustering(torch.from_numpy(labels).to(features.device), graph)
