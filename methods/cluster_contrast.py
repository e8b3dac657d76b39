"""Cluster contrast (Dai et al., ACCV 2022, arXiv 2103.11568), brought to visible + infrared.

One memory row per cluster, compared with every sample; rows move with the queries. The two-modality presets
are our transfer: no public reference for them exists (methods-spec section 2).
"""

from __future__ import annotations

from abc import abstractmethod
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
    Reference,
    Stage,
    Step,
    Stream,
    setting,
)
from methods.clustering import Clustering, Plain, jaccard_clusters
from methods.clustering.labels import scatter_labels
from methods.parts.memories import ClusterMemory, cluster_means
from methods.parts.training import (
    DEMO,
    TrainingConfig,
    TwoStreamMethod,
    members,
    neighbour_distances,
    too_few,
)
from methods.timing import timed


class OneStageContrastConfig(TrainingConfig):
    """Hyper-parameters whatever the distance; defaults are SYSU-MM01's."""

    spaces: Literal["joint", "dual"] = setting(
        "joint", "adapted", "cluster both modalities as one set, or each alone"
    )
    augmented_view: bool = setting(
        False,
        "adapted",
        "add the channel-augmented copy of visible images, and adapt infrared channels (ADCA's first stage)",
    )
    epochs: int = setting(50, "published code", "epochs", ge=1)
    eps: float = setting(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, le=1)
    memory_momentum: float = setting(0.1, "published code", "share of the old row in an update", ge=0, le=1)
    memory_update: Literal["sequential", "hardest", "mean", "random"] = setting(
        "sequential", "published code", "which batch samples move a cluster's row"
    )
    labels_per_batch: int = setting(16, "published code", "pseudo-identities in a batch of a stream", ge=1)


class OneStageContrast(TwoStreamMethod):
    """Cluster contrast in one stage; a subclass says how a bank is clustered."""

    config: OneStageContrastConfig

    @classmethod
    def stages(cls, config: OneStageContrastConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster, take cluster means as memory rows, and draw streams from the clusters."""
        c = self.config
        banks = (
            {"joint": bank}
            if c.spaces == "joint"
            else {
                "visible": bank.of(VISIBLE),
                "infrared": bank.of(INFRARED),
            }
        )
        clusterings = {name: self.cluster(part, epoch) for name, part in banks.items()}
        found = {name: each.labels for name, each in clusterings.items()}
        labels = {name: scatter_labels(found[name], banks[name].index, len(bank)) for name in found}
        record = {"eps": c.eps, **self.neighbourhood(epoch)}
        if reason := too_few(found):
            settings = ", ".join(f"{name} = {value:.3g}" for name, value in record.items())
            return self.skip(labels, f"{reason} with {settings}; {neighbour_distances(clusterings)}", record)
        with timed("memory"):
            self._generator = torch.Generator().manual_seed(self.data.seed("memory", epoch.number))
            self._memories = {
                name: ClusterMemory(
                    cluster_means(banks[name].features, found[name]),
                    c.temperature,
                    c.memory_momentum,
                    c.memory_update,
                )
                for name in banks
            }
        streams = tuple(self._stream(name, *members(banks[name], found[name])) for name in banks)
        step = Step("train", tuple(banks))
        return EpochPlan(labels, streams, (step,), c.iterations, record)

    @abstractmethod
    def neighbourhood(self, epoch: Epoch) -> dict[str, float]:
        """Return the neighbour counts of an epoch, for the history and for messages."""

    @abstractmethod
    def cluster(self, bank: FeatureBank, epoch: Epoch) -> Clustering:
        """Cluster a bank."""

    def _stream(self, name: str, index: Tensor, label: Tensor) -> Stream:
        c = self.config
        visible = ("plain", "channel-exchange") if c.augmented_view else ("plain",)
        infrared = ("channel-adapt-gray",) if c.augmented_view else ("plain",)
        # as in ADCA, two views of half as many visible images make a batch as large as the infrared one
        p = max(1, c.labels_per_batch // len(visible)) if name == "visible" else c.labels_per_batch
        return Stream(name, index, label, p, c.instances, visible, infrared)

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy against the cluster memory of each label space."""
        features = dict(zip(batch.parts, self.features(list(batch.parts.values())), strict=True))
        self._seen = {name: f.detach() for name, f in features.items()}
        return {
            f"cluster_{name}": self._memories[name].loss(f, batch.parts[name].label)
            for name, f in features.items()
        }

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move the rows of the clusters in the batch."""
        for name, f in self._seen.items():
            self._memories[name].update(f, batch.parts[name].label, self._generator)


class ClusterContrastConfig(OneStageContrastConfig):
    """Hyper-parameters of cluster contrast on plain k-reciprocal Jaccard distances."""

    k1: int = setting(30, "published code", "neighbours, the sample included", ge=1)
    k2: int = setting(6, "published code", "expansion neighbours", ge=1)


class ClusterContrast(OneStageContrast):
    """Cluster contrast on the joint set (default) or on each modality alone."""

    name = "cluster-contrast"
    summary = "one memory row per cluster of the joint set (or of each modality)"
    Config = ClusterContrastConfig
    config: ClusterContrastConfig
    reference = Reference(
        title="Cluster Contrast for Unsupervised Person Re-Identification",
        venue="ACCV, arXiv 2103.11568",
        year=2022,
        parts={
            "clustering, memory, loss": "published code",
            "two-stream backbone, 288 x 144, both modalities in one set": "adapted: no public reference",
            "eps on RegDB": "adapted: the value its visible-infrared descendants use",
        },
    )
    presets = {
        "paper": {"sysu-mm01": {}, "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {
            "*": {**DEMO, "epochs": 10, "labels_per_batch": 24, "k1": 20, "k2": 4, "eps": 0.45},
        },
        "joint": {"*": {"spaces": "joint"}},
        "dual": {"*": {"spaces": "dual"}},
        "dual+ca": {"*": {"spaces": "dual", "augmented_view": True}},
        "public": {"*": {"bn_chunks": 4}},
    }

    def neighbourhood(self, epoch: Epoch) -> dict[str, float]:
        """Return the neighbour counts of an epoch, for the history and for messages."""
        del epoch
        c = self.config
        return {"k1": float(c.k1), "k2": float(c.k2)}

    def cluster(self, bank: FeatureBank, epoch: Epoch) -> Clustering:
        """Cluster a bank by plain k-reciprocal Jaccard distances."""
        del epoch
        c = self.config
        return jaccard_clusters(
            bank.features,
            k1=c.k1,
            eps=c.eps,
            min_samples=c.min_samples,
            expansion=Plain(c.k2),
        )
