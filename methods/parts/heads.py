"""What stands on top of a backbone in training: classifiers over pseudo-labels, and modality discriminators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear

from methods.parts.backbone import Neck
from methods.parts.losses import reverse_gradient


class Classifier(nn.Module):
    """Linear classifier without bias, whose classes are only known once labels are.

    It has no class until :meth:`resize`; a checkpoint brings its number of classes with it.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, dimension))

    def resize(self, classes: int, seed: int) -> None:
        """Start anew with that many classes, weights drawn from N(0, 0.001)."""
        drawn = torch.randn(classes, self.weight.shape[1], generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(0.001 * drawn.to(self.weight.device))

    def forward(self, features: Tensor) -> Tensor:
        """Map (b, d) to logits (b, classes)."""
        return linear(features, self.weight)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict[f"{prefix}weight"]
        if stored.shape != self.weight.shape:
            self.weight = nn.Parameter(self.weight.new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ModalityDiscriminator(nn.Module):
    """OTLA's discriminator: two hidden layers with ReLU and dropout, one output, batch normalised (methods-spec 6).

    Parameters
    ----------
    dimension : int
        Of the features; hidden layers are half as wide.
    seed : int
        Of the initial weights.
    """

    def __init__(self, dimension: int, seed: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        half = dimension // 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first, second, self.out = nn.Linear(dimension, half), nn.Linear(half, half), nn.Linear(half, 1)
            for layer in (first, second):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            nn.init.normal_(self.out.weight, 0, 0.001)
            for layer in (first, second, self.out):
                nn.init.zeros_(layer.bias)
            self.norm = Neck(1)
        self.hidden = nn.ModuleList((first, second))

    def forward(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return one logit per row (b,); dropout draws from `generator` (on the CPU), so that runs repeat."""
        for layer in self.hidden:
            features = layer(features).relu()
            if self.training:
                kept = torch.rand(features.shape, generator=generator) >= self.dropout
                features = features * kept.to(features.device) / (1 - self.dropout)
        logits: Tensor = self.norm(self.out(features).float())[:, 0]
        return logits

    def loss(self, features: Tensor, visible: Tensor, scale: float, seed: int) -> Tensor:
        """Return the cross entropy of telling visible from infrared features; dropout draws from `seed`.

        What reaches the features is the reversed gradient times `scale`: they learn to look alike.
        """
        guess = self(reverse_gradient(features, scale), torch.Generator().manual_seed(seed))
        return binary_cross_entropy_with_logits(guess, visible.float())
