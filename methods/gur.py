"""GUR: grand unified representation learning (Yang et al., ICCV 2023).

Every epoch climbs three levels: pairs of one visible and one infrared camera, each modality, both together. A level
describes images by their similarities to the memories of the level below, clusters those descriptions, and trains on
the clusters. Late in training visible images take over the labels of the infrared images they resemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.aggregation import propagate_labels, smooth_labels
from methods.association.embedding import memory_embedding, misread_block_sizes
from methods.base import (
    MODALITIES,
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Phase,
    Reference,
    Stage,
    Step,
    Stream,
    TrainingData,
    timed,
    value,
)
from methods.clustering import MeanExpansion, jaccard_clusters
from methods.parts.config import (
    DEMO,
    FROZEN_CENTROIDS,
    ONE_GALLERY,
    PUBLIC,
    UNIT_AVERAGE,
    ContrastConfig,
    network_parts,
)
from methods.parts.contrast import (
    centroids_of,
    cluster_plainly,
    contrast,
    dual_streams,
    move_memories,
    start_memory,
)
from methods.parts.memories import ClusterMemory, compute_centroids
from methods.parts.spaces import (
    JOINT,
    LabelSpace,
    by_modality,
    cluster_each,
    label_space,
    plan,
    skipped,
    too_few_clusters,
)
from methods.parts.two_stream import Seen, TwoStreamMethod

MODALITY_LEVEL, JOINT_LEVEL = Phase("modality"), Phase(JOINT)


class GURConfig(ContrastConfig):
    """Hyper-parameters of GUR; defaults are SYSU-MM01's."""

    epochs: int = value(50, "published code", "epochs; each climbs all levels", ge=1)
    camera_level: bool = value(
        True, "published code", "train on pairs of one visible and one infrared camera"
    )
    camera_iterations: int = value(50, "published code", "iterations of each pair of cameras", ge=1)
    camera_eps: float = value(0.55, "published code", "DBSCAN radius within a camera", gt=0, le=1)
    embedding_scale: float = value(20.0, "published code", "inverse temperature of embeddings", gt=0)
    normalise_embedding: bool = value(
        False,
        "published code",
        "unit embeddings; the published formula for unit rows gets others (quirk Q29)",
    )
    camera_blocks: Literal["camera", "misread"] = value(
        "camera", "reconstructed", "one softmax a visible camera, or the public code's wrong cuts (quirk Q30)"
    )
    unification_from: int = value(30, "published code", "epoch from which labels travel to visible", ge=0)
    unification_top_k: int = value(20, "published code", "neighbours that vote on a label", ge=1)
    smoothing_from: int = value(40, "published code", "epoch from which travelled labels are smoothed", ge=0)
    joint_until: int = value(40, "published code", "epochs with the joint level", ge=0)


