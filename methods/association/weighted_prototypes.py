"""Prototypes of labels: means of features weighted by confidence (MMM, ECCV 2024)."""

from __future__ import annotations

import torch
from torch import Tensor


class WeightedPrototypes:
    """A row per group and label: the sum of weight times feature in a pass, over the number of images.

    Weights do not add up to that number, so that rows are the shorter the less their images are trusted (quirk Q56).

    Parameters
    ----------
    rows : float32 tensor (groups, labels, d)
        Owned by the prototypes from here on. A label that a pass does not meet keeps its row.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.begin()

    def begin(self) -> None:
        """Start a pass: sums start anew, rows stay until their label is met."""
        groups, labels, d = self.rows.shape
        self._sums = self.rows.new_zeros(groups * labels, d)
        self._counts = self.rows.new_zeros(groups * labels)

    def add(self, group: Tensor, label: Tensor, features: Tensor, weights: Tensor) -> None:
        """Take the images of a batch: groups, labels (b,), features (b, d), weights (b,).

        Groups and labels are on the CPU, so that the device is not asked which are met.
        """
        drawn = group * self.rows.shape[1] + label
        row, met = (tensor.to(self.rows.device, non_blocking=True) for tensor in (drawn, drawn.unique()))
        self._sums.index_add_(0, row, weights[:, None] * features.to(self._sums.dtype))
        self._counts.index_add_(0, row, torch.ones_like(weights))
        self.rows.flatten(0, 1)[met] = self._sums[met] / self._counts[met, None]
