"""CA-Jaccard (Chen et al., CVPR 2024, arXiv 2311.10605), brought to visible + infrared.

A distance: reciprocal neighbours and query expansion look at the sample's own camera and at the other cameras
apart. The training around it is cluster contrast's, unchanged. On RegDB, where each modality has one camera, the
distance becomes modality-aware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

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
from methods.clustering import CameraAware, Clustering, camera_aware_clusters
from methods.parts.config import DEMO, FROM_ONE_MODALITY
from methods.parts.contrast import move_memories
from methods.parts.memories import ClusterMemory
from methods.parts.one_stage import OneStageConfig, banks_of, contrast_loss, start_memories, streams_of
from methods.parts.spaces import cluster_each, distances_seen, plan, skipped, too_few_clusters
from methods.parts.two_stream import Seen, TwoStreamMethod


class CAJaccardConfig(OneStageConfig):
    """Hyper-parameters of CA-Jaccard; defaults are SYSU-MM01's."""

    k1_intra: int = value(5, "published code", "neighbours of the same camera in the reciprocal test", ge=1)
    k1_inter: int = value(
        20,
        "published code",
        "neighbours of other cameras in the reciprocal test; one more is used (quirk Q19)",
        ge=1,
    )
    k2_intra: int = value(
        2, "published code", "expansion neighbours of the same camera, the sample included", ge=0
    )
    k2_inter: int = value(4, "published code", "expansion neighbours of other cameras", ge=0)
    warm_up_k2: int = value(
        3,
        "published code",
        "both numbers of expansion neighbours in the first epoch (quirk Q20); 0: no warm-up",
        ge=0,
    )
    fill_lists: bool = value(
        False,
        "reconstructed",
        "lists of small cameras go on with samples of the wrong side, as in the public code (quirk Q21)",
    )


class CAJaccard(TwoStreamMethod):
    """Cluster contrast on camera-aware Jaccard distances."""

    name = "ca-jaccard"
    written = "CA-Jaccard"
    summary = "cluster contrast on camera-aware Jaccard distances"
    Config = CAJaccardConfig
    config: CAJaccardConfig
    reference = Reference(
        title="CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification",
        venue="CVPR, arXiv 2311.10605",
        year=2024,
        parts={
            "distance, its neighbour counts": (
                "published code",
                "short lists stay short (quirk Q21; public fills them)",
            ),
            "memory, loss, optimiser": ("published code", "cluster contrast's, unchanged"),
            "two-stream backbone, 288 x 144, both modalities in one set": ("adapted", "no public reference"),
            "pooling": (
                "adapted",
                "generalised mean with fixed p = 3; the published code takes the plain mean",
            ),
            **FROM_ONE_MODALITY,
            "cameras on RegDB": ("adapted", "one per modality, so that other cameras are the other modality"),
            "dual on RegDB": (
                "adapted",
                "a modality has one camera, hence no others: lists are filled as in the public code (quirk Q21)",
            ),
            "bn_chunks of the preset public": (
                "reconstructed",
                "four devices, as the descendants' codes use",
            ),
            "eps on RegDB": ("adapted", "the value of cluster contrast's visible-infrared descendants"),
        },
    )

    def __init__(self, config: CAJaccardConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}

    @classmethod
    def stages(cls, config: CAJaccardConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster by camera-aware distances; the rest is cluster contrast."""
        c = self.config
        # the first epoch averages over equally many neighbours on both sides (quirk Q20)
        warm_up = bool(c.warm_up_k2) and epoch.number == 0
        k2 = (c.warm_up_k2, c.warm_up_k2) if warm_up else (c.k2_intra, c.k2_inter)
        spaces = cluster_each(banks_of(c, bank), partial(self.cluster, k2=k2), len(bank))
        counts = {"k1_intra": c.k1_intra, "k1_inter": c.k1_inter, "k2_intra": k2[0], "k2_inter": k2[1]}
        record = {"eps": c.eps, **{name: float(count) for name, count in counts.items()}}
        if why := too_few_clusters(spaces):
            where = ", ".join(f"{name} = {number:.3g}" for name, number in record.items())
            return skipped(spaces, f"{why} with {where}; {distances_seen(spaces)}", record)
        with timed("memory"):
            self.memories = start_memories(c, spaces, self.data.generator("memory", epoch.number))
        return plan(spaces, streams_of(c, spaces), (Step("train", tuple(spaces)),), c.iterations, record)

    def cluster(self, bank: FeatureBank, k2: tuple[int, int]) -> Clustering:
        """Cluster a bank by CA-Jaccard distances and DBSCAN."""
        c = self.config
        # one camera (a modality of RegDB alone) has no other: lists would end after k1_intra + 1, whatever k1_inter
        fill = c.fill_lists or len(bank.camera.unique()) == 1
        settings = CameraAware(bank.camera, c.k1_intra, c.k1_inter, *k2, fill)
        return camera_aware_clusters(bank.features, settings, eps=c.eps, min_samples=c.min_samples)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of the images against the centroids of their label space."""
        return contrast_loss(self.memories, seen, batch)

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the clusters in the batch."""
        move_memories(self.memories, seen, batch)

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted(), "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {
            "*": DEMO
            | {"epochs": 10, "labels_per_batch": 8}
            | {"k1_intra": 2, "k1_inter": 12, "k2_intra": 2, "k2_inter": 3, "eps": 0.55},
            "regdb": {"k1_intra": 5, "k1_inter": 9, "k2_intra": 2, "k2_inter": 2, "eps": 0.5},
        },
        "joint": {"*": {"spaces": "joint"}},
        "dual": {"*": {"spaces": "dual"}},
        "3+3": {"*": {"k2_intra": 3, "k2_inter": 3}},
        "public": {"*": {"bn_chunks": 4, "fill_lists": True}},
    }
