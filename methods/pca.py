"""PCA (in its paper PCAL): progressive cross-modal association learning (Yang, Hu, Hu; IEEE TIFS 2025).

Three parts over dual contrast: an adversary that tells visible, augmented and infrared features apart (TAL),
joint clusters from neighbours balanced over modalities (CNE), and contrast against a joint memory (MCL).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from methods.base import (
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Optimisation,
    Reference,
    Stage,
    Step,
    TrainingData,
    setting,
)
from methods.clustering import ModalityMean
from methods.clustering.labels import scatter_labels, shared_clusters
from methods.parts.adversary import SEEN_AS, Discriminator, kinds, modality_terms
from methods.parts.dual import DualConfig, DualContrast
from methods.parts.memories import cluster_means
from methods.parts.training import DEMO, FROZEN_ROWS, PLAIN_AVERAGE, learning_rate_factor
from methods.timing import timed


class PCAConfig(DualConfig):
    """Hyper-parameters of PCA (methods-spec section 9); defaults are SYSU-MM01's."""

    joint_k1: int = setting(40, "published code", "neighbours over both modalities", ge=1)
    joint_k2: int = setting(32, "published code", "expansion neighbours over both modalities", ge=1)
    joint_weight: float = setting(1.0, "published code", "weight of the joint contrast of stage II", ge=0)
    adversarial_from: int = setting(
        25, "published code", "epoch of stage I from which the network plays against the discriminator", ge=0
    )
    adversarial_weight_dual: float = setting(
        1.0, "published code", "weight of the adversarial term in stage I (quirk Q32)", ge=0
    )
    adversarial_weight_cross: float = setting(
        0.1, "published code", "weight of the adversarial term in stage II (quirk Q32)", ge=0
    )
    discriminator_rate: float = setting(
        0.01, "published code", "SGD learning rate of the discriminator", gt=0
    )
    discriminator_momentum: float = setting(0.9, "published code", "its Nesterov momentum", gt=0, lt=1)
    labels_per_batch: int = setting(4, "published code", "pseudo-identities in a visible batch", ge=1)
    infrared_labels: int = setting(4, "published code", "pseudo-identities in an infrared batch", ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> PCAConfig:
        if self.joint_k2 > self.joint_k1:
            raise ValueError(f"joint_k2 = {self.joint_k2} is larger than joint_k1 = {self.joint_k1}")
        return self


def adversarial_weight(config: PCAConfig, stage: str, in_stage: int) -> float:
    """Return the weight of the adversarial term in an epoch of stage ``dual`` or ``cross``."""
    if stage == "cross":
        return config.adversarial_weight_cross
    return config.adversarial_weight_dual if in_stage >= config.adversarial_from else 0.0


class PCA(DualContrast):
    """Progressive cross-modal association."""

    name = "pca"
    summary = "dual contrast with a modality adversary, then joint clusters from modality-balanced neighbours"
    Config = PCAConfig
    config: PCAConfig
    reference = Reference(
        title="Progressive Cross-Modal Association Learning for Unsupervised Visible-Infrared Person "
        "Re-Identification",
        venue="IEEE TIFS",
        year=2025,
        parts={
            "adversary (TAL), neighbours (CNE), joint contrast (MCL)": "published code",
            "adversarial weights": "published code: 1.0 in stage I, 0.1 in stage II; the paper's was not seen",
            "statistics of the discriminator's batch norm": "reconstructed: one view at a time",
            "joint clusters in stage I": "left out: the published code computes them and trains nothing on them",
            "stage II from stage I's last epoch": "ours; the published code takes the best test epoch (public)",
            "features that are clustered": PLAIN_AVERAGE,
            "rows that gradients see": FROZEN_ROWS,
        },
        url="https://doi.org/10.1109/TIFS.2025.3527356",
    )
    presets = {
        "paper": {
            "sysu-mm01": {},
            "regdb": {"eps": 0.3, "iterations": 100, "joint_k1": 38, "joint_k2": 18},
        },
        "paper-large": {"*": {"labels_per_batch": 8, "infrared_labels": 8}},
        "demo": {
            "*": {
                **{**DEMO, "epochs_dual": 4, "epochs_cross": 6, "adversarial_from": 2},
                **{"labels_per_batch": 8, "infrared_labels": 8},
            },
            "sysu-mm01": {"k1": 12, "k2": 4, "eps": 0.55, "joint_k1": 16, "joint_k2": 10},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5, "joint_k1": 14, "joint_k2": 8},
        },
        "public": {
            "*": {
                **{"stage_init": "best-on-test", "bn_chunks": 2},
                **{"memory_gradient": "in_backward", "renormalise_flip": False},
            }
        },
        "no-adversary": {"*": {"adversarial_weight_dual": 0.0, "adversarial_weight_cross": 0.0}},
    }

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone and the discriminator of modalities."""
        built = super().build(data)
        dimension: int = built["backbone"].dimension  # type: ignore[assignment]
        return {**built, "discriminator": Discriminator(dimension, data.seed("discriminator"))}

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make Adam over the backbone, and SGD over the discriminator with the same decay."""
        c = self.config
        sgd = SGD(
            self.modules["discriminator"].parameters(),
            c.discriminator_rate,
            c.discriminator_momentum,
            weight_decay=c.weight_decay,
            nesterov=True,
        )
        schedule = LambdaLR(sgd, lambda epoch: learning_rate_factor(c, epoch, stage.epochs))
        return {**super().optimisers(stage), "discriminator": Optimisation(sgd, schedule)}

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Add the discriminator's step: first where the network plays against it, else after the network's."""
        self._passed: tuple[int, Tensor] | None = None
        self._weight = adversarial_weight(self.config, self.stage_name(epoch), epoch.in_stage)
        plan = super().begin_epoch(epoch, bank)
        if plan.skipped:
            return plan
        first, *rest = plan.steps
        discriminate = Step("discriminate", first.streams, "discriminator")
        before = (discriminate, first) if self._weight else (first, discriminate)
        record = {**plan.record, "adversarial_weight": self._weight}
        return replace(plan, steps=(*before, *rest), record=record)

    def cross(
        self, plan: EpochPlan, epoch: Epoch, bank: FeatureBank, found: Mapping[str, Tensor]
    ) -> EpochPlan:
        """Add joint clusters: all have rows, but only those of both modalities are trained on."""
        del epoch, found
        c = self.config
        joint = self.cluster_by(bank, c.joint_k1, c.eps, ModalityMean(c.joint_k2, bank.modality)).labels
        with timed("associate"):
            shared = shared_clusters(joint, bank.modality)
        plan = replace(
            plan,
            labels={**plan.labels, "joint": scatter_labels(joint, bank.index, len(bank))},
            record={**plan.record, "shared_clusters": shared, "joint_k2": float(c.joint_k2)},
        )
        if not shared:
            return plan
        with timed("memory"):
            memory = self.memory(cluster_means(bank.features, joint, bank.modality))
        return self.add_joint_step(plan, bank, joint, memory)

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Return the terms of the discriminator's, the network's or the joint step."""
        del epoch
        if batch.step == "joint":
            terms = self.dual_loss(batch.parts)
            return {name: self.config.joint_weight * term for name, term in terms.items()}
        raw, kind = self._pass(batch), kinds(list(batch.parts.values()))
        if batch.step == "discriminate":
            return {"discriminator": self._play(raw.detach(), kind, torch.arange(len(SEEN_AS)))}
        sizes = [len(part.label) for part in batch.parts.values()]
        self.seen = dict(zip(batch.parts, normalize(raw).split(sizes), strict=True))
        terms = self.seen_terms(batch.parts)
        if self._weight:
            everything = torch.full((len(SEEN_AS),), SEEN_AS["augmented"])
            terms["adversarial"] = self._weight * self._play(raw, kind, everything)
        return terms

    def _play(self, raw: Tensor, kind: Tensor, target: Tensor) -> Tensor:
        return modality_terms(self.modules["discriminator"], raw, kind, target.to(raw.device))

    def _pass(self, batch: Batch) -> Tensor:
        """Return post-BN features; one pass serves both steps of an iteration on these images."""
        if self._passed is None or self._passed[0] != batch.iteration:
            parts = list(batch.parts.values())
            raw, _ = self.backbone(
                torch.cat([part.images for part in parts]), torch.cat([part.modality for part in parts])
            )
            self._passed = batch.iteration, raw.float()
        return self._passed[1]
