"""Neighbour encodings V (Zhong et al., CVPR 2017), and their expansion V' = W V."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.clustering.expansion import Expansion, MeanExpansion
from methods.clustering.kernels import Kernels
from methods.clustering.values import WEIGHT_SCALE, Encoding, Neighbours, NeighbourSets


def encode(
    features: Tensor,
    neighbours: Neighbours,
    sets: NeighbourSets,
    kernels: Kernels,
    order: Tensor | None = None,
) -> Encoding:
    """Weigh each sample's set by the softmax of -(2 - 2 f_i.f_j).

    Parameters
    ----------
    features : float32 tensor (n, d)
    neighbours : Neighbours
        Similarities already known; the others are computed.
    sets : NeighbourSets
        Expanded reciprocal sets.
    order : int64 tensor (n,), optional
        Row of `features` of every sample of the lists and sets, where they were reordered.
    """
    if order is None:
        order = torch.arange(len(features), device=features.device)
    return Encoding(sets.indptr, sets.indices, kernels.softmax_weights(features, order, neighbours, sets))


def expand(encoding: Encoding, index: Tensor, expansion: Expansion, kernels: Kernels) -> Encoding:
    """Replace each row by the expansion's mixture of its first neighbours' rows.

    Parameters
    ----------
    index : int64 or int32 tensor (n, k1)
        Neighbour lists.
    """
    if isinstance(expansion, MeanExpansion) and expansion.k2 == 1:
        return encoding  # not the mixture by weight 1: a duplicate may precede the sample in its own list
    near = index[:, : expansion.reach]
    return mix(encoding, near, expansion.weights(near, encoding.empty), kernels)


def mix(encoding: Encoding, index: Tensor, weights: Tensor, kernels: Kernels) -> Encoding:
    """Return W V; row i of W holds ``weights[i]`` at the samples ``index[i]``.

    Parameters
    ----------
    index : int64 or int32 tensor (n, p)
    weights : float64 tensor (n, p)
        Row-stochastic; entries of weight zero are not read.
    """
    return kernels.mix_rows(encoding, index, torch.round(weights * WEIGHT_SCALE).to(torch.int32))
