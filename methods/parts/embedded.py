"""Former names of the clustering of rows that are not unit vectors: it is ``jaccard_clusters(..., unit=False)``."""

from __future__ import annotations

from functools import partial

from methods.clustering import jaccard_clusters
from methods.clustering.dense_search import euclidean_neighbours

__all__ = ["embedding_clusters", "euclidean_neighbours"]

embedding_clusters = partial(jaccard_clusters, unit=False)
