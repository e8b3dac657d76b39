"""The clustering core: features in, pseudo-labels out; exact, sparse, deterministic.

neighbours -> k-reciprocal sets -> encoding V -> expansion V' = W V -> Jaccard distances below a radius ->
density clustering. A method calls :func:`jaccard_clusters` or :func:`camera_aware_clusters`; every stage is a
function that can be used alone, given the back end of :func:`kernels_for`. ``kernels`` holds the loops, ``values``
what the stages hand on, ``labels`` what anybody may do with pseudo-labels. Nothing here knows a method, an image or
a file: arrays in, arrays out. ``other_clusterers``, on SciPy and scikit-learn, is imported by who wants one of them.
"""

from methods.clustering.camera_aware import CameraAware, camera_aware_clusters, camera_aware_graph
from methods.clustering.dbscan import dbscan
from methods.clustering.encoding import encode, expand
from methods.clustering.expansion import (
    MIE,
    Capped,
    Expansion,
    MeanExpansion,
    ModalityMean,
)
from methods.clustering.first_pass import has_bfloat16_units
from methods.clustering.jaccard import jaccard_distances
from methods.clustering.kernels import Kernels, kernels_for
from methods.clustering.neighbours import nearest_neighbours
from methods.clustering.pipeline import (
    LARGEST_RADIUS,
    Clustering,
    density_clusters,
    graph_of,
    jaccard_clusters,
    jaccard_graph,
    summarise,
)
from methods.clustering.reciprocal import expanded_sets, reciprocal_sets
from methods.clustering.registry import EXPANSIONS
from methods.clustering.values import CSR, Encoding, Neighbours, NeighbourSets, SparseDistances

__all__ = [
    "CSR",
    "EXPANSIONS",
    "LARGEST_RADIUS",
    "MIE",
    "CameraAware",
    "Capped",
    "Clustering",
    "Encoding",
    "Expansion",
    "Kernels",
    "MeanExpansion",
    "ModalityMean",
    "NeighbourSets",
    "Neighbours",
    "SparseDistances",
    "camera_aware_clusters",
    "camera_aware_graph",
    "dbscan",
    "density_clusters",
    "encode",
    "expand",
    "expanded_sets",
    "graph_of",
    "has_bfloat16_units",
    "jaccard_clusters",
    "jaccard_distances",
    "jaccard_graph",
    "kernels_for",
    "nearest_neighbours",
    "reciprocal_sets",
    "summarise",
]
