"""Exact nearest neighbours by inner product.

A similarity is the inner product of two float32 rows, summed in float64 and rounded to float32, so it is the
same number whatever found the pair: block sizes, precision of the first pass, thread count and device change
nothing. Lists are ordered by (larger similarity, smaller index).

How: a first pass in bfloat16 computes approximate similarities in blocks, each pair once. A bound on its error
proves which samples cannot be among a row's k nearest; the rest are re-ranked by exact similarities. A row for
which the proof leaves too many samples is searched again in float32. Where the hardware has no bfloat16 units, the
first pass is one in the leading directions of the features, or a whole one in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from methods.clustering.checks import check_features, check_group, check_k
from methods.clustering.first_pass import FirstPass, float32_pass, has_bfloat16_units, preferred_pass
from methods.clustering.kernels import numba_kernels as compiled
from methods.clustering.kernels import numba_search as compiled_search
from methods.clustering.kernels import torch_kernels as portable
from methods.clustering.locality import ranks
from methods.clustering.projection import Projection, leading_projection
from methods.errors import MethodError

BLOCK = 1024
"""Rows and columns of a block of the first pass on a CPU (its 4 MB of float32 stay in cache)."""
KEEP = 4
"""Candidates for each of the k neighbours that a search by projections looks at exactly."""
FEW = 0.05
"""Share of rows up to which failed proofs are repaired row by row instead of by a whole float32 pass."""

Backend = Literal["auto", "float32", "faiss"]


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of every sample, nearest first; a list that ends early is filled with -1 and -inf.

    Attributes
    ----------
    index : int64 or int32 tensor (n, k)
        The sample itself is in its list like any other; duplicates of it with a smaller index precede it.
    similarity : float32 tensor (n, k)
    """

    index: Tensor
    similarity: Tensor

    def first(self, k: int) -> Neighbours:
        """Return the first `k` entries of every list."""
        return Neighbours(self.index[:, :k], self.similarity[:, :k])

    def reordered(self, order: Tensor) -> Neighbours:
        """Return the lists of the samples in another order, and numbered by it, as int32."""
        rank = torch.cat([ranks(order), order.new_full((1,), -1)]).int()  # -1, the end of a list, stays -1
        index = torch.take(rank, self.index).index_select(0, order)
        return Neighbours(index, self.similarity.index_select(0, order))


def nearest_neighbours(features: Tensor, k: int, *, backend: Backend = "auto") -> Neighbours:
    """Find the k nearest samples of every sample, itself included, by inner product.

    Parameters
    ----------
    features : float32 tensor (n, d)
        Unit rows.
    k : int
        1..n.
    backend : str
        ``auto`` takes the fastest first pass, ``float32`` the one in float32, ``faiss`` a flat inner-product
        index (extras ``faiss-cpu``, ``faiss-gpu``), whose rounding and order of ties are its own.

    Raises
    ------
    MethodError
        For k > n, features with NaN or not of unit length, faiss asked for and not installed.
    """
    check_features(features)
    check_k(len(features), k)
    if backend == "faiss":
        return _faiss_search(features, k)
    nobody = torch.full((len(features),), -1, dtype=torch.int32)
    if backend == "float32":
        return _search(features, k, nobody, float32_pass(features))
    return _fastest_search(features, k, nobody)


def other_group_neighbours(features: Tensor, k: int, group: Tensor) -> Neighbours:
    """Find, for every sample, the k nearest samples of other groups (cameras).

    Parameters
    ----------
    group : int64 tensor (n,)
        Lists are shorter than k where the other groups have fewer samples.
    """
    check_features(features)
    check_group("camera", group, len(features))
    numbered = torch.unique(group, return_inverse=True)[1].to(torch.int32)
    return _fastest_search(features, min(k, len(features)), numbered)


def same_group_neighbours(features: Tensor, k: int, group: Tensor) -> Neighbours:
    """Find, for every sample, the k nearest samples of its own group (camera), itself included.

    Parameters
    ----------
    group : int64 tensor (n,)
        Lists are shorter than k where a group has fewer samples.
    """
    check_features(features)
    check_group("camera", group, len(features))
    found = _empty(len(features), k, features.device)
    for g in torch.unique(group):
        mine = (group.to(features.device) == g.to(features.device)).nonzero().squeeze(1)
        part = nearest_neighbours(features[mine], min(k, len(mine)))
        width = part.index.shape[1]
        found.index[mine, :width] = mine[part.index]
        found.similarity[mine, :width] = part.similarity
    return found


def _empty(n: int, k: int, device: torch.device) -> Neighbours:
    index = torch.full((n, k), -1, dtype=torch.int64, device=device)
    return Neighbours(index, torch.full((n, k), -torch.inf, device=device))


