"""PGM: progressive graph matching and alternate learning (Wu and Ye, CVPR 2023).

Dual contrast in stage I. In stage II every cluster gets a partner of the other modality by bipartite matching, and
images are compared with the partner's centroid too: in even epochs visible images with infrared memories, in odd
epochs infrared images with visible ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from methods.association.matching import match_clusters
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
from methods.parts.config import (
    DEMO,
    FROZEN_CENTROIDS,
    LAST_EPOCH,
    PUBLIC,
    UNIT_AVERAGE,
    TwoStageConfig,
    UpdateRule,
    network_parts,
)
from methods.parts.contrast import (
    CROSS,
    alternate,
    centroids_of,
    cluster_modalities_plainly,
    contrast,
    dual_streams,
    move_memories,
    start_memory,
    two_stages,
)
from methods.parts.memories import ClusterMemory
from methods.parts.spaces import distances_seen, plan, skipped, too_few_clusters
from methods.parts.two_stream import Seen, TwoStreamMethod


class PGMConfig(TwoStageConfig):
    """Hyper-parameters of PGM; defaults are SYSU-MM01's."""

    non_local: bool = value(True, "published code", "non-local blocks in layer2 and layer3")
    memory_momentum: float = value(
        0.2, "published code", "share of the old centroid in an update", ge=0, le=1
    )
    cross_update: UpdateRule = value(
        "hardest", "published code", "which batch samples move a cluster's centroid in stage II"
    )
    cross_weight: float = value(0.25, "published code", "weight of the cross-modality term", ge=0)
    infrared_jitter: bool = value(
        True, "published code", "colour jitter of infrared images in stage I; augmented views always have it"
    )


class PGM(TwoStreamMethod):
    """Progressive graph matching."""

    name = "pgm"
    written = "PGM"
    summary = "dual contrast, then matched clusters and a cross-modality term of alternating direction"
    Config = PGMConfig
    config: PGMConfig
    reference = Reference(
        title="Unsupervised Visible-Infrared Person Re-Identification via Progressive Graph Matching and "
        "Alternate Learning",
        venue="CVPR",
        year=2023,
        parts={
            "matching, first and second round": ("published code", ""),
            "matching, further rounds, and more infrared than visible clusters": (
                "reconstructed",
                "the published code breaks off at a third round (quirk Q27), and on SYSU-MM01 has no cross term with "
                "fewer visible clusters (quirk Q26)",
            ),
            "alternating term, which moves the memories too": ("published code", "quirk Q28"),
            "hardest update in stage II on SYSU-MM01": (
                "published code",
                "its notes recommend it, the paper's table may be without",
            ),
            "length of stage II": ("published code", "its log: 50 epochs, though it prints 70"),
            "equally cheap assignments": ("ours", "as SciPy's solver leaves them"),
            "stage II from stage I's last epoch": LAST_EPOCH,
            "features that are clustered": UNIT_AVERAGE,
            "centroids that gradients see": FROZEN_CENTROIDS,
            **network_parts("published code"),
            "colour jitter": (
                "adapted",
                "on tensors; the published code's is on Pillow images, 1.6 of 256 levels apart on average",
            ),
            "selection of the best epoch": (
                "published code",
                "by mean mAP over SYSU-MM01's ten galleries of all search",
            ),
        },
    )

    def __init__(self, config: PGMConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}
        self.partner: dict[str, Tensor] = {}

    @classmethod
    def stages(cls, config: PGMConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with matched clusters."""
        return two_stages(config)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality, start its memory from cluster means, match all clusters in stage II."""
        c, cross = self.config, epoch.stage.name == CROSS
        spaces = cluster_modalities_plainly(c, bank)
        record = {"eps": c.eps, "k2": float(c.k2)}
        if why := too_few_clusters(spaces):
            return skipped(
                spaces, f"{why} with eps = {c.eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}", record
            )

        with timed("memory"):
            centroids = centroids_of(spaces)
        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        rule = c.cross_update if cross else c.memory_update
        self.memories = {name: start_memory(c, rows, generator, rule) for name, rows in centroids.items()}
        if cross:
            with timed("associate"):
                matching = match_clusters(centroids["visible"], centroids["infrared"])
            pairs = {"visible": matching.visible_to_infrared, "infrared": matching.infrared_to_visible}
            self.partner = {name: partner.cpu() for name, partner in pairs.items()}
            record["one_to_one"] = float(matching.one_to_one.sum())

        # infrared images go without jitter in stage II
        infrared = "jitter-adapt-gray" if c.infrared_jitter and not cross else "channel-adapt-gray"
        streams = dual_streams(c, spaces, (("plain", "jitter-exchange"), (infrared,)))
        step = Step("dual", tuple(stream.name for stream in streams))
        return plan(spaces, streams, (step,), epoch.stage.iterations, record)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of each modality against its own memory; in stage II, of one against the other's."""
        terms = contrast(self.memories, seen, batch)
        if self.crosses(epoch):
            source, target = alternate(epoch)
            partner = self.partner[source][batch.parts[source].drawn.pseudo_label]
            terms["cross"] = self.config.cross_weight * self.memories[target].loss(
                seen.features[source], partner
            )
        return terms

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the clusters in the batch; in stage II, of their partners first."""
        if self.crosses(epoch):
            source, target = alternate(epoch)
            partner = self.partner[source][batch.parts[source].drawn.pseudo_label]
            self.memories[target].update(seen.features[source], partner)
        move_memories(self.memories, seen, batch)

    def crosses(self, epoch: Epoch) -> bool:
        """Whether an epoch has the cross-modality term.

        A weight of zero leaves the term out, for its memory updates would not be weighted.
        """
        return epoch.stage.name == CROSS and self.config.cross_weight > 0

    presets = {
        "paper": {
            "sysu-mm01": {},
            "llcm": Adapted({"k1": 25}),
            "regdb": {
                "eps": 0.3,
                "iterations": 100,
                "epochs_dual": 30,
                "epochs_cross": 30,
                "lr_step": 10,
                "cross_update": "sequential",
                "infrared_jitter": False,
            },
        },
        "demo": {
            "*": DEMO
            | {"epochs_dual": 4, "epochs_cross": 6, "labels_per_batch": 8, "infrared_labels": 8}
            | {"k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "public": {"*": PUBLIC | {"stage_init": "best-of-stage"}},
        "no-matching": {"*": {"cross_weight": 0.0}},
    }
