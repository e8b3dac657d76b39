"""What methods that train a two-stream network with cluster memories share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from methods.base import (
    INFRARED,
    NOISE,
    VISIBLE,
    EpochPlan,
    FeatureBank,
    Method,
    MethodConfig,
    Optimisation,
    Part,
    Stage,
    TrainingData,
    setting,
)
from methods.clustering import Clustering
from methods.clustering.labels import n_clusters
from methods.parts.backbone import TwoStreamResNet

PLAIN_AVERAGE = (
    "ours: image and mirror averaged, of unit length; the published code leaves it shorter (public; quirk Q2)"
)
"""Source of a method's features, where its published code does not normalise the average again."""
FROZEN_ROWS = (
    "ours: those of the forward pass; the published code moves them between two gradients (public; quirk Q6)"
)
"""Source of the rows that gradients see, where a memory serves several losses of a step."""
DEMO_WARMED_UP: Mapping[str, Any] = {"iterations": 6, "instances": 4, "lr_schedule": "cosine"}
"""Training of the preset ``demo``: the sizes of the synthetic twins, minutes on two cores."""
DEMO: Mapping[str, Any] = {**DEMO_WARMED_UP, "learning_rate": 1.5e-4}
"""The same for methods on `TrainingConfig`; the rate was chosen on the twins of seed 7, which no table shows."""


class TrainingConfig(MethodConfig):
    """Fields of every method that trains; defaults are the field's common ones (methods-spec 1.9)."""

    learning_rate: float = setting(3.5e-4, "predecessor", "Adam learning rate", gt=0)
    weight_decay: float = setting(5e-4, "predecessor", "L2 weight decay", ge=0)
    lr_schedule: Literal["step", "cosine"] = setting("step", "predecessor", "decay of the learning rate")
    lr_step: int = setting(20, "predecessor", "epochs between two decays by lr_gamma (step)", ge=1)
    lr_gamma: float = setting(0.1, "predecessor", "factor of a decay (step)", gt=0, le=1)
    iterations: int = setting(200, "predecessor", "iterations an epoch", ge=1)
    labels_per_batch: int = setting(4, "predecessor", "pseudo-identities in a batch of a stream", ge=1)
    instances: int = setting(16, "predecessor", "images of each pseudo-identity", ge=2)
    temperature: float = setting(0.05, "published code", "temperature of contrastive losses", gt=0)
    min_samples: int = setting(
        4, "published code", "DBSCAN: a core point's neighbours, itself included", ge=1
    )
    non_local: bool = setting(False, "published code", "non-local blocks in layer2 and layer3")
    non_local_width: int = setting(
        1, "published code", "inner channels of a non-local block (quirk Q1)", ge=1
    )
    bn_chunks: int = setting(
        1, "reconstructed", "emulate n DataParallel chunks in batch norm (quirk Q12)", ge=1
    )


