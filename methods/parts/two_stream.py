"""Methods on the two-stream ResNet: one forward pass a step, features by stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.base import Batch, Method, Optimisation, Stage, TrainingData
from methods.parts.backbone import TwoStreamResNet
from methods.parts.config import TrainingConfig
from methods.parts.optimisers import adam


@dataclass(frozen=True)
class Seen:
    """What the network made of the images of a step.

    Attributes
    ----------
    features : mapping of str to float32 tensor (b, d)
        Unit features by stream, in the order of the batch's parts.
    post_bn : float32 tensor (all b, d)
        Features after the BNNeck, before they are normalised, of all parts in their order.
    label_space : mapping of str to str
        The label space of every stream.
    """

    features: Mapping[str, Tensor]
    post_bn: Tensor
    label_space: Mapping[str, str]

    def of(self, label_space: str) -> Tensor:
        """Return the unit features of all images of a label space, as ``batch.of`` orders them."""
        chosen = [f for name, f in self.features.items() if self.label_space[name] == label_space]
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen)

    def joined(self, other: Seen) -> Seen:
        """Return what two forward passes on different streams saw, this one's first."""
        return Seen(
            {**self.features, **other.features},
            torch.cat([self.post_bn, other.post_bn]),
            {**self.label_space, **other.label_space},
        )


def first_network(config: TrainingConfig, data: TrainingData) -> TwoStreamResNet:
    """Make the network as it starts."""
    return TwoStreamResNet(
        data.architecture,
        non_local=config.non_local,
        non_local_width=config.non_local_width,
        bn_chunks=config.bn_chunks,
        weights=data.weights,
        seed=data.seed("backbone"),
    )


class TwoStreamMethod(Method):
    """A method on the two-stream ResNet, trained by Adam.

    Parameters
    ----------
    config : TrainingConfig
    data : TrainingData
        Gives architecture and first weights.
    """

    config: TrainingConfig

    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__(config, data, backbone=first_network(config, data))

    @property
    def renormalise_flip(self) -> bool:
        """What the setting of that name says, where a method has it."""
        return getattr(self.config, "renormalise_flip", super().renormalise_flip)

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make one Adam over the backbone."""
        return {"model": adam([self.backbone], self.config, stage)}

    def forward(self, batch: Batch) -> Seen:
        """Run all parts through the backbone as one batch.

        One pass, because batch normalisation takes its statistics over everything an optimiser step sees.
        """
        parts = batch.parts
        raw, _ = self.backbone(
            torch.cat([part.images for part in parts.values()]),
            batch.drawn().modality,
        )
        post_bn = raw.float()
        features = normalize(post_bn).split([len(part) for part in parts.values()])
        return Seen(
            dict(zip(parts, features, strict=True)),
            post_bn,
            {name: part.label_space for name, part in parts.items()},
        )
