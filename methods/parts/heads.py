"""What stands on top of a backbone in training: a classifier over labels, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Classifier(nn.Module):
    """Linear classifier without bias, whose classes are only known once labels are.

    It has no class until :meth:`resize`; a checkpoint brings its number of classes with it.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, dimension))

    def resize(self, classes: int, seed: int) -> None:
        """Start anew with that many classes, weights drawn from N(0, 0.001).

        The parameter stays the same object: an optimiser that was made before, with no step since, moves the new ones.
        """
        drawn = torch.randn(classes, self.weight.shape[1], generator=torch.Generator().manual_seed(seed))
        self.weight.grad = None
        self.weight.data = 0.001 * drawn.to(self.weight.device)

    def forward(self, features: Tensor) -> Tensor:
        """Map (b, d) to logits (b, classes)."""
        return linear(features, self.weight)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict[f"{prefix}weight"]
        if stored.shape != self.weight.shape:
            self.weight = nn.Parameter(self.weight.new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


@dataclass(frozen=True)
class Predictions:
    """What networks made of a batch: features (b, d) before the neck and logits (b, classes), float32."""

    pooled: Tensor
    logits: Tensor
