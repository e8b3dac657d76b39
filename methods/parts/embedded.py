"""Clusters of rows that are not unit vectors: GUR's embeddings (quirk Q29), averages over mirrors (quirk Q2)."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.association.neighbours import top_neighbours
from methods.clustering import (
    LARGEST_RADIUS,
    Clustering,
    Expansion,
    Neighbours,
    density_clusters,
    graph_of,
    summarise,
)
from methods.clustering.checks import check_eps, check_features, check_k, check_min_samples
from methods.timing import timed


def euclidean_neighbours(rows: Tensor, k: int) -> Neighbours:
    """Find the k samples of least Euclidean distance, itself included; `rows` (n, d) need not be unit.

    Lists are ordered by (distance, index); similarities are inner products.
    """
    check_k(len(rows), k)
    squares = (rows * rows).sum(1, keepdim=True)
    # the larger 2 a.b - b.b, the smaller |a - b|
    score, index = top_neighbours(
        torch.cat([2 * rows, -torch.ones_like(squares)], 1), torch.cat([rows, squares], 1), k, own=True
    )
    score, order = score.sort(dim=1, descending=True, stable=True)
    index = index.gather(1, order)
    return Neighbours(index, (score + squares[index].squeeze(2)) / 2)


def embedding_clusters(
    rows: Tensor,
    *,
    k1: int,
    eps: float,
    min_samples: int,
    expansion: Expansion,
) -> Clustering:
    """Cluster rows (n, d) of any length: Euclidean neighbours, weights and distances as for unit rows, DBSCAN.

    Parameters are those of :func:`methods.clustering.jaccard_clusters`.
    """
    check_features(rows, unit=False)
    check_eps(eps)
    check_min_samples(min_samples)
    expansion.check(len(rows), k1)
    with timed("neighbours"):
        neighbours = euclidean_neighbours(rows, k1)
    graph = graph_of(rows, neighbours, radius=min(eps, LARGEST_RADIUS), expansion=expansion)
    with timed("cluster"):
        labels = density_clusters(graph, eps, min_samples)
    return summarise(labels, neighbours)
