"""Dual contrast: each modality clustered and learnt alone, visible images with their channel-augmented copy.

This is ADCA's first stage (methods-spec section 5), on which ADCA, PGM, PCA and ECUL build. What GUR shares too,
cluster memories and their losses in every phase, is :class:`MemoryContrast`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from methods.base import (
    INFRARED,
    NOISE,
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
from methods.clustering import Clustering, Expansion, Plain, jaccard_clusters
from methods.clustering.labels import in_both_modalities, scatter_labels
from methods.parts.embedded import embedding_clusters
from methods.parts.memories import ClusterMemory, cluster_means, loss_updating_in_backward
from methods.parts.training import TrainingConfig, TwoStreamMethod, members, neighbour_distances, too_few
from methods.timing import timed

MODALITIES = {"visible": VISIBLE, "infrared": INFRARED}
PUBLIC: Mapping[str, Any] = {"bn_chunks": 4, "memory_gradient": "in_backward", "renormalise_flip": False}
"""What the presets ``public`` of GUR and PGM share: their codes' quirks Q12, Q6 and Q2."""


class ContrastConfig(TrainingConfig):
    """Hyper-parameters of contrast against cluster memories; defaults are SYSU-MM01's."""

    k1: int = setting(30, "published code", "neighbours within a modality, the sample included", ge=1)
    k2: int = setting(6, "published code", "expansion neighbours within a modality", ge=1)
    eps: float = setting(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, le=1)
    memory_momentum: float = setting(0.1, "published code", "share of the old row in an update", ge=0, le=1)
    memory_update: Literal["sequential", "hardest", "mean", "random"] = setting(
        "sequential", "published code", "which batch samples move a cluster's row"
    )
    memory_gradient: Literal["frozen", "in_backward"] = setting(
        "frozen",
        "reconstructed",
        "rows that gradients see: those of the forward pass, or those already moved by a later loss on the same "
        "memory (the public codes, quirk Q6)",
    )
    renormalise_flip: bool = setting(
        True,
        "reconstructed",
        "unit length for features averaged with their mirrors'; the public codes leave them shorter (quirk Q2)",
    )
    labels_per_batch: int = setting(8, "published code", "pseudo-identities in a visible batch", ge=1)
    infrared_labels: int = setting(16, "published code", "pseudo-identities in an infrared batch", ge=1)


def by_modality(bank: FeatureBank) -> dict[str, FeatureBank]:
    """Part a bank into its modalities."""
    return {name: bank.of(modality) for name, modality in MODALITIES.items()}


class MemoryLosses:
    """Losses of one step against cluster memories, and the row updates that they owe.

    A memory may serve several losses of a step. Rows then move in the order of the public codes, where autograd
    reaches the loss computed last first.
    """

    def __init__(self, gradient: Literal["frozen", "in_backward"], generator: torch.Generator) -> None:
        self._in_backward = gradient == "in_backward"
        self._generator = generator
        self._owed: list[tuple[ClusterMemory, Tensor, Tensor]] = []

    def loss(self, memory: ClusterMemory, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy of unit features (b, d) against their labels (b,)."""
        if self._in_backward:
            return loss_updating_in_backward(memory, features, labels, self._generator)
        self._owed.append((memory, features.detach(), labels))
        return memory.loss(features, labels)

    def update(self) -> None:
        """Move the rows, the loss computed last first."""
        while self._owed:
            memory, features, labels = self._owed.pop()
            memory.update(features, labels, self._generator)


class MemoryContrast(TwoStreamMethod):
    """Cross entropy of streams against cluster memories; a subclass says what clusters and rows are."""

    config: ContrastConfig
    memories: Mapping[str, ClusterMemory]
    """The memory that each stream is compared with; two streams may share one."""
    losses: MemoryLosses
    seen: dict[str, Tensor]
    """Unit features of the last forward pass by stream."""

    def begin_losses(self, epoch: Epoch) -> None:
        """Make the generator of this epoch's (phase's) memory updates."""
        seed = self.data.seed("memory", epoch.number, epoch.phase)
        self.generator = torch.Generator().manual_seed(seed)
        self.losses = MemoryLosses(self.config.memory_gradient, self.generator)

    def cluster(self, bank: FeatureBank, eps: float) -> Clustering:
        """Cluster a bank by plain Jaccard distances and DBSCAN."""
        return self.cluster_by(bank, self.config.k1, eps, Plain(self.config.k2))

    def cluster_by(self, bank: FeatureBank, k1: int, eps: float, expansion: Expansion) -> Clustering:
        """Cluster a bank by Jaccard distances and DBSCAN; neighbours are Euclidean where rows are not unit (Q2)."""
        clusters = jaccard_clusters if self.renormalise_flip else embedding_clusters
        return clusters(
            bank.features,
            k1=k1,
            eps=eps,
            min_samples=self.config.min_samples,
            expansion=expansion,
        )

    def memory(self, rows: Tensor) -> ClusterMemory:
        """Start a memory from its rows."""
        c = self.config
        return ClusterMemory(rows, c.temperature, c.memory_momentum, c.memory_update)

    def memory_of_means(self, bank: FeatureBank, labels: Tensor) -> ClusterMemory:
        """Start a memory from the means of a bank's clusters."""
        return self.memory(cluster_means(bank.features, labels))

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

    def one_step(
        self, name: str, plan: EpochPlan, banks: Mapping[str, FeatureBank], labels: Mapping[str, Tensor]
    ) -> EpochPlan:
        """Give the plan one step, on a stream for each bank of which a cluster took images."""
        taken = {side: mine for side, mine in labels.items() if bool((mine > NOISE).any())}
        streams = tuple(self.stream(side, banks[side], mine) for side, mine in taken.items())
        return replace(plan, streams=streams, steps=(Step(name, tuple(taken)),))

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of each stream against its memory."""
        del epoch
        return self.dual_loss(batch.parts)

    def dual_loss(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """Run the parts through the network and compute one term each; keep the features for what follows."""
        self.seen = dict(zip(parts, self.features(list(parts.values())), strict=True))
        return self.seen_terms(parts)

    def seen_terms(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """Compute the terms of features already seen, infrared first, so that its rows move last (Q6)."""
        streams = [*parts][::-1]
        return {
            f"cluster_{name}": self.losses.loss(self.memories[name], self.seen[name], parts[name].label)
            for name in streams
        }

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move the rows of the clusters in the batch."""
        del batch, epoch
        self.losses.update()


