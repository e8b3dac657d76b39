"""Mutual nearest neighbours across modalities."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.clustering.neighbours import top_neighbours


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
