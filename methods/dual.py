"""Dual contrast: each modality clustered and learnt alone, visible images with their channel-augmented copy.

This is ADCA's first stage (methods-spec section 5), on which ADCA, PGM, PCA and ECUL build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from methods.base import (
    INFRARED,
    VISIBLE,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Part,
    Stage,
    Step,
    Stream,
    setting,
)
from methods.clustering import Plain, jaccard_clusters
from methods.memory import ClusterMemory, cluster_means
from methods.training import TrainingConfig, TwoStreamMethod, members, spread, too_few

MODALITIES = {"visible": VISIBLE, "infrared": INFRARED}


class DualConfig(TrainingConfig):
    """Hyper-parameters of dual contrast; defaults are SYSU-MM01's."""

    epochs_dual: int = setting(50, "published code", "epochs of stage I (each modality alone)", ge=0)
    epochs_cross: int = setting(50, "published code", "epochs of stage II (with the method's own part)", ge=0)
    stage_init: Literal["last", "best-on-test"] = setting(
        "last",
        "reconstructed",
        "weights stage II starts from; best-on-test is the public codes' leak (quirk Q10)",
    )
    k1: int = setting(30, "published code", "neighbours within a modality, the sample included", ge=1)
    k2: int = setting(6, "published code", "expansion neighbours within a modality", ge=1)
    eps: float = setting(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, le=1)
    memory_momentum: float = setting(0.1, "published code", "share of the old row in an update", ge=0, le=1)
    memory_update: Literal["sequential", "hardest", "mean", "random"] = setting(
        "sequential", "published code", "which batch samples move a cluster's row"
    )
    labels_per_batch: int = setting(8, "published code", "pseudo-identities in a visible batch", ge=1)
    infrared_labels: int = setting(16, "published code", "pseudo-identities in an infrared batch", ge=1)


class DualContrast(TwoStreamMethod):
    """Cluster contrast on each modality alone; subclasses add what crosses modalities in stage II."""

    config: DualConfig

    @classmethod
    def stages(cls, config: DualConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with the cross-modality part."""
        stages = (
            Stage("dual", config.epochs_dual, config.iterations),
            Stage("cross", config.epochs_cross, config.iterations, initial=config.stage_init),
        )
        return tuple(stage for stage in stages if stage.epochs)

    def stage_name(self, epoch: Epoch) -> str:
        """Return ``dual`` or ``cross``."""
        return self.stages(self.config)[epoch.stage].name

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality, fill its memory with cluster means, and associate in stage II."""
        stage = self.stages(self.config)[epoch.stage]
        banks = {name: bank.of(modality) for name, modality in MODALITIES.items()}
        found = {name: self.cluster_modality(banks[name], epoch) for name in banks}
        labels = {name: spread(found[name], banks[name].index, len(bank)) for name in banks}
        record = {"eps": self.config.eps, "k2": float(self.config.k2)}
        if reason := too_few(found):
            return self.skip(
                labels, f"{reason} with eps = {self.config.eps:.3g}, k1 = {self.config.k1}", record
            )
        with self.data.stage("memory"):
            self.generator = torch.Generator().manual_seed(self.data.seed("memory", epoch.number))
            self.memories = {name: self.make_memory(banks[name], found[name], epoch) for name in banks}
        plan = EpochPlan(
            labels,
            tuple(self.stream(name, banks[name], found[name]) for name in banks),
            (Step("dual", tuple(banks)),),
            stage.iterations,
            record,
        )
        return self.cross(plan, epoch, bank, found) if stage.name == "cross" else plan

    def cross(
        self, plan: EpochPlan, epoch: Epoch, bank: FeatureBank, found: Mapping[str, Tensor]
    ) -> EpochPlan:
        """Add the cross-modality part of stage II to the plan; nothing here."""
        del epoch, bank, found
        return plan

    def cluster_modality(self, bank: FeatureBank, epoch: Epoch) -> Tensor:
        """Return labels of one modality's bank: plain Jaccard distances and DBSCAN."""
        del epoch
        c = self.config
        return jaccard_clusters(
            bank.features,
            k1=c.k1,
            eps=c.eps,
            min_samples=c.min_samples,
            expansion=Plain(c.k2),
            stage=self.data.stage,
        ).labels

    def make_memory(self, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> ClusterMemory:
        """Start a memory from cluster means."""
        del epoch
        c = self.config
        return ClusterMemory(
            cluster_means(bank.features, labels), c.temperature, c.memory_momentum, c.memory_update
        )

    def stream(self, name: str, bank: FeatureBank, labels: Tensor) -> Stream:
        """Return the stream of a modality: visible with its augmented copy, infrared with channel adaptation."""
        index, label = members(bank, labels)
        p = self.config.labels_per_batch if name.endswith("visible") else self.config.infrared_labels
        return Stream(
            name,
            index,
            label,
            p,
            self.config.instances,
            ("plain", "channel-exchange"),
            ("channel-adapt-gray",),
        )

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of each modality against its own memory."""
        del epoch
        return self.dual_loss(batch.parts)

    def dual_loss(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """Compute the two terms; keep the features for what follows."""
        self.seen = dict(zip(parts, self.features(list(parts.values())), strict=True))
        return {
            f"cluster_{name}": self.memories[name].loss(f, parts[name].label) for name, f in self.seen.items()
        }

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move the rows of the clusters in the batch."""
        del epoch
        for name, f in self.seen.items():
            self.memories[name].update(f, batch.parts[name].label, self.generator)
