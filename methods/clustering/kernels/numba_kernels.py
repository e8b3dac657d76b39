"""The back end for main memory: compiled loops over the arrays of tensors, in as many threads as numba has."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from methods.clustering.kernels import numba_dbscan, numba_encoding, numba_overlaps, numba_sets
from methods.clustering.kernels.numba_arrays import Ints, Rows
from methods.clustering.kernels.numba_search import searches
from methods.clustering.values import CSR, Encoding, Neighbours, NeighbourSets

__all__ = [
    "density_labels",
    "distance_of",
    "expanded_sets",
    "mix_rows",
    "overlaps",
    "searches",
    "softmax_weights",
]


def expanded_sets(index: Tensor, half: int) -> NeighbourSets:
    """Return the expanded k-reciprocal sets; see :class:`~methods.clustering.kernels.interface.Kernels`."""
    indptr, members = numba_sets.expanded_sets(_ints(index), half, numba.get_num_threads())
    indices = torch.from_numpy(members)
    return NeighbourSets(torch.from_numpy(indptr), indices, indices[:0])


def softmax_weights(features: Tensor, order: Tensor, neighbours: Neighbours, sets: NeighbourSets) -> Tensor:
    """Return the weights of the sets' members; similarities that `neighbours` hold are not computed again."""
    weight = numba_encoding.softmax_weights(
        features.numpy(),
        order.numpy(),
        _ints(neighbours.index),
        np.ascontiguousarray(neighbours.similarity.numpy()),
        sets.indptr.numpy(),
        sets.indices.numpy(),
    )
    return torch.from_numpy(weight)


def mix_rows(encoding: Encoding, index: Tensor, share: Tensor) -> Encoding:
    """Return W V."""
    mixed = numba_encoding.mix_rows(_rows(encoding), _ints(index), _ints(share), numba.get_num_threads())
    return Encoding(*map(torch.from_numpy, mixed))


def overlaps(encoding: Encoding, min_overlap: int, order: Tensor) -> CSR:
    """Return the shared weights that reach `min_overlap`."""
    shared = numba_overlaps.overlaps(_rows(encoding), min_overlap, order.numpy(), numba.get_num_threads())
    return CSR(*map(torch.from_numpy, shared))


def distance_of(overlap: Tensor) -> Tensor:
    """Return the distances of shared weights."""
    return torch.from_numpy(numba_overlaps.distance_of(overlap.numpy()))


def density_labels(graph: CSR, core: Tensor) -> Tensor:
    """Return the labels of a depth-first search."""
    labels = numba_dbscan.density_labels(
        graph.indptr.numpy(), graph.indices.numpy(), np.ascontiguousarray(core.numpy())
    )
    return torch.from_numpy(labels)


def _rows(sparse: CSR) -> Rows:
    return Rows(sparse.indptr.numpy(), sparse.indices.numpy(), sparse.values.numpy())


def _ints(values: Tensor) -> Ints:
    return np.ascontiguousarray(values.numpy(), dtype=np.int32)
