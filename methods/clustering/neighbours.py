"""Exact nearest neighbours by inner product, and by Euclidean distance for rows that are not unit vectors.

A similarity is the inner product of two float32 rows, summed in float64 and rounded to float32, so it is the
same number whatever found the pair: block sizes, precision of the first pass, thread count and device change
nothing. Lists are ordered by (larger similarity, smaller index).

How: a first pass in bfloat16 computes approximate similarities in blocks, each pair once. A bound on its error
proves which samples cannot be among a row's k nearest; the rest are re-ranked by exact similarities. A row for
which the proof leaves too many samples is searched again in float32. Where the hardware has no bfloat16 units, the
first pass is one in the leading directions of the features, or a whole one in float32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from methods.clustering.checks import check_features, check_group, check_k
from methods.clustering.kernels import Kernels, kernels_for
from methods.clustering.kernels.torch_search import repair
from methods.clustering.values import Neighbours
from methods.errors import MethodError

REPAIRABLE = 0.05
"""Share of rows up to which failed proofs are repaired row by row instead of by a whole float32 pass."""

Backend = Literal["auto", "float32", "faiss"]


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
    return exact_neighbours(features, k, kernels_for(features), fastest=backend == "auto")


def exact_neighbours(
    features: Tensor, k: int, kernels: Kernels, *, group: Tensor | None = None, fastest: bool = True
) -> Neighbours:
    """Find the k nearest samples of every sample; the features are known to be good.

    Parameters
    ----------
    group : integer tensor (n,), optional
        Pairs of one group (>= 0) do not count; lists are shorter than k where the other groups have fewer samples.
    fastest : bool
        False takes no first pass but the one in float32.
    """
    if group is None:
        group = torch.full((len(features),), -1, dtype=torch.int32)
    for result in kernels.searches(features, k, group, fastest=fastest):
        if len(result.unproven) <= REPAIRABLE * len(features):
            break
    repair(features, group, result.unproven, result.lists)
    return result.lists


def other_group_neighbours(features: Tensor, k: int, group: Tensor, kernels: Kernels) -> Neighbours:
    """Find, for every sample, the k nearest samples of other groups (cameras).

    Parameters
    ----------
    features : float32 tensor (n, d)
        Unit rows.
    group : int64 tensor (n,)
        Lists are shorter than k where the other groups have fewer samples.
    """
    check_group("camera", group, len(features))
    numbered = torch.unique(group, return_inverse=True)[1].to(torch.int32)
    return exact_neighbours(features, min(k, len(features)), kernels, group=numbered)


def same_group_neighbours(features: Tensor, k: int, group: Tensor, kernels: Kernels) -> Neighbours:
    """Find, for every sample, the k nearest samples of its own group (camera), itself included.

    Parameters
    ----------
    features : float32 tensor (n, d)
        Unit rows.
    group : int64 tensor (n,)
        Lists are shorter than k where a group has fewer samples.
    """
    check_group("camera", group, len(features))
    lists = Neighbours.empty(len(features), k, features.device)
    for g in torch.unique(group):
        members = (group.to(features.device) == g.to(features.device)).nonzero().squeeze(1)
        part = exact_neighbours(features[members], min(k, len(members)), kernels)
        width = part.index.shape[1]
        lists.index[members, :width] = members[part.index]
        lists.similarity[members, :width] = part.similarity
    return lists


def top_neighbours(
    queries: Tensor, keys: Tensor, top_k: int, *, include_self: bool = False, block: int = 1024
) -> tuple[Tensor, Tensor]:
    """List the `top_k` keys most similar to every query.

    Equal similarities at the end of a list go to the lower indices. Memory: `block` x keys.

    Parameters
    ----------
    queries, keys : float32 tensors (n, d) and (m, d), unit rows
    top_k : int
        At most m entries are listed.
    include_self : bool
        Queries are the keys, and a sample is in its own list even if it has more than `top_k` duplicates.
    block : int
        Queries at a time.

    Returns
    -------
    similarity, index : float32 and int64 tensors (n, min(top_k, m))
        Each list in increasing order of *index*.
    """
    top_k = min(top_k, len(keys))
    parts = []
    for start in range(0, len(queries), block):
        similarity = queries[start : start + block] @ keys.T
        ranked = similarity
        if include_self:
            at = torch.arange(len(similarity), device=similarity.device)
            ranked = similarity.index_put((at, at + start), similarity.new_tensor(torch.inf))
        index = _largest(ranked, top_k)
        parts.append((similarity.gather(1, index), index))
    if not parts:
        return queries.new_empty(0, top_k), torch.empty(0, top_k, dtype=torch.int64, device=queries.device)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the indices (b, count) of the largest entries of each row, the first ones on ties."""
    if not count:
        return torch.empty(len(values), 0, dtype=torch.int64, device=values.device)
    # topk alone leaves open which of several equal entries it takes
    last = values.topk(count, sorted=True).values[:, -1:]
    above, equal = values > last, values == last
    room = count - above.sum(1, keepdim=True)
    taken = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return taken.nonzero()[:, 1].view(len(values), count)


def euclidean_neighbours(rows: Tensor, k: int) -> Neighbours:
    """Find the k samples of least Euclidean distance, itself included; `rows` (n, d) need not be unit vectors.

    Lists are ordered by (distance, index); similarities are inner products.
    """
    squares = (rows * rows).sum(1, keepdim=True)
    # the larger 2 a.b - b.b, the smaller |a - b|
    score, index = top_neighbours(
        torch.cat([2 * rows, -torch.ones_like(squares)], 1),
        torch.cat([rows, squares], 1),
        k,
        include_self=True,
    )
    score, order = score.sort(dim=1, descending=True, stable=True)
    index = index.gather(1, order)
    return Neighbours(index, (score + squares[index].squeeze(2)) / 2)


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
