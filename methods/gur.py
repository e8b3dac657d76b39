"""GUR: grand unified representation learning (Yang et al., ICCV 2023).

Every epoch climbs from pairs of single cameras to modalities to both together. Each level describes images by
their similarities to the memories of the level below, and clusters those descriptions. Late in training visible
images take over the labels of the infrared images they resemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.aggregation import propagate_labels, smooth_labels
from methods.association.embedding import memory_embedding, misread_block_sizes
from methods.base import Epoch, EpochPlan, FeatureBank, Reference, Stage, setting
from methods.clustering import Plain
from methods.clustering.labels import n_clusters, scatter_labels
from methods.parts.dual import MODALITIES, PUBLIC, ContrastConfig, MemoryContrast, by_modality
from methods.parts.embedded import embedding_clusters
from methods.parts.memories import ClusterMemory
from methods.parts.training import DEMO, FROZEN_ROWS, PLAIN_AVERAGE, too_few
from methods.timing import timed


class GURConfig(ContrastConfig):
    """Hyper-parameters of GUR (methods-spec section 8); defaults are SYSU-MM01's."""

    epochs: int = setting(50, "published code", "epochs; each climbs all levels", ge=1)
    camera_level: bool = setting(
        True, "published code", "train on pairs of one visible and one infrared camera"
    )
    camera_iterations: int = setting(50, "published code", "iterations of each pair of cameras", ge=1)
    camera_eps: float = setting(0.55, "published code", "DBSCAN radius within a camera", gt=0, le=1)
    embedding_scale: float = setting(20.0, "published code", "inverse temperature of embeddings", gt=0)
    normalise_embedding: bool = setting(
        False,
        "published code",
        "unit embeddings; the published formula for unit rows gets others (quirk Q29)",
    )
    camera_blocks: Literal["camera", "misread"] = setting(
        "camera", "reconstructed", "one softmax a visible camera, or the public code's wrong cuts (quirk Q30)"
    )
    unification_from: int = setting(30, "published code", "epoch from which labels travel to visible", ge=0)
    unification_top_k: int = setting(20, "published code", "neighbours that vote on a label", ge=1)
    smoothing_from: int = setting(
        40, "published code", "epoch from which travelled labels are smoothed", ge=0
    )
    joint_until: int = setting(40, "published code", "epochs with the joint level", ge=0)


