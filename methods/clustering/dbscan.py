"""Density clustering of a sparse distance graph (DBSCAN; Ester et al., KDD 1996)."""

from __future__ import annotations

from torch import Tensor

from methods.clustering.checks import check_min_samples
from methods.clustering.kernels import kernels_for
from methods.clustering.values import SparseDistances


def dbscan(graph: SparseDistances, eps: float, min_samples: int) -> Tensor:
    """Cluster by DBSCAN; labels equal scikit-learn's on the same distances, numbers included.

    A core point has at least `min_samples` samples, itself counted, within `eps` (``<=``). Clusters are
    numbered by their first core point in index order; a border point joins the lowest-numbered cluster that
    reaches it.

    Parameters
    ----------
    graph : SparseDistances
        Distances up to at least `eps`.

    Returns
    -------
    int64 tensor (n,)
        -1 is noise.

    Raises
    ------
    MethodError
        If the graph ends below `eps`, or min_samples < 1.
    """
    check_min_samples(min_samples)
    near = graph if eps == graph.radius else graph.below(eps)
    return kernels_for(near.indptr).density_labels(near, near.sizes >= min_samples)
