"""PGM: progressive graph matching and alternate learning (Wu and Ye, CVPR 2023).

Dual contrast in stage I. In stage II every cluster gets a partner of the other modality by bipartite matching,
and samples are compared with the partner's memory too, in a direction that alternates from epoch to epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from methods.association.matching import match_clusters
from methods.base import Batch, Epoch, EpochPlan, FeatureBank, Part, Reference, Stream, setting
from methods.parts.dual import PUBLIC, DualConfig, DualContrast
from methods.parts.memories import ClusterMemory, cluster_means
from methods.parts.training import DEMO, FROZEN_ROWS, PLAIN_AVERAGE
from methods.timing import timed


class PGMConfig(DualConfig):
    """Hyper-parameters of PGM (methods-spec section 7); defaults are SYSU-MM01's."""

    non_local: bool = setting(True, "published code", "non-local blocks in layer2 and layer3")
    memory_momentum: float = setting(0.2, "published code", "share of the old row in an update", ge=0, le=1)
    cross_update: Literal["sequential", "hardest", "mean", "random"] = setting(
        "hardest", "published code", "which batch samples move a cluster's row in stage II"
    )
    cross_weight: float = setting(0.25, "published code", "weight of the cross-modality term", ge=0)
    infrared_jitter: bool = setting(
        True, "published code", "colour jitter of infrared images in stage I; augmented views always have it"
    )


class PGM(DualContrast):
    """Progressive graph matching."""

    name = "pgm"
    summary = "dual contrast, then matched clusters and a cross-modality term of alternating direction"
    Config = PGMConfig
    config: PGMConfig
    reference = Reference(
        title="Unsupervised Visible-Infrared Person Re-Identification via Progressive Graph Matching and "
        "Alternate Learning",
        venue="CVPR",
        year=2023,
        parts={
            "matching, first and second round": "published code",
            "matching, further rounds, and more infrared than visible clusters": "reconstructed: the published "
            "code breaks off at a third round (quirk Q27), and on SYSU-MM01 has no cross term with fewer visible "
            "clusters (quirk Q26)",
            "alternating term, which moves the memories too": "published code (quirk Q28)",
            "hardest update in stage II on SYSU-MM01": "published code; its notes recommend it, the paper's table "
            "may be without",
            "length of stage II": "published code's log: 50 epochs, though it prints 70",
            "equally cheap assignments": "ours: as SciPy's solver leaves them",
            "stage II from stage I's last epoch": "ours; the published code takes the best test epoch (public)",
            "features that are clustered": PLAIN_AVERAGE,
            "rows that gradients see": FROZEN_ROWS,
        },
    )
    presets = {
        "paper": {
            "sysu-mm01": {},
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
            "*": {**DEMO, "epochs_dual": 4, "epochs_cross": 6, "labels_per_batch": 8, "infrared_labels": 8},
            "sysu-mm01": {"k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "public": {"*": {"stage_init": "best-on-test", **PUBLIC}},
        "no-matching": {"*": {"cross_weight": 0.0}},
    }

    def make_memory(self, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> ClusterMemory:
        """Start a modality's memory from cluster means, with the update of the stage."""
        c = self.config
        update = c.cross_update if self.stage_name(epoch) == "cross" else c.memory_update
        return ClusterMemory(cluster_means(bank.features, labels), c.temperature, c.memory_momentum, update)

    def stream(self, name: str, bank: FeatureBank, labels: Tensor) -> Stream:
        """Return the stream of a modality in stage I, with colour jitter."""
        infrared = "jitter-adapt-gray" if self.config.infrared_jitter else "channel-adapt-gray"
        return replace(
            super().stream(name, bank, labels),
            visible_views=("plain", "jitter-exchange"),
            infrared_views=(infrared,),
        )

    def cross(
        self, plan: EpochPlan, epoch: Epoch, bank: FeatureBank, found: Mapping[str, Tensor]
    ) -> EpochPlan:
        """Match all clusters; infrared images go without jitter in stage II."""
        del epoch, bank, found
        with timed("associate"):
            matching = match_clusters(self.memories["visible"].rows, self.memories["infrared"].rows)
        self.partner = {"visible": matching.visible_to_infrared, "infrared": matching.infrared_to_visible}
        streams = tuple(replace(s, infrared_views=("channel-adapt-gray",)) for s in plan.streams)
        one_to_one = float(matching.one_to_one.sum())
        return replace(plan, streams=streams, record={**plan.record, "one_to_one": one_to_one})

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of each modality against its own memory; in stage II, of one against the other's."""
        terms = self.dual_loss(batch.parts)
        # a weight of zero leaves the term out, for its memory updates would not be weighted
        if self.stage_name(epoch) == "cross" and self.config.cross_weight:
            terms["cross"] = self.config.cross_weight * self._cross_term(batch.parts, epoch.in_stage)
        return terms

    def _cross_term(self, parts: Mapping[str, Part], in_stage: int) -> Tensor:
        """Compare infrared samples with visible rows in odd epochs, visible with infrared rows in even ones."""
        source, target = ("infrared", "visible") if in_stage % 2 else ("visible", "infrared")
        labels = self.partner[source][parts[source].label]
        return self.losses.loss(self.memories[target], self.seen[source], labels)
