"""The clustering core: features in, pseudo-labels out; exact, sparse, deterministic.

neighbours -> k-reciprocal sets -> encoding V -> expansion V' = W V -> Jaccard distances below a radius ->
density clustering. Every stage is a function that can be used alone.
"""

from methods.clustering.dbscan import dbscan
from methods.clustering.encoding import Encoding, encode, expand
from methods.clustering.expansion import Capped, Expansion, ModalityCamera, ModalityMean, NoExpansion, Plain
from methods.clustering.jaccard import Graph, jaccard_distances
from methods.clustering.neighbours import Neighbours, nearest_neighbours
from methods.clustering.pipeline import Clustering, jaccard_clusters, jaccard_graph
from methods.clustering.reciprocal import Sets, expanded_sets, reciprocal_sets

__all__ = [
    "Capped",
    "Clustering",
    "Encoding",
    "Expansion",
    "Graph",
    "ModalityCamera",
    "ModalityMean",
    "Neighbours",
    "NoExpansion",
    "Plain",
    "Sets",
    "dbscan",
    "encode",
    "expand",
    "expanded_sets",
    "jaccard_clusters",
    "jaccard_distances",
    "jaccard_graph",
    "nearest_neighbours",
    "reciprocal_sets",
]
