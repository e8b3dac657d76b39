"""k-reciprocal neighbour sets and their expansion (Zhong et al., CVPR 2017)."""

from __future__ import annotations

from torch import Tensor

from methods.clustering.kernels import Kernels
from methods.clustering.values import NeighbourSets


def half_of(k1: int) -> int:
    """Return the list length of half sets: k1 / 2 rounded half to even, plus one, at most k1."""
    return min(k1, round(k1 / 2) + 1)


def reciprocal_sets(index: Tensor, kernels: Kernels) -> NeighbourSets:
    """Return R(i) = { j in list i : i in list j }.

    Parameters
    ----------
    index : int64 or int32 tensor (n, k)
        Neighbour lists; -1 fills lists that end early.
    """
    return kernels.expanded_sets(index, 0)


def expanded_sets(index: Tensor, kernels: Kernels) -> NeighbourSets:
    """Return R*(i): R(i) with every half set R_h(j), j in R(i), of which more than two thirds lie in R(i).

    Parameters
    ----------
    index : int64 or int32 tensor (n, k1)
        Neighbour lists.
    """
    return kernels.expanded_sets(index, half_of(index.shape[1]))
