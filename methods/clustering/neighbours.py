"""Exact nearest neighbours by inner product.

A similarity is the inner product of two float32 rows, summed in float64 and rounded to float32, so it is the
same number whatever found the pair: block sizes, precision of the first pass, thread count and device change
nothing. Lists are ordered by (larger similarity, smaller index).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.clustering.checks import check_features, check_k


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of every sample, nearest first; a list that ends early is filled with -1 and -inf.

    Attributes
    ----------
    index : int64 tensor (n, k)
        The sample itself is in its list like any other; duplicates of it with a smaller index precede it.
    similarity : float32 tensor (n, k)
    """

    index: Tensor
    similarity: Tensor

    def first(self, k: int) -> Neighbours:
        """Return the first `k` entries of every list."""
        return Neighbours(self.index[:, :k], self.similarity[:, :k])


def nearest_neighbours(features: Tensor, k: int) -> Neighbours:
    """Find the k nearest samples of every sample, itself included, by inner product.

    Parameters
    ----------
    features : float32 tensor (n, d)
        Unit rows.
    k : int
        1..n.

    Raises
    ------
    MethodError
        For k > n, features with NaN or not of unit length.
    """
    check_features(features)
    check_k(len(features), k)
    rows = [_block(features, slice(s, s + 2048), k) for s in range(0, len(features), 2048)]
    return Neighbours(torch.cat([r.index for r in rows]), torch.cat([r.similarity for r in rows]))


def _block(features: Tensor, rows: slice, k: int) -> Neighbours:
    exact = (features[rows].double() @ features.double().T).float()
    similarity, index = torch.sort(exact, dim=1, descending=True, stable=True)
    return Neighbours(index[:, :k].clone(), similarity[:, :k].clone())
