"""ADCA: augmented dual-contrastive aggregation (Yang et al., ACM MM 2022).

Both stages cluster each modality alone and pull its images towards the centroids of their clusters, visible images
with a channel-augmented copy (dual contrast). In stage II the centroids of visible clusters first move to those of the
infrared clusters that most of their images resemble (cross-modality memory aggregation, the `cma` of the settings).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import normalize

from methods.association.aggregation import aggregate_by_counts, aggregate_rows, pair_counts
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
from methods.parts.config import DEMO, LAST_EPOCH, ONE_GALLERY, UNIT_AVERAGE, TwoStageConfig, network_parts
from methods.parts.contrast import (
    CROSS,
    centroids_of,
    cluster_modalities_plainly,
    contrast,
    dual_streams,
    move_memories,
    start_memory,
    two_stages,
)
from methods.parts.memories import ClusterMemory
from methods.parts.spaces import LabelSpace, distances_seen, plan, skipped, too_few_clusters
from methods.parts.two_stream import Seen, TwoStreamMethod


class ADCAConfig(TwoStageConfig):
    """Hyper-parameters of ADCA; defaults are SYSU-MM01's."""

    cma_threshold: float = value(
        0.5, "published code", "cosine from which on a pair of images counts for its clusters", ge=-1, le=1
    )
    cma_mixing: float = value(
        0.1, "published code", "share of the old centroid when a visible one moves to its partner", ge=0, le=1
    )
    renormalise_cma: bool = value(
        False,
        "reconstructed",
        "unit centroids after the move; the public code leaves them shorter (quirk Q11)",
    )


class ADCA(TwoStreamMethod):
    """Augmented dual-contrastive aggregation."""

    name = "adca"
    written = "ADCA"
    summary = "dual contrast with augmented views, then visible memory rows moved to matched infrared ones"
    Config = ADCAConfig
    config: ADCAConfig
    reference = Reference(
        title="Augmented Dual-Contrastive Aggregation Learning for Unsupervised Visible-Infrared Person "
        "Re-Identification",
        venue="ACM MM",
        year=2022,
        parts={
            "dual contrast, augmentation, samplers": ("published code", ""),
            "aggregation: counts, greedy pairs, one-directional centroids": (
                "published code",
                "its constants are in the source text, the paper's symbols were not checked",
            ),
            "similar images: cosine 0.5": (
                "ours",
                "of unit averages; those of the published code are shorter, its 0.5 is a little stricter (public; "
                "quirk Q2)",
            ),
            "order of equally frequent pairs": (
                "published code",
                "the pair with the most similar images first",
            ),
            "stage II from stage I's last epoch": LAST_EPOCH,
            "features that are clustered": UNIT_AVERAGE,
            **network_parts("published code"),
            "selection of the best epoch": ONE_GALLERY,
        },
    )

    def __init__(self, config: ADCAConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}

    @classmethod
    def stages(cls, config: ADCAConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with aggregated memories."""
        return two_stages(config)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality, start its memory from cluster means, aggregate the means in stage II."""
        c = self.config
        spaces = cluster_modalities_plainly(c, bank)
        record = {"eps": c.eps, "k2": float(c.k2)}
        if why := too_few_clusters(spaces):
            return skipped(
                spaces, f"{why} with eps = {c.eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}", record
            )

        with timed("memory"):
            centroids = centroids_of(spaces)
        if epoch.stage.name == CROSS:
            with timed("associate"):
                centroids["visible"], matched = self.aggregate(spaces, centroids)
            record["matched_clusters"] = float(matched)
        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        self.memories = {name: start_memory(c, rows, generator) for name, rows in centroids.items()}

        streams = dual_streams(c, spaces)
        step = Step("dual", tuple(stream.name for stream in streams))
        return plan(spaces, streams, (step,), epoch.stage.iterations, record)

    def aggregate(
        self, spaces: Mapping[str, LabelSpace], centroids: Mapping[str, Tensor]
    ) -> tuple[Tensor, int]:
        """Move visible centroids to those of matched infrared clusters; return them and the number of matches.

        Similar pairs of images vote for their clusters; pairs of clusters are accepted greedily by votes.
        """
        c, visible, infrared = self.config, spaces["visible"], spaces["infrared"]
        votes = pair_counts(
            visible.bank.features, infrared.bank.features, visible.labels, infrared.labels, c.cma_threshold
        )
        partner = aggregate_by_counts(votes)
        moved = aggregate_rows(centroids["visible"], centroids["infrared"], partner, c.cma_mixing)
        return normalize(moved) if c.renormalise_cma else moved, int((partner >= 0).sum())

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of each modality's images against its own memory."""
        return contrast(self.memories, seen, batch)

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the clusters in the batch, sample by sample."""
        move_memories(self.memories, seen, batch)

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted({"k1": 25}), "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {
            "*": DEMO
            | {"epochs_dual": 4, "epochs_cross": 6, "labels_per_batch": 8, "infrared_labels": 8}
            | {"k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "public": {"*": {"stage_init": "best-of-stage", "bn_chunks": 4, "renormalise_flip": False}},
        "no-aggregation": {"*": {"cma_mixing": 1.0}},
    }
