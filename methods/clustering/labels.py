"""Pseudo-labels: int64 tensors numbered from 0, with -1 for noise and -2 for samples outside a label space."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE = -1
"""Label of a sample that no cluster took."""
OUTSIDE = -2
"""Label of a sample that does not belong to a label space (an infrared image among visible labels)."""


def n_clusters(labels: Tensor) -> int:
    """Count the clusters of labels numbered from 0, noise (-1) and OUTSIDE (-2) aside."""
    return int(labels.max().item()) + 1 if len(labels) and bool((labels >= 0).any()) else 0


def scatter_labels(labels: Tensor, index: Tensor, n: int) -> Tensor:
    """Put labels of the rows `index` into an array over all `n` training rows; OUTSIDE elsewhere."""
    full = torch.full((n,), OUTSIDE, dtype=torch.int64)
    full[index.cpu()] = labels.cpu()
    return full


def own_label_for_noise(labels: Tensor) -> Tensor:
    """Number every noise sample (label < 0) on its own, after the clusters and in index order."""
    noise = labels < 0
    first = int(labels.max()) + 1 if bool((~noise).any()) else 0
    return torch.where(noise, first + noise.cumsum(0) - 1, labels)


def without_singletons(classes: Tensor) -> Tensor:
    """Number the classes of two images and more from 0; the others are noise."""
    _, position, size = classes.unique(return_inverse=True, return_counts=True)
    kept = size > 1
    return torch.where(kept, kept.cumsum(0) - 1, NOISE)[position]


def in_both_modalities(labels: Tensor, modality: Tensor) -> Tensor:
    """Return which samples (n,) are in a cluster that has images of both modalities (0 and 1)."""
    size, modality = n_clusters(labels), modality.to(labels.device)
    inside = labels > NOISE
    present = [labels[inside & (modality == m)].bincount(minlength=size) > 0 for m in (0, 1)]
    return inside & (present[0] & present[1])[labels.clamp(min=0)] if size else inside


def shared_clusters(labels: Tensor, modality: Tensor) -> float:
    """Count the clusters that have images of both modalities."""
    return float(len(labels[in_both_modalities(labels, modality)].unique()))
