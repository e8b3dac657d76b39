"""Optimisers and learning rates that several papers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from methods.base import Optimisation, Stage
from methods.parts.config import TrainingConfig, WarmUpConfig


def cosine_factor(epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate in epoch `epoch` of `epochs`: half a cosine, not below 0.01."""
    return max(0.5 * (1 + math.cos(math.pi * epoch / epochs)), 0.01)


def learning_rate_factor(config: TrainingConfig, epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate in epoch `epoch` of a stage of `epochs`."""
    if config.lr_schedule == "step":
        return config.lr_gamma ** (epoch // config.lr_step)
    return cosine_factor(epoch, epochs)


def adam(modules: Sequence[nn.Module], config: TrainingConfig, stage: Stage) -> Optimisation:
    """Make Adam over everything trainable in `modules`, decayed per epoch as the configuration says."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimiser = Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return Optimisation(
        optimiser, LambdaLR(optimiser, lambda epoch: learning_rate_factor(config, epoch, stage.epochs))
    )


def warm_up_factor(schedule: str, epoch: int, epochs: int, second_fall: int = 50) -> float:
    """Return the factor of the learning rate that AGW, OTLA and MMM share.

    ``step`` rises over ten epochs and falls to 0.1 at epoch 20 and to 0.01 at epoch 50 (MMM: 40); ``cosine`` is ours
    for short runs: it rises over an eighth of them.
    """
    if schedule == "step":
        return (epoch + 1) / 10 if epoch < 10 else 1.0 if epoch < 20 else 0.1 if epoch < second_fall else 0.01
    rise = (epoch + 1) / max(1, round(epochs / 8))
    return min(rise, cosine_factor(epoch, epochs))


def warmed_up(
    make: Callable[..., Optimizer],
    head: Sequence[nn.Parameter],
    body: Sequence[nn.Parameter],
    config: WarmUpConfig,
    stage: Stage,
) -> Optimisation:
    """Make an optimiser whose body learns at a share of the head's rate, both under the warm-up."""
    rates = config.learning_rate, config.backbone_rate * config.learning_rate
    optimiser = two_rates(make, head, body, rates, config.weight_decay)
    return Optimisation(
        optimiser, LambdaLR(optimiser, lambda e: warm_up_factor(config.lr_schedule, e, stage.epochs))
    )


def two_rates(
    make: Callable[..., Optimizer],
    head: Sequence[nn.Parameter],
    body: Sequence[nn.Parameter],
    rates: tuple[float, float],
    weight_decay: float,
) -> Optimizer:
    """Make an optimiser with a learning rate for the head and another for the body."""
    groups = [{"params": head}, {"params": body, "lr": rates[1]}]
    return make(groups, lr=rates[0], weight_decay=weight_decay)


def adam_in_steps(
    parameters: Sequence[nn.Parameter], rate: float, every: int, config: WarmUpConfig, stage: Stage
) -> Optimisation:
    """Make Adam at a tenth of the rate after each `every` epochs, or on the warmed-up cosine that is ours."""
    optimiser = Adam(parameters, lr=rate, weight_decay=config.weight_decay)

    def factor(epoch: int) -> float:
        if config.lr_schedule == "step":
            return float(0.1 ** (epoch // every))
        return warm_up_factor("cosine", epoch, stage.epochs)

    return Optimisation(optimiser, LambdaLR(optimiser, factor))
