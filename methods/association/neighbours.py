"""Exact nearest neighbours by blocks, and mutual neighbours across modalities (methods-spec 8 and 10)."""

from __future__ import annotations

import torch
from torch import Tensor


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


def mutual_neighbours(
    visible_features: Tensor,
    infrared_features: Tensor,
    visible_labels: Tensor,
    infrared_labels: Tensor,
    top_k: int,
    *,
    block: int = 1024,
) -> Tensor:
    """Pair the images that list each other across modalities and share a joint label (ECUL, reconstructed).

    Parameters
    ----------
    visible_features, infrared_features : float32 tensors (n_v, d) and (n_r, d), unit rows
    visible_labels, infrared_labels : int64 tensors (n_v,) and (n_r,)
        Joint labels; noise (< 0) has no pairs.
    top_k : int
        Length of the cross-modality lists.
    block : int
        Rows at a time.

    Returns
    -------
    int64 tensor (pairs, 2)
        Visible and infrared index, in increasing order.
    """
    n_v, n_r = len(visible_features), len(infrared_features)
    device = visible_features.device
    forth = top_neighbours(visible_features, infrared_features, top_k, block=block)[1]
    back = top_neighbours(infrared_features, visible_features, top_k, block=block)[1]
    forth_keys = (torch.arange(n_v, device=device)[:, None] * n_r + forth).flatten()
    back_keys = (back * n_r + torch.arange(n_r, device=device)[:, None]).flatten()
    mutual = forth_keys[torch.isin(forth_keys, back_keys, assume_unique=True)]
    if not len(mutual):
        return mutual.new_empty(0, 2)
    pairs = torch.stack([mutual // n_r, mutual % n_r], dim=1)
    first, second = visible_labels.to(device)[pairs[:, 0]], infrared_labels.to(device)[pairs[:, 1]]
    return pairs[(first == second) & (first >= 0)]
