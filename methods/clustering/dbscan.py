"""Density clustering of a sparse distance graph (methods-spec section 1.5)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from methods.clustering.checks import check_min_samples
from methods.clustering.jaccard import Graph
from methods.clustering.kernels import numba_kernels as compiled
from methods.clustering.kernels import torch_kernels as portable


def dbscan(graph: Graph, eps: float, min_samples: int) -> Tensor:
    """Cluster by DBSCAN; labels equal scikit-learn's on the same distances, numbers included.

    A core point has at least `min_samples` samples, itself counted, within `eps` (``<=``). Clusters are
    numbered by their first core point in index order; a border point joins the lowest-numbered cluster that
    reaches it.

    Parameters
    ----------
    graph : Graph
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
    core = near.start[1:] - near.start[:-1] >= min_samples
    if core.device.type != "cpu":
        return portable.density_labels(near.row, near.neighbour, core)
    return torch.from_numpy(
        compiled.density_labels(
            near.start.numpy(), near.neighbour.numpy(), np.ascontiguousarray(core.numpy())
        )
    )
