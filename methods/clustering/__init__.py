"""The clustering core: features in, pseudo-labels out; exact, sparse, deterministic.

neighbours -> k-reciprocal sets -> encoding V -> expansion V' = W V -> Jaccard distances below a radius ->
density clustering. Every stage is a function that can be used alone.
"""

from methods.clustering.camera_aware import CameraAware, camera_aware_clusters, camera_aware_graph
from methods.clustering.dbscan import dbscan
from methods.clustering.encoding import Encoding, encode, expand
from methods.clustering.expansion import (
    MIE,
    Capped,
    Expansion,
    MeanExpansion,
    ModalityCamera,
    ModalityMean,
    NoExpansion,
    Plain,
)
from methods.clustering.first_pass import has_bfloat16_units
from methods.clustering.jaccard import Graph, jaccard_distances
from methods.clustering.neighbours import Neighbours, nearest_neighbours
from methods.clustering.other_clusterers import agglomerative, hdbscan, infomap, neighbour_infomap
from methods.clustering.pipeline import (
    LARGEST_RADIUS,
    Clustering,
    density_clusters,
    graph_of,
    jaccard_clusters,
    jaccard_graph,
    summarise,
)
from methods.clustering.reciprocal import Sets, expanded_sets, reciprocal_sets

__all__ = [
    "LARGEST_RADIUS",
    "MIE",
    "CameraAware",
    "Capped",
    "Clustering",
    "Encoding",
    "Expansion",
    "Graph",
    "MeanExpansion",
    "ModalityCamera",
    "ModalityMean",
    "Neighbours",
    "NoExpansion",
    "Plain",
    "Sets",
    "agglomerative",
    "camera_aware_clusters",
    "camera_aware_graph",
    "dbscan",
    "density_clusters",
    "encode",
    "expand",
    "expanded_sets",
    "graph_of",
    "has_bfloat16_units",
    "hdbscan",
    "infomap",
    "jaccard_clusters",
    "jaccard_distances",
    "jaccard_graph",
    "nearest_neighbours",
    "neighbour_infomap",
    "reciprocal_sets",
    "summarise",
]