def _fastest_search(features: Tensor, k: int, group: Tensor) -> Neighbours:
    """Search by projections where bfloat16 is not the cheaper first pass and they prove enough, else by blocks."""
    if features.device.type == "cpu" and not has_bfloat16_units(features.device):
        keep = KEEP * k
        projection = leading_projection(features, k, keep, group)
        if projection is not None:
            found = _empty(len(features), k, features.device)
            failed = _projected(features.contiguous(), group, projection, keep, found)
            if len(failed) <= FEW * len(features):
                _repair(features, group, failed, found)
                return found
    return _search(features, k, group, preferred_pass(features))


def _search(features: Tensor, k: int, group: Tensor, first_pass: FirstPass) -> Neighbours:
    found = _empty(len(features), k, features.device)
    if features.device.type == "cpu":
        failed = _blockwise(features.contiguous(), group, first_pass, found)
    else:
        failed = portable.search(
            features, group.to(features.device), first_pass, found.index, found.similarity
        )
    if len(failed) > FEW * len(features) and first_pass.bits == 16:
        return _search(features, k, group, float32_pass(features))
    _repair(features, group, failed, found)
    return found


def _blockwise(features: Tensor, group: Tensor, first_pass: FirstPass, found: Neighbours) -> Tensor:
    """Fill `found` from blocks of the first pass; return the rows that failed."""
    k = found.index.shape[1]
    room = max(192, 4 * k)
    keys, ids, size, _ = _candidates(first_pass, group, k, room)
    failed = compiled_search.settle(
        features.numpy(),
        keys,
        ids,
        size,
        k,
        first_pass.bits,
        first_pass.bound,
        found.index.numpy(),
        found.similarity.numpy(),
    )
    return torch.from_numpy(failed).nonzero().squeeze(1)


def _projected(
    features: Tensor, group: Tensor, projection: Projection, keep: int, found: Neighbours
) -> Tensor:
    """Fill `found` from the `keep` nearest by projection; return the rows that these do not prove."""
    # no bound yet: what is dropped is only remembered, and compared with the exact k-th nearest in the end
    bare = FirstPass(projection.rows, np.zeros(2))
    keys, ids, size, cut = _candidates(bare, group, keep, 2 * keep)
    failed = compiled_search.settle_projected(
        features.numpy(),
        keys,
        ids,
        size,
        cut,
        keep,
        projection.residual,
        projection.slack,
        found.index.numpy(),
        found.similarity.numpy(),
    )
    return torch.from_numpy(failed).nonzero().squeeze(1)


def _candidates(
    first_pass: FirstPass, group: Tensor, k: int, room: int
) -> tuple[compiled_search.Keys, compiled.Ints, compiled.Ints, compiled_search.Keys]:
    """Collect candidates of the k nearest in lists of `room`, from blocks of the first pass, each pair once.

    Returns
    -------
    keys, ids : integer arrays (n, room)
    size : int32 array (n,)
        Candidates of a row; -1 where they did not fit.
    cut : integer array (n,)
        No dropped sample has a key above it.
    """
    n, dtype = len(first_pass.rows), first_pass.key_dtype
    room = min(n, room)
    keys, ids = np.empty((n, room), dtype), np.empty((n, room), np.int32)
    size, cut = np.zeros(n, np.int32), np.full(n, np.iinfo(dtype).min, dtype)
    groups = group.to(torch.int32).contiguous().numpy()
    for first_row in range(0, n, BLOCK):
        for first_column in range(first_row, n, BLOCK):
            block = first_pass.block(
                slice(first_row, first_row + BLOCK), slice(first_column, first_column + BLOCK)
            )
            compiled_search.sift(
                block, first_row, first_column, keys, ids, size, cut, groups, k, first_pass.bound
            )
    return keys, ids, size, cut


def _repair(features: Tensor, group: Tensor, rows: Tensor, found: Neighbours) -> None:
    """Search some rows in float32 with room for any number of candidates, and re-rank those exactly."""
    if len(rows) == 0:
        return
    k = found.index.shape[1]
    groups = group.to(features.device)
    slack = 2 * float(float32_pass(features).bound[0]) + 1e-6
    for part in rows.split(256):
        near = features[part] @ features.T
        near[(groups[part, None] == groups[None]) & (groups[part, None] >= 0)] = -torch.inf
        kth = near.topk(k, dim=1).values[:, -1:]
        row, candidate = ((near > kth - slack) & near.isfinite()).nonzero(as_tuple=True)
        start = torch.searchsorted(row, torch.arange(len(part) + 1, device=row.device))
        portable.rank(features, part, start, candidate, found.index, found.similarity)


def _faiss_search(features: Tensor, k: int) -> Neighbours:
    try:
        import faiss
    except ImportError as error:
        raise MethodError(
            "the faiss back end is not installed; install reidbench with the extra faiss-cpu or faiss-gpu, "
            "or use the built-in search"
        ) from error
    index = faiss.IndexFlatIP(features.shape[1])
    rows = features.cpu().numpy()
    index.add(rows)
    similarity, near = index.search(rows, k)
    return Neighbours(
        torch.from_numpy(near).to(features.device), torch.from_numpy(similarity).to(features.device)
    )
