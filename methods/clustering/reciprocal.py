"""k-reciprocal neighbour sets and their expansion (Zhong et al., CVPR 2017; dmic-spec section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor

from methods.clustering.kernels import numba_kernels as compiled
from methods.clustering.kernels import torch_kernels as portable

CHUNK = 512


@dataclass(frozen=True)
class Sets:
    """A set of samples for every sample, one after the other.

    Attributes
    ----------
    start : int64 tensor (n + 1,)
        Set i is ``member[start[i]:start[i + 1]]``.
    member : int32 tensor (m,)
        In any order within a set.
    """

    start: Tensor
    member: Tensor

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, i: int) -> Tensor:
        return self.member[int(self.start[i]) : int(self.start[i + 1])]


def half_of(k1: int) -> int:
    """Return the list length of half sets: k1 / 2 rounded half to even, plus one, at most k1."""
    return min(k1, round(k1 / 2) + 1)


def reciprocal_sets(index: Tensor) -> Sets:
    """Return R(i) = { j in list i : i in list j }.

    Parameters
    ----------
    index : int64 or int32 tensor (n, k)
        Neighbour lists; -1 fills lists that end early.
    """
    return _sets(index, half=0)


def expanded_sets(index: Tensor) -> Sets:
    """Return R*(i): R(i) with every half set R_h(j), j in R(i), of which more than two thirds lie in R(i).

    Parameters
    ----------
    index : int64 or int32 tensor (n, k1)
        Neighbour lists.
    """
    return _sets(index, half=half_of(index.shape[1]))


def _sets(index: Tensor, half: int) -> Sets:
    if index.device.type != "cpu":
        return Sets(*portable.expanded_sets(index, half))
    lists = np.ascontiguousarray(index.numpy(), dtype=np.int32)
    rank = compiled.reverse_rank(lists)
    start, member = compiled.expanded_sets(lists, rank, half, CHUNK, numba.get_num_threads())
    return Sets(torch.from_numpy(start), torch.from_numpy(member))