class DualConfig(ContrastConfig):
    """Hyper-parameters of dual contrast; defaults are SYSU-MM01's."""

    epochs_dual: int = setting(50, "published code", "epochs of stage I (each modality alone)", ge=0)
    epochs_cross: int = setting(50, "published code", "epochs of stage II (with the method's own part)", ge=0)
    stage_init: Literal["last", "best-on-test"] = setting(
        "last",
        "reconstructed",
        "weights stage II starts from; best-on-test is the public codes' leak (quirk Q10)",
    )


class DualContrast(MemoryContrast):
    """Contrast of each modality alone; subclasses add what crosses modalities in stage II."""

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
        banks = by_modality(bank)
        clusterings = {name: self.cluster_modality(part, epoch) for name, part in banks.items()}
        found = {name: each.labels for name, each in clusterings.items()}
        labels = {name: scatter_labels(found[name], banks[name].index, len(bank)) for name in banks}
        record = {"eps": self.config.eps, "k2": float(self.config.k2)}
        if reason := too_few(found):
            settings = f"eps = {self.config.eps:.3g}, k1 = {self.config.k1}"
            return self.skip(labels, f"{reason} with {settings}; {neighbour_distances(clusterings)}", record)
        with timed("memory"):
            self.begin_losses(epoch)
            self.memories = {name: self.make_memory(banks[name], found[name], epoch) for name in banks}
        plan = self.one_step("dual", EpochPlan(labels, (), (), stage.iterations, record), banks, found)
        return self.cross(plan, epoch, bank, found) if stage.name == "cross" else plan

    def cross(
        self, plan: EpochPlan, epoch: Epoch, bank: FeatureBank, found: Mapping[str, Tensor]
    ) -> EpochPlan:
        """Add the cross-modality part of stage II to the plan; nothing here."""
        del epoch, bank, found
        return plan

    def cluster_modality(self, bank: FeatureBank, epoch: Epoch) -> Clustering:
        """Cluster one modality's bank."""
        del epoch
        return self.cluster(bank, self.config.eps)

    def make_memory(self, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> ClusterMemory:
        """Start a modality's memory from cluster means."""
        del epoch
        return self.memory_of_means(bank, labels)

    def add_joint_step(
        self, plan: EpochPlan, bank: FeatureBank, labels: Tensor, memory: ClusterMemory
    ) -> EpochPlan:
        """Add a step against a memory of joint clusters, on images of those that both modalities share.

        Parameters
        ----------
        labels : int64 tensor (n,)
            Joint clusters of the bank; at least one is shared.
        memory : ClusterMemory
            All joint clusters have rows, and those of one modality are negatives.
        """
        self.memories = {**self.memories, **{f"joint-{name}": memory for name in MODALITIES}}
        trained = labels.masked_fill(~in_both_modalities(labels, bank.modality), NOISE)
        streams = tuple(
            self.stream(f"joint-{name}", bank.of(m), trained[bank.modality.to(labels.device) == m])
            for name, m in MODALITIES.items()
        )
        step = Step("joint", tuple(stream.name for stream in streams))
        return replace(plan, streams=(*plan.streams, *streams), steps=(*plan.steps, step))
