"""Neighbour encodings V and their expansion V' = W V (dmic-spec section 2, steps 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from methods.clustering.expansion import Expansion, MeanExpansion, NoExpansion
from methods.clustering.kernels import numba_kernels as compiled
from methods.clustering.kernels import torch_kernels as portable
from methods.clustering.kernels.numba_kernels import ONE
from methods.clustering.neighbours import Neighbours
from methods.clustering.reciprocal import Sets

CHUNK = 256


@dataclass(frozen=True)
class Encoding:
    """Sparse rows of weights, one row per sample over the samples.

    Weights are integers in units of 2**-30: their sums are exact, so results depend neither on the order of
    summation nor on the device. The rounding (at most 2**-31 a weight) is below float32's own.

    Attributes
    ----------
    start : int64 tensor (n + 1,)
    column, weight : int32 tensors (m,)
    """

    start: Tensor
    column: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def empty(self) -> Tensor:
        """Return which rows are all zero: bool tensor (n,)."""
        return self.start[1:] == self.start[:-1]

    def matrix(self) -> sparse.csr_array:
        """Return the rows as a SciPy matrix of float64."""
        n = len(self)
        weight = self.weight.cpu().numpy().astype(np.float64) / ONE
        return sparse.csr_array((weight, self.column.cpu().numpy(), self.start.cpu().numpy()), shape=(n, n))


def encode(features: Tensor, neighbours: Neighbours, sets: Sets, order: Tensor | None = None) -> Encoding:
    """Weigh each sample's set by the softmax of -(2 - 2 f_i.f_j).

    Parameters
    ----------
    features : float32 tensor (n, d)
    neighbours : Neighbours
        Similarities already known; the others are computed.
    sets : Sets
        Expanded reciprocal sets.
    order : int64 tensor (n,), optional
        Row of `features` of every sample of the lists and sets, where they were reordered.
    """
    if order is None:
        order = torch.arange(len(features), device=features.device)
    if features.device.type != "cpu":
        portable_weight = portable.softmax_weights(features, order, sets.start, sets.member)
        return Encoding(sets.start, sets.member, portable_weight)
    weight = compiled.softmax_weights(
        features.numpy(),
        order.numpy(),
        np.ascontiguousarray(neighbours.index.numpy(), dtype=np.int32),
        np.ascontiguousarray(neighbours.similarity.numpy()),
        sets.start.numpy(),
        sets.member.numpy(),
    )
    return Encoding(sets.start, sets.member, torch.from_numpy(weight))


def expand(encoding: Encoding, index: Tensor, expansion: Expansion) -> Encoding:
    """Replace each row by the expansion's mixture of its first neighbours' rows.

    Parameters
    ----------
    index : int64 or int32 tensor (n, k1)
        Neighbour lists.
    """
    if isinstance(expansion, NoExpansion) or (isinstance(expansion, MeanExpansion) and expansion.k2 == 1):
        return encoding
    near = index[:, : expansion.reach]
    return mix(encoding, near, expansion.weights(near, encoding.empty))


def mix(encoding: Encoding, index: Tensor, weights: Tensor) -> Encoding:
    """Return W V; row i of W holds ``weights[i]`` at the samples ``index[i]``.

    Parameters
    ----------
    index : int64 or int32 tensor (n, p)
    weights : float64 tensor (n, p)
        Row-stochastic; entries of weight zero are not read.
    """
    share = torch.round(weights * ONE).to(torch.int32)
    if index.device.type != "cpu":
        return Encoding(*portable.mix_rows(encoding.start, encoding.column, encoding.weight, index, share))
    mixed = compiled.mix_rows(
        encoding.start.numpy(),
        encoding.column.numpy(),
        encoding.weight.numpy(),
        np.ascontiguousarray(index.numpy(), dtype=np.int32),
        share.contiguous().numpy(),
        CHUNK,
        numba.get_num_threads(),
    )
    return Encoding(*(torch.from_numpy(part) for part in mixed))