class GUR(TwoStreamMethod):
    """Grand unified representation learning."""

    name = "gur"
    written = "GUR"
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
            "levels, embeddings, label unification": ("published code", ""),
            "softmax blocks of visible cameras": (
                "reconstructed",
                "one a camera; the published code cuts them wrongly (public; quirk Q30)",
            ),
            "a side without clusters": ("reconstructed", "the other side trains alone"),
            "features between camera pairs": (
                "published code",
                "its schedule; ours extracts all images, not two cameras",
            ),
            "features that are clustered": UNIT_AVERAGE,
            "centroids that gradients see": FROZEN_CENTROIDS,
            **network_parts("published code"),
            "selection of the best epoch": ONE_GALLERY,
        },
    )

    def __init__(self, config: GURConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}
        # what the levels below leave to those above, within an epoch
        self.camera_memories: dict[str, dict[int, ClusterMemory]] = {name: {} for name in MODALITIES}
        self.modality_memories: dict[str, ClusterMemory] = {}

    @classmethod
    def stages(cls, config: GURConfig) -> Sequence[Stage]:
        """One stage; the levels are phases of its epochs."""
        return (Stage("levels", config.epochs, config.iterations),)

    def phases(self, epoch: Epoch) -> Sequence[Phase]:
        """Name the levels of an epoch: ``camera-A-B`` for each pair of cameras, ``modality``, ``joint``."""
        cameras = [self.data.camera[self.data.modality == m].unique().tolist() for m in MODALITIES.values()]
        pairs = [Phase(f"camera-{a}-{b}", (a, b)) for a, b in product(*cameras)]
        return (
            *(pairs if self.config.camera_level else ()),
            MODALITY_LEVEL,
            *((JOINT_LEVEL,) if epoch.in_stage < self.config.joint_until else ()),
        )

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Climb to the next level."""
        if epoch.phase == self.phases(epoch)[0]:
            self.camera_memories = {name: {} for name in MODALITIES}
            self.modality_memories = {}
        self.memories = {}
        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        if epoch.phase.cameras:
            return self.camera_level(epoch, bank, generator)
        if epoch.phase == MODALITY_LEVEL:
            return self.modality_level(epoch, bank, generator)
        return self.joint_level(bank, generator)

    def camera_level(self, epoch: Epoch, bank: FeatureBank, generator: torch.Generator) -> EpochPlan:
        """Train on one visible and one infrared camera; a camera keeps the memory that its last pair leaves."""
        c, cameras = self.config, dict(zip(MODALITIES, epoch.phase.cameras, strict=True))
        banks = {
            name: bank.only((bank.modality == MODALITIES[name]) & (bank.camera == camera))
            for name, camera in cameras.items()
        }
        spaces = cluster_each(banks, partial(cluster_plainly, c, eps=c.camera_eps), len(bank))
        planned = self.train_apart(spaces, c.camera_iterations, c.camera_eps, generator)
        for name, memory in self.memories.items():
            self.camera_memories[name][cameras[name]] = memory
        return planned

    def modality_level(self, epoch: Epoch, bank: FeatureBank, generator: torch.Generator) -> EpochPlan:
        """Train on each modality; once labels travel, on both against the infrared memory."""
        c = self.config
        spaces = {
            name: label_space(part, self.cluster_by_cameras(name, part), len(bank))
            for name, part in by_modality(bank).items()
        }
        planned = self.train_apart(spaces, c.iterations, c.eps, generator)
        self.modality_memories = dict(self.memories)
        if epoch.in_stage < c.unification_from or "infrared" not in self.memories:
            return planned

        with timed("associate"):
            travelled = self.travel(spaces, smooth=epoch.in_stage >= c.smoothing_from)
        unified = {"visible": travelled, "infrared": spaces["infrared"]}
        self.memories = dict.fromkeys(MODALITIES, self.memories["infrared"])
        # the labels that were found stay in the record, beside the unified ones
        joint = torch.maximum(travelled.everywhere, spaces["infrared"].everywhere)
        streams = dual_streams(c, unified)
        return EpochPlan(
            {**planned.labels, JOINT: joint}, streams, contrast_step(streams), c.iterations, planned.record
        )

    def travel(self, spaces: Mapping[str, LabelSpace], smooth: bool) -> LabelSpace:
        """Label visible images by vote of infrared neighbours, then of visible ones (quirk Q31: one way)."""
        visible, infrared = (normalize(spaces[name].bank.features) for name in MODALITIES)
        votes = self.config.unification_top_k
        labels = propagate_labels(visible, infrared, spaces["infrared"].labels, votes)
        if smooth:
            labels = smooth_labels(visible, labels, votes)
        return label_space(spaces["visible"].bank, labels, len(self.data))

    def joint_level(self, bank: FeatureBank, generator: torch.Generator) -> EpochPlan:
        """Train on joint clusters of embeddings in the memories that the modality level left."""
        c = self.config
        record = {"eps": c.eps, "k2": float(c.k2)}
        if not self.modality_memories:
            return skipped({}, "the modality level found no clusters", record)
        rows = [memory.centroids for memory in self.modality_memories.values()]
        labels = self.cluster_embedding(self.embed(bank, rows))
        joint = label_space(bank, labels, len(bank))
        if len(joint) < 2:
            return self.nothing_found({JOINT: joint}, record)
        with timed("memory"):
            memory = start_memory(c, compute_centroids(bank.features, labels), generator)
            self.memories = dict.fromkeys(MODALITIES, memory)
        streams = dual_streams(c, {name: joint.of(m) for name, m in MODALITIES.items()})
        return plan({JOINT: joint}, streams, contrast_step(streams), c.iterations, record)

    def train_apart(
        self, spaces: Mapping[str, LabelSpace], iterations: int, eps: float, generator: torch.Generator
    ) -> EpochPlan:
        """Plan training of each side against its own clusters; a side with fewer than two stays out."""
        c = self.config
        record = {"eps": eps, "k2": float(c.k2)}
        usable = {name: space for name, space in spaces.items() if len(space) > 1}
        if not usable:
            return self.nothing_found(spaces, record)
        with timed("memory"):
            centroids = centroids_of(usable)
            self.memories = {name: start_memory(c, rows, generator) for name, rows in centroids.items()}
        streams = dual_streams(c, usable)
        return plan(spaces, streams, contrast_step(streams), iterations, record)

    def nothing_found(self, spaces: Mapping[str, LabelSpace], record: Mapping[str, float]) -> EpochPlan:
        """Skip a level on which no side has two clusters."""
        why = f"{too_few_clusters(spaces)} with eps = {record['eps']:.3g}, k1 = {self.config.k1}"
        return skipped(spaces, why, record)

    def cluster_by_cameras(self, name: str, bank: FeatureBank) -> Tensor:
        """Cluster a modality by similarities to its cameras' memories; by features where there are none."""
        c = self.config
        memories = [
            memory for _, memory in sorted(self.camera_memories[name].items(), key=lambda item: item[0])
        ]
        if not memories:
            return cluster_plainly(c, bank).labels
        blocks = [memory.centroids for memory in memories]
        if name == "visible" and c.camera_blocks == "misread":
            blocks = list(torch.cat(blocks).split(misread_block_sizes([len(rows) for rows in blocks])))
        return self.cluster_embedding(self.embed(bank, blocks))

    def embed(self, bank: FeatureBank, blocks: Sequence[Tensor]) -> Tensor:
        """Describe images by their similarities to blocks of centroids.

        Features that were averaged with their mirrors' are of unit length here, and where they vote, even if the
        clustering of features takes them shorter (quirk Q2).
        """
        rows = [normalize(block) for block in blocks]
        return memory_embedding(normalize(bank.features), rows, self.config.embedding_scale)

    def cluster_embedding(self, embedding: Tensor) -> Tensor:
        """Cluster descriptions by Jaccard distances; their neighbours are Euclidean unless they are normalised."""
        c = self.config
        return jaccard_clusters(
            normalize(embedding) if c.normalise_embedding else embedding,
            k1=c.k1,
            eps=c.eps,
            min_samples=c.min_samples,
            expansion=MeanExpansion(c.k2),
            unit=False,
        ).labels

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of each side's images against its memory."""
        return contrast(self.memories, seen, batch)

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the clusters in the batch."""
        move_memories(self.memories, seen, batch)

    presets = {
        "paper": {
            "sysu-mm01": {},
            "llcm": Adapted({"camera_iterations": 5}),
            "regdb": {
                "epochs": 30,
                "camera_level": False,
                "eps": 0.3,
                "iterations": 100,
                "unification_from": 20,
                "unification_top_k": 10,
                "smoothing_from": 20,
                "joint_until": 25,
            },
        },
        "demo": {
            "*": DEMO
            | {
                "labels_per_batch": 8,
                "infrared_labels": 8,
                "unification_top_k": 5,
                "epochs": 6,
                "unification_from": 4,
                "smoothing_from": 5,
                "joint_until": 5,
                "k1": 12,
                "k2": 4,
                "eps": 0.55,
            },
            "sysu-mm01": {"camera_iterations": 4},
            "llcm": {"camera_iterations": 1},
            "regdb": {
                "epochs": 10,
                "unification_from": 7,
                "smoothing_from": 7,
                "joint_until": 8,
                "k1": 10,
                "k2": 3,
                "eps": 0.5,
            },
        },
        "public": {"*": PUBLIC | {"camera_blocks": "misread"}},
        "no-unification": {"*": {"unification_from": 1_000_000}},
        "no-cameras": {"*": {"camera_level": False}},
    }


def contrast_step(streams: Sequence[Stream]) -> tuple[Step, ...]:
    """Return the one step of a level, on all of its streams."""
    return (Step("contrast", tuple(stream.name for stream in streams)),)
