"""Exact nearest neighbours by plain blocks of scores: any queries and keys, and rows that are not unit vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.clustering.checks import check_k
from methods.clustering.neighbours import Neighbours


def top_neighbours(
    queries: Tensor, keys: Tensor, top_k: int, *, own: bool = False, block: int = 1024
) -> tuple[Tensor, Tensor]:
    """List the `top_k` keys most similar to every query.

    Equal similarities at the end of a list go to the lower indices. Memory: `block` x keys.

    Parameters
    ----------
    queries, keys : float32 tensors (n, d) and (m, d), unit rows
    top_k : int
        At most m entries are listed.
    own : bool
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
        if own:
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
    """Find the k samples of least Euclidean distance, itself included; `rows` (n, d) need not be unit.

    Lists are ordered by (distance, index); similarities are inner products.
    """
    check_k(len(rows), k)
    squares = (rows * rows).sum(1, keepdim=True)
    # the larger 2 a.b - b.b, the smaller |a - b|
    score, index = top_neighbours(
        torch.cat([2 * rows, -torch.ones_like(squares)], 1), torch.cat([rows, squares], 1), k, own=True
    )
    score, order = score.sort(dim=1, descending=True, stable=True)
    index = index.gather(1, order)
    return Neighbours(index, (score + squares[index].squeeze(2)) / 2)
