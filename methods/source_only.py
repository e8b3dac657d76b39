"""Source only: the weights a run starts from, untouched. The floor of every table, and a check of the protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from torch import Tensor, nn

from methods.base import (
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Method,
    MethodConfig,
    Optimisation,
    Reference,
    Stage,
    TrainingData,
)
from methods.errors import MethodError
from methods.parts.backbone import TwoStreamResNet


class SourceOnly(Method):
    """No training on the target."""

    name = "source-only"
    written = "Source only"
    summary = "no training: the source weights as they are"
    supervision = "none"
    Config = MethodConfig
    reference = Reference(
        title="(no paper: the floor of every table)",
        venue="",
        year=2026,
        parts={
            "features": (
                "harness",
                "the source weights, generalised mean with fixed p = 3, averaged with the mirror's",
            ),
            "neck scale": (
                "harness",
                "exactly 1, not drawn from N(1, 0.01), so that the neck changes no order",
            ),
        },
    )

    def __init__(self, config: MethodConfig, data: TrainingData) -> None:
        backbone = TwoStreamResNet(data.architecture, weights=data.weights, seed=data.seed("backbone"))
        nn.init.ones_(backbone.neck.weight)  # so that the neck changes no order
        super().__init__(config, data, backbone=backbone)

    @classmethod
    def stages(cls, config: MethodConfig) -> Sequence[Stage]:
        """No stages: nothing is trained."""
        return ()

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Refuse: there is nothing to optimise."""
        self.refuse()

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Refuse: there are no epochs."""
        self.refuse()

    def forward(self, batch: Batch) -> NoReturn:
        """Refuse: there are no batches."""
        self.refuse()

    def loss(self, seen: NoReturn, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Refuse: there is no loss."""
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say that nothing is trained."""
        raise MethodError("source-only trains nothing")

    presets = {"paper": {"*": {}}, "demo": {}}
