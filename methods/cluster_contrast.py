"""Cluster contrast (Dai et al., ACCV 2022, arXiv 2103.11568), brought to visible + infrared.

One centroid per cluster, compared with every image; centroids move with the images of a batch. The two-modality
presets are our transfer: no public reference for them exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from methods.base import (
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Reference,
    Stage,
    Step,
    TrainingData,
    timed,
    value,
)
from methods.clustering import Clustering, MeanExpansion, jaccard_clusters
from methods.parts.config import DEMO, FROM_ONE_MODALITY
from methods.parts.contrast import move_memories
from methods.parts.memories import ClusterMemory
from methods.parts.one_stage import OneStageConfig, banks_of, contrast_loss, start_memories, streams_of
from methods.parts.spaces import cluster_each, distances_seen, plan, skipped, too_few_clusters
from methods.parts.two_stream import Seen, TwoStreamMethod


class ClusterContrastConfig(OneStageConfig):
    """Hyper-parameters of cluster contrast on plain k-reciprocal Jaccard distances."""

    k1: int = value(30, "published code", "neighbours, the sample included", ge=1)
    k2: int = value(6, "published code", "expansion neighbours", ge=1)


class ClusterContrast(TwoStreamMethod):
    """Cluster contrast on the joint set (default) or on each modality alone."""

    name = "cluster-contrast"
    written = "Cluster Contrast"
    summary = "one memory row per cluster of the joint set (or of each modality)"
    Config = ClusterContrastConfig
    config: ClusterContrastConfig
    reference = Reference(
        title="Cluster Contrast for Unsupervised Person Re-Identification",
        venue="ACCV, arXiv 2103.11568",
        year=2022,
        parts={
            "clustering, memory, loss": ("published code", ""),
            "two-stream backbone, 288 x 144, both modalities in one set": ("adapted", "no public reference"),
            "pooling": ("adapted", "generalised mean with fixed p = 3; the published code learns p, from 3"),
            **FROM_ONE_MODALITY,
            "eps on RegDB": ("adapted", "the value its visible-infrared descendants use"),
        },
    )

    def __init__(self, config: ClusterContrastConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}

    @classmethod
    def stages(cls, config: ClusterContrastConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster, start the memory from cluster means, draw from the clusters."""
        c = self.config
        spaces = cluster_each(banks_of(c, bank), self.cluster, len(bank))
        record = {"eps": c.eps, "k1": float(c.k1), "k2": float(c.k2)}
        if why := too_few_clusters(spaces):
            where = ", ".join(f"{name} = {number:.3g}" for name, number in record.items())
            return skipped(spaces, f"{why} with {where}; {distances_seen(spaces)}", record)
        with timed("memory"):
            self.memories = start_memories(c, spaces, self.data.generator("memory", epoch.number))
        return plan(spaces, streams_of(c, spaces), (Step("train", tuple(spaces)),), c.iterations, record)

    def cluster(self, bank: FeatureBank) -> Clustering:
        """Cluster a bank by k-reciprocal Jaccard distances and DBSCAN."""
        c = self.config
        return jaccard_clusters(
            bank.features, k1=c.k1, eps=c.eps, min_samples=c.min_samples, expansion=MeanExpansion(c.k2)
        )

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of the images against the centroids of their label space."""
        return contrast_loss(self.memories, seen, batch)

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the clusters in the batch."""
        move_memories(self.memories, seen, batch)

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted(), "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {"*": DEMO | {"epochs": 10, "labels_per_batch": 24, "k1": 20, "k2": 4, "eps": 0.45}},
        "joint": {"*": {"spaces": "joint"}},
        "dual": {"*": {"spaces": "dual"}},
        "dual+ca": {"*": {"spaces": "dual", "augmented_view": True}},
        "public": {"*": {"bn_chunks": 4}},
    }
