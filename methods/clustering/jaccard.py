"""Sparse Jaccard distances below a radius (Zhong et al., CVPR 2017, on sparse rows)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from methods.clustering.kernels import Kernels
from methods.clustering.values import WEIGHT_SCALE, Encoding, SparseDistances
from methods.errors import MethodError


def smallest_overlap(radius: float) -> int:
    """Return the smallest shared weight (> 0) whose float32 distance is at or below the float32 radius."""
    low, high = 1, WEIGHT_SCALE
    while low < high:
        middle = (low + high) // 2
        shared = middle / WEIGHT_SCALE
        if np.float32(1.0 - shared / (2.0 - shared)) <= np.float32(radius):
            high = middle
        else:
            low = middle + 1
    return low


def jaccard_distances(
    encoding: Encoding, radius: float, kernels: Kernels, order: Tensor | None = None
) -> SparseDistances:
    """Return every pair whose Jaccard distance is at or below `radius`.

    d(i, j) = max(0, 1 - s / (2 - s)), s = sum over l of min(V'[i, l], V'[j, l]), in float32.

    Parameters
    ----------
    radius : float
        In (0, 1). Distance 1 (nothing shared) is the distance of nearly all pairs and is never stored.
    order : int64 tensor (n,), optional
        The sample that the graph is to call each row of the encoding, where rows were reordered.

    Raises
    ------
    MethodError
        For a radius outside (0, 1).
    """
    if not 0 < np.float32(radius) < 1:
        raise MethodError(
            f"radius = {radius} is outside (0, 1): a sparse graph cannot hold pairs that share nothing"
        )
    if order is None:
        order = torch.arange(len(encoding), device=encoding.indptr.device)
    overlap = kernels.overlaps(encoding, smallest_overlap(radius), order)
    return SparseDistances(overlap.indptr, overlap.indices, kernels.distance_of(overlap.values), radius)
