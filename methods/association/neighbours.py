"""Nearest neighbours across modalities: lists in both directions, and pairs that list each other."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.clustering.kernels import kernels_for
from methods.clustering.neighbours import other_group_neighbours, top_neighbours


def cross_neighbours(
    visible_features: Tensor, infrared_features: Tensor, top_k: int
) -> tuple[Tensor, Tensor]:
    """List the nearest images of the other modality for every image; each pair is looked at once.

    Parameters
    ----------
    visible_features, infrared_features : float32 tensors (n_v, d) and (n_r, d), unit rows
    top_k : int
        Length of the lists; no longer than the other modality has images.

    Returns
    -------
    int64 tensors (n_v, min(top_k, n_r)) and (n_r, min(top_k, n_v))
        Infrared images of every visible one, and visible ones of every infrared one, by (larger similarity,
        smaller index).
    """
    n_v, n_r = len(visible_features), len(infrared_features)
    if not n_v or not n_r:
        nobody = torch.empty(0, dtype=torch.int64, device=visible_features.device)
        return nobody.view(n_v, min(top_k, n_r)), nobody.view(n_r, min(top_k, n_v))
    features = torch.cat([visible_features, infrared_features])
    modality = torch.arange(2, device=features.device).repeat_interleave(
        torch.tensor([n_v, n_r], device=features.device)
    )
    lists = other_group_neighbours(features, min(top_k, max(n_v, n_r)), modality, kernels_for(features))
    return lists.index[:n_v, : min(top_k, n_r)] - n_v, lists.index[n_v:, : min(top_k, n_v)]


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
