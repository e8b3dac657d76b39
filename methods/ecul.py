"""ECUL, a reconstruction (Wu et al., arXiv 2412.19134; no code, and only the abstract was available).

Extended modality-camera clustering (EMCC), memories updated in two steps (TSMem), and contrast within modalities,
over joint clusters and between neighbouring images of the two modalities. The formulas are ours; a published number
of ECUL must not stand beside a result of this file without the word reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from methods.association.neighbours import mutual_neighbours
from methods.base import (
    INFRARED,
    VISIBLE,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Reference,
    TrainingData,
    setting,
)
from methods.clustering import Capped, Clustering
from methods.clustering.labels import scatter_labels, shared_clusters
from methods.parts.dual import DualConfig, DualContrast
from methods.parts.memories import ClusterMemory, NeighbourMemory, cluster_means, random_members
from methods.parts.training import DEMO
from methods.timing import timed


class ECULConfig(DualConfig):
    """Hyper-parameters of the reconstruction (methods-spec section 10); defaults are SYSU-MM01's."""

    k2: int = setting(6, "reconstructed", "EMCC: nearest neighbours kept of each camera", ge=1)
    k3: int = setting(
        12, "reconstructed", "EMCC: neighbours from which they are kept; k3 = k2 gives MIE", ge=1
    )
    joint_k1: int = setting(40, "reconstructed", "neighbours over both modalities", ge=1)
    joint_k2: int = setting(16, "reconstructed", "k2 over both modalities", ge=1)
    joint_k3: int = setting(32, "reconstructed", "k3 over both modalities", ge=1)
    switch: float = setting(
        0.5, "reconstructed", "TSMem: share of a stage's epochs in its first step", ge=0, le=1
    )
    early_update: Literal["sequential", "hardest", "mean", "random"] = setting(
        "random", "reconstructed", "TSMem, first step: which batch samples move a cluster's row"
    )
    early_momentum: float = setting(
        0.0, "reconstructed", "TSMem, first step: share of the old row", ge=0, le=1
    )
    memory_update: Literal["sequential", "hardest", "mean", "random"] = setting(
        "mean", "reconstructed", "TSMem, second step: which batch samples move a cluster's row"
    )
    memory_momentum: float = setting(
        0.1, "reconstructed", "TSMem, second step: share of the old row", ge=0, le=1
    )
    instance_momentum: float = setting(0.1, "reconstructed", "share of an image's old row", ge=0, le=1)
    intra_weight: float = setting(1.0, "reconstructed", "weight of the terms within modalities", ge=0)
    joint_weight: float = setting(1.0, "reconstructed", "weight of the terms over joint clusters", ge=0)
    instance_weight: float = setting(1.0, "reconstructed", "weight of the instance term", ge=0)
    renormalise_flip: Literal[True] = setting(
        True, "reconstructed", "always: rows of instances are features, of unit length"
    )
    labels_per_batch: int = setting(4, "predecessor", "pseudo-identities in a visible batch", ge=1)
    infrared_labels: int = setting(4, "predecessor", "pseudo-identities in an infrared batch", ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> ECULConfig:
        for prefix in ("", "joint_"):
            k1, k2, k3 = (getattr(self, f"{prefix}{name}") for name in ("k1", "k2", "k3"))
            if not k2 <= k3 <= k1:
                raise ValueError(f"{prefix}k2 <= {prefix}k3 <= {prefix}k1 must hold, not {k2}, {k3}, {k1}")
        return self


class ECUL(DualContrast):
    """Extended cross-modality united learning, reconstructed."""

    name = "ecul"
    summary = (
        "reconstruction: capped modality-camera clusters, two-step memories, neighbours across modalities"
    )
    Config = ECULConfig
    config: ECULConfig
    reference = Reference(
        title="Extended Cross-Modality United Learning for Unsupervised Visible-Infrared Person Re-identification",
        venue="arXiv 2412.19134; reconstruction, no public code",
        year=2024,
        parts={
            "clusters within and across modalities, instances across": "paper (abstract); formulas reconstructed",
            "EMCC": "reconstructed: k2 and k3 named by a summary; MIE's weights on capped neighbours, after MPJL",
            "TSMem": "reconstructed: diversity early, generalisation later; switch and rules are ours",
            "instance term, all weights": "reconstructed",
            "backbone, batches, augmentation, optimiser": "predecessor (PCA)",
            "values called published code": "reconstructed: that of predecessors, taken over",
        },
        url="https://arxiv.org/abs/2412.19134",
    )
    presets = {
        "paper": {
            "sysu-mm01": {},
            "regdb": {"eps": 0.3, "iterations": 100, "joint_k1": 38, "joint_k3": 18, "joint_k2": 9},
        },
        "demo": {
            "*": {**DEMO, "epochs_dual": 4, "epochs_cross": 6, "labels_per_batch": 8, "infrared_labels": 8},
            "regdb": {"k1": 10, "k3": 6, "k2": 3, "eps": 0.5}
            | {"joint_k1": 20, "joint_k3": 12, "joint_k2": 6},
            "sysu-mm01": {"k1": 12, "k3": 8, "k2": 2, "eps": 0.55}
            | {"joint_k1": 18, "joint_k3": 14, "joint_k2": 2},
        },
    }

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone; the instance memory comes with stage II."""
        self._instance_rows: Tensor | None = None
        return super().build(data)

    def early(self, epoch: Epoch) -> bool:
        """Whether memories are in their first, diverse step (TSMem)."""
        return epoch.in_stage < self.config.switch * self.stages(self.config)[epoch.stage].epochs

    def cluster_modality(self, bank: FeatureBank, epoch: Epoch) -> Clustering:
        """Cluster one modality's bank, balanced over its cameras."""
        del epoch
        return self._cluster(bank, self.config.k1, self.config.k2, self.config.k3)

    def _cluster(self, bank: FeatureBank, k1: int, k2: int, k3: int) -> Clustering:
        """Cluster by EMCC: k3 filters the neighbours, at most k2 of each camera are fused."""
        return self.cluster_by(bank, k1, self.config.eps, Capped(k3, k2, bank.modality, bank.camera))

    def make_memory(self, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> ClusterMemory:
        """Start rows from random members in the first step, from modality-balanced means in the second."""
        c = self.config
        if self.early(epoch):
            rows = random_members(bank.features, labels, self.generator)
            return ClusterMemory(rows, c.temperature, c.early_momentum, c.early_update)
        return self.memory(cluster_means(bank.features, labels, bank.modality))

    def cross(
        self, plan: EpochPlan, epoch: Epoch, bank: FeatureBank, found: Mapping[str, Tensor]
    ) -> EpochPlan:
        """Add a step on joint clusters of both modalities, with neighbours across as positives."""
        del found
        c = self.config
        joint = self._cluster(bank, c.joint_k1, c.joint_k2, c.joint_k3).labels
        with timed("associate"):
            shared = shared_clusters(joint, bank.modality)
            pairs = self._pairs(bank, joint)
        labels = {**plan.labels, "joint": scatter_labels(joint, bank.index, len(bank))}
        record = {**plan.record, "shared_clusters": shared, "neighbour_pairs": float(len(pairs))}
        plan = replace(plan, labels=labels, record=record)
        if not shared:
            return plan
        with timed("memory"):
            memory = self.make_memory(bank, joint, epoch)
            self._instances = self._instance_memory(bank, pairs)
        return self.add_joint_step(plan, bank, joint, memory)

    def _pairs(self, bank: FeatureBank, joint: Tensor) -> Tensor:
        """Return the training rows (m, 2) of mutual neighbours across modalities that share a joint label."""
        visible, infrared = bank.of(VISIBLE), bank.of(INFRARED)
        labels = joint.to(bank.index.device)
        seen, unseen = (labels[bank.modality == modality] for modality in (VISIBLE, INFRARED))
        pairs = mutual_neighbours(visible.features, infrared.features, seen, unseen, self.config.joint_k1)
        return torch.stack([visible.index[pairs[:, 0]], infrared.index[pairs[:, 1]]], 1)

    def _instance_memory(self, bank: FeatureBank, pairs: Tensor) -> NeighbourMemory:
        c = self.config
        if self._instance_rows is None:
            self._instance_rows = torch.empty_like(bank.features)
            self._instance_rows[bank.index] = bank.features
        return NeighbourMemory(self._instance_rows, pairs, c.temperature, c.instance_momentum)

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Return cluster terms of the step; the joint step adds the instance term."""
        del epoch
        joint = batch.step == "joint"
        weight = self.config.joint_weight if joint else self.config.intra_weight
        terms = {name: weight * term for name, term in self.dual_loss(batch.parts).items()}
        if joint:
            instances = self._instances.loss(*self._seen_images(batch))
            terms["instance"] = self.config.instance_weight * instances
        return terms

    def _seen_images(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the features of the last forward pass and their training rows."""
        index = torch.cat([part.index for part in batch.parts.values()])
        return torch.cat([self.seen[name] for name in batch.parts]), index

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move the rows of the clusters, and in the joint step of the images, in the batch."""
        super().update(batch, epoch)
        if batch.step == "joint":
            self._instances.update(*self._seen_images(batch))

    def state(self) -> dict[str, Tensor]:
        """Return the rows of the images, which live as long as stage II."""
        return {} if self._instance_rows is None else {"instance": self._instance_rows}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the rows of the images."""
        self._instance_rows = state.get("instance")