def learning_rate_factor(config: TrainingConfig, epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate in epoch `epoch` of a stage of `epochs`."""
    if config.lr_schedule == "step":
        return config.lr_gamma ** (epoch // config.lr_step)
    return max(0.5 * (1 + math.cos(math.pi * epoch / epochs)), 0.01)


def warm_up_factor(schedule: str, epoch: int, epochs: int) -> float:
    """Return AGW's and OTLA's factor of the learning rate (methods-spec 6, 11.1).

    ``step`` rises over ten epochs and falls to 0.1 at epoch 20 and to 0.01 at epoch 50; ``cosine`` is ours for
    short runs: it rises over an eighth of them.
    """
    if schedule == "step":
        return (epoch + 1) / 10 if epoch < 10 else 1.0 if epoch < 20 else 0.1 if epoch < 50 else 0.01
    rise = (epoch + 1) / max(1, round(epochs / 8))
    return min(rise, max(0.5 * (1 + math.cos(math.pi * epoch / epochs)), 0.01))


class WarmUpConfig(MethodConfig):
    """Two learning rates under a warm-up, as in AGW and OTLA; defaults are AGW's."""

    learning_rate: float = setting(0.1, "published code", "learning rate of necks and heads", gt=0)
    backbone_rate: float = setting(
        0.1, "published code", "the backbone's learning rate, as a share of it", gt=0
    )
    weight_decay: float = setting(5e-4, "published code", "L2 weight decay", ge=0)
    lr_schedule: Literal["step", "cosine"] = setting(
        "step", "published code", "rise for 10 epochs, x0.1 at 20, x0.01 at 50; or a cosine"
    )


def warmed_up(
    make: Callable[..., Optimizer],
    head: Sequence[nn.Parameter],
    body: Sequence[nn.Parameter],
    config: WarmUpConfig,
    stage: Stage,
) -> Optimisation:
    """Make an optimiser whose body learns at a share of the head's rate, both under the warm-up."""
    groups = [{"params": head}, {"params": body, "lr": config.backbone_rate * config.learning_rate}]
    optimiser = make(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    return Optimisation(
        optimiser, LambdaLR(optimiser, lambda e: warm_up_factor(config.lr_schedule, e, stage.epochs))
    )


def adam(modules: Sequence[nn.Module], config: TrainingConfig, stage: Stage) -> Optimisation:
    """Make Adam over everything trainable in `modules`, decayed per epoch as the configuration says."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimiser = Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return Optimisation(
        optimiser, LambdaLR(optimiser, lambda epoch: learning_rate_factor(config, epoch, stage.epochs))
    )


def rows_of(bank: FeatureBank, n: int) -> Tensor:
    """Map the `n` training rows to rows of a bank; -1 outside it."""
    rows = torch.full((n,), -1, dtype=torch.int64, device=bank.index.device)
    rows[bank.index] = torch.arange(len(bank), device=bank.index.device)
    return rows


class TwoStreamMethod(Method):
    """A method on the two-stream ResNet, trained by Adam (methods-spec 1.1, 1.9)."""

    config: TrainingConfig

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone from the weights given."""
        backbone = TwoStreamResNet(
            data.architecture,
            non_local=self.config.non_local,
            non_local_width=self.config.non_local_width,
            bn_chunks=self.config.bn_chunks,
            weights=data.weights,
            seed=data.seed("backbone"),
        )
        return {"backbone": backbone}

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make one Adam over the backbone."""
        return {"model": adam([self.backbone], self.config, stage)}

    def features(self, parts: Sequence[Part]) -> list[Tensor]:
        """Run all parts through the backbone as one batch; return float32 unit features for each part.

        One pass, because batch normalisation takes its statistics over everything an optimiser step sees.
        """
        raw, _ = self.backbone(
            torch.cat([part.images for part in parts]), torch.cat([part.modality for part in parts])
        )
        return list(normalize(raw.float()).split([len(part.label) for part in parts]))

    def skip(self, labels: Mapping[str, Tensor], reason: str, record: Mapping[str, float]) -> EpochPlan:
        """Return the plan of an epoch that trains nothing."""
        return EpochPlan(labels, (), (), 0, record, skipped=reason)


def too_few(spaces: Mapping[str, Tensor]) -> str:
    """Say which label spaces have fewer than two clusters; empty if none has (dmic-spec section 9)."""
    short = [f"{name}: {n_clusters(labels)}" for name, labels in spaces.items() if n_clusters(labels) < 2]
    return f"fewer than two clusters ({', '.join(short)})" if short else ""


def neighbour_distances(found: Mapping[str, Clustering]) -> str:
    """Say how far neighbours are in each label space, for the message about an epoch that trains nothing."""
    return "; ".join(f"{name}: {each.distances_seen}" for name, each in found.items())


def smaller_modality(data: TrainingData) -> int:
    """Return the number of images of the modality that has fewer, which no list of neighbours may exceed."""
    return min(int((data.modality == modality).sum()) for modality in (VISIBLE, INFRARED))


def members(bank: FeatureBank, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return training rows and labels of the samples that a cluster took."""
    kept = labels.to(bank.index.device) > NOISE
    return bank.index[kept].cpu(), labels.to(bank.index.device)[kept].cpu()
