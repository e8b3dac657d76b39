"""Source only: the weights a run starts from, untouched. The floor of every table, and a check of the protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    """No training on the target (methods-spec section 12)."""

    name = "source-only"
    summary = "no training: the source weights as they are"
    supervision = "none"
    Config = MethodConfig
    reference = Reference(
        title="(no paper: the floor of every table)",
        venue="",
        year=2026,
        parts={"features": "harness: the source weights; the BN neck's random scale is set to 1"},
    )
    presets = {"paper": {"*": {}}, "demo": {}}

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone with a neck of scale 1, so that it changes no order."""
        backbone = TwoStreamResNet(data.architecture, weights=data.weights, seed=data.seed("backbone"))
        nn.init.ones_(backbone.neck.weight)
        return {"backbone": backbone}

    @classmethod
    def stages(cls, config: MethodConfig) -> Sequence[Stage]:
        """No stages: nothing is trained."""
        return ()

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Refuse: there is nothing to optimise."""
        raise MethodError("source-only trains nothing")

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Refuse: there are no epochs."""
        raise MethodError("source-only trains nothing")

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Refuse: there is no loss."""
        raise MethodError("source-only trains nothing")