class GUR(MemoryContrast):
    """Grand unified representation learning."""

    name = "gur"
    summary = (
        "contrast by camera pairs, modalities and jointly in each epoch; labels travel infrared to visible"
    )
    Config = GURConfig
    config: GURConfig
    reference = Reference(
        title="Towards Grand Unified Representation Learning for Unsupervised Visible-Infrared Person "
        "Re-Identification",
        venue="ICCV",
        year=2023,
        parts={
            "levels, embeddings, label unification": "published code",
            "softmax blocks of visible cameras": "reconstructed: one a camera; the published code cuts them "
            "wrongly (public)",
            "a side without clusters": "reconstructed: the other side trains alone",
            "features between camera pairs": "published code's schedule; ours extracts all images, not two cameras",
            "features that are clustered": PLAIN_AVERAGE,
            "rows that gradients see": FROZEN_ROWS,
        },
    )
    presets = {
        "paper": {
            "sysu-mm01": {},
            "regdb": {"epochs": 30, "camera_level": False, "eps": 0.3, "iterations": 100}
            | {"unification_from": 20, "unification_top_k": 10, "smoothing_from": 20, "joint_until": 25},
        },
        "demo": {
            "*": {**DEMO, "labels_per_batch": 8, "infrared_labels": 8, "unification_top_k": 5},
            "sysu-mm01": {"epochs": 6, "camera_iterations": 4, "unification_from": 4, "smoothing_from": 5}
            | {"joint_until": 5, "k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"epochs": 10, "unification_from": 7, "smoothing_from": 7, "joint_until": 8}
            | {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "public": {"*": {"camera_blocks": "misread", **PUBLIC}},
        "no-unification": {"*": {"unification_from": 1_000_000}},
        "no-cameras": {"*": {"camera_level": False}},
    }

    @classmethod
    def stages(cls, config: GURConfig) -> Sequence[Stage]:
        """One stage; the levels are phases of its epochs."""
        return (Stage("levels", config.epochs, config.iterations),)

    def phases(self, epoch: Epoch) -> Sequence[str]:
        """Name the levels of an epoch: ``camera-A-B`` for each pair of cameras, ``modality``, ``joint``."""
        cameras = [self.data.camera[self.data.modality == m].unique().tolist() for m in MODALITIES.values()]
        pairs = [f"camera-{a}-{b}" for a, b in product(*cameras)] if self.config.camera_level else []
        joint = ["joint"] if epoch.in_stage < self.config.joint_until else []
        return (*pairs, "modality", *joint)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster the level's images by the memories of the level below, and compare them with their clusters'."""
        if epoch.phase == self.phases(epoch)[0]:
            self._proxies: dict[str, dict[int, Tensor]] = {name: {} for name in MODALITIES}
            self._modality_memories: dict[str, ClusterMemory] = {}
        self.begin_losses(epoch)
        self.memories = {}
        if epoch.phase == "modality":
            return self._modality_level(epoch, bank)
        return self._joint_level(bank) if epoch.phase == "joint" else self._camera_level(epoch, bank)

    def _camera_level(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Train on one visible and one infrared camera; a camera's proxies are the rows its last pair leaves."""
        cameras = dict(zip(MODALITIES, map(int, epoch.phase.split("-")[1:]), strict=True))
        banks = {
            name: bank.only((bank.modality == MODALITIES[name]) & (bank.camera == camera))
            for name, camera in cameras.items()
        }
        found = {name: self.cluster(part, self.config.camera_eps).labels for name, part in banks.items()}
        plan = self._apart(banks, found, self.config.camera_iterations, self.config.camera_eps)
        for name, memory in self.memories.items():
            self._proxies[name][cameras[name]] = memory.rows
        return plan

    def _modality_level(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Train on each modality; once labels travel, on both against the infrared memory."""
        c = self.config
        banks = by_modality(bank)
        found = {name: self._cluster_by_cameras(name, part) for name, part in banks.items()}
        plan = self._apart(banks, found, c.iterations, c.eps)
        self._modality_memories = dict(self.memories)
        if epoch.in_stage < c.unification_from or "infrared" not in self.memories:
            return plan
        with timed("associate"):
            travelled = self._travel(banks, found["infrared"], smooth=epoch.in_stage >= c.smoothing_from)
        unified = {"visible": travelled, "infrared": found["infrared"]}
        self.memories = dict.fromkeys(MODALITIES, self.memories["infrared"])
        joint = torch.maximum(
            *(scatter_labels(unified[name], part.index, len(bank)) for name, part in banks.items())
        )
        plan = replace(plan, labels={**plan.labels, "joint": joint})
        return self.one_step("contrast", plan, banks, unified)

    def _travel(self, banks: Mapping[str, FeatureBank], labels: Tensor, smooth: bool) -> Tensor:
        """Return visible labels by vote of infrared neighbours, then of visible ones (quirk Q31: one way)."""
        visible, infrared = banks["visible"].features, banks["infrared"].features
        votes = self.config.unification_top_k
        travelled = propagate_labels(visible, infrared, labels, votes)
        return smooth_labels(visible, travelled, votes) if smooth else travelled

    def _joint_level(self, bank: FeatureBank) -> EpochPlan:
        """Train on joint clusters of embeddings in the memories that the modality level left."""
        c = self.config
        plan = EpochPlan({}, (), (), c.iterations, {"eps": c.eps, "k2": float(c.k2)})
        if not self._modality_memories:
            return replace(plan, iterations=0, skipped="the modality level found no clusters")
        rows = [normalize(memory.rows) for memory in self._modality_memories.values()]
        labels = self._cluster_embedding(memory_embedding(bank.features, rows, c.embedding_scale))
        plan = replace(plan, labels={"joint": scatter_labels(labels, bank.index, len(bank))})
        if n_clusters(labels) < 2:
            return self._nothing(plan.labels, {"joint": labels}, plan.record)
        with timed("memory"):
            self.memories = dict.fromkeys(MODALITIES, self.memory_of_means(bank, labels))
        mine = {name: labels[bank.modality.to(labels.device) == m] for name, m in MODALITIES.items()}
        return self.one_step("contrast", plan, by_modality(bank), mine)

    def _apart(
        self, banks: Mapping[str, FeatureBank], found: Mapping[str, Tensor], iterations: int, eps: float
    ) -> EpochPlan:
        """Plan training of each side against its own clusters; a side with fewer than two stays out."""
        labels = {
            name: scatter_labels(found[name], part.index, len(self.data)) for name, part in banks.items()
        }
        record = {"eps": eps, "k2": float(self.config.k2)}
        usable = {name: mine for name, mine in found.items() if n_clusters(mine) > 1}
        if not usable:
            return self._nothing(labels, found, record)
        with timed("memory"):
            self.memories = {name: self.memory_of_means(banks[name], mine) for name, mine in usable.items()}
        return self.one_step("contrast", EpochPlan(labels, (), (), iterations, record), banks, usable)

    def _nothing(
        self, labels: Mapping[str, Tensor], found: Mapping[str, Tensor], record: Mapping[str, float]
    ) -> EpochPlan:
        reason = f"{too_few(found)} with eps = {record['eps']:.3g}, k1 = {self.config.k1}"
        return self.skip(labels, reason, record)

    def _cluster_by_cameras(self, name: str, bank: FeatureBank) -> Tensor:
        """Cluster a modality by its similarities to the camera level's proxies; by features where there are none."""
        proxies = [normalize(rows) for _, rows in sorted(self._proxies[name].items())]
        if not proxies:
            return self.cluster(bank, self.config.eps).labels
        if name == "visible" and self.config.camera_blocks == "misread":
            proxies = list(torch.cat(proxies).split(misread_block_sizes([len(rows) for rows in proxies])))
        return self._cluster_embedding(memory_embedding(bank.features, proxies, self.config.embedding_scale))

    def _cluster_embedding(self, embedding: Tensor) -> Tensor:
        c = self.config
        rows = normalize(embedding) if c.normalise_embedding else embedding
        return embedding_clusters(
            rows, k1=c.k1, eps=c.eps, min_samples=c.min_samples, expansion=Plain(c.k2)
        ).labels
