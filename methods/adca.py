"""ADCA: augmented dual-contrastive aggregation (Yang et al., ACM MM 2022).

Dual contrast in both stages (the visible images with a channel-augmented copy); in stage II memory rows of
visible clusters move to those of the infrared clusters that most of their images resemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor
from torch.nn.functional import normalize

from methods.association.aggregation import aggregate_by_counts, aggregate_rows, pair_counts
from methods.base import INFRARED, VISIBLE, Epoch, EpochPlan, FeatureBank, Reference, setting
from methods.parts.dual import DualConfig, DualContrast
from methods.parts.training import DEMO, PLAIN_AVERAGE
from methods.timing import timed


class ADCAConfig(DualConfig):
    """Hyper-parameters of ADCA (methods-spec section 5); defaults are SYSU-MM01's."""

    cma_threshold: float = setting(
        0.5, "published code", "cosine from which on a pair of images counts for its clusters", ge=-1, le=1
    )
    cma_mixing: float = setting(
        0.1, "published code", "share of the old row when a visible row moves to its partner", ge=0, le=1
    )
    renormalise_cma: bool = setting(
        False, "reconstructed", "unit rows after the move; the public code leaves them shorter (quirk Q11)"
    )


class ADCA(DualContrast):
    """Augmented dual-contrastive aggregation."""

    name = "adca"
    summary = "dual contrast with augmented views, then visible memory rows moved to matched infrared ones"
    Config = ADCAConfig
    config: ADCAConfig
    reference = Reference(
        title="Augmented Dual-Contrastive Aggregation Learning for Unsupervised Visible-Infrared Person "
        "Re-Identification",
        venue="ACM MM",
        year=2022,
        parts={
            "dual contrast, augmentation, samplers": "published code",
            "aggregation: counts, greedy pairs, one-directional rows": "published code; its constants are in "
            "the source text, the paper's symbols were not checked",
            "order of equally frequent pairs": "published code: the pair with the most similar images first",
            "stage II from stage I's last epoch": "ours; the published code takes the best test epoch (public)",
            "features that are clustered": PLAIN_AVERAGE,
        },
    )
    presets = {
        "paper": {"sysu-mm01": {}, "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {
            "*": {**DEMO, "epochs_dual": 4, "epochs_cross": 6, "labels_per_batch": 8, "infrared_labels": 8},
            "sysu-mm01": {"k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "public": {"*": {"stage_init": "best-on-test", "bn_chunks": 4, "renormalise_flip": False}},
        "no-aggregation": {"*": {"cma_mixing": 1.0}},
    }

    def cross(
        self, plan: EpochPlan, epoch: Epoch, bank: FeatureBank, found: Mapping[str, Tensor]
    ) -> EpochPlan:
        """Move visible rows to those of matched infrared clusters (cross-modality memory aggregation)."""
        del epoch
        c = self.config
        visible, infrared = self.memories["visible"], self.memories["infrared"]
        with timed("associate"):
            pairs = pair_counts(
                bank.of(VISIBLE).features,
                bank.of(INFRARED).features,
                found["visible"],
                found["infrared"],
                c.cma_threshold,
            )
            partner = aggregate_by_counts(pairs)
            rows = aggregate_rows(visible.rows, infrared.rows, partner, c.cma_mixing)
            visible.rows = normalize(rows) if c.renormalise_cma else rows
        matched = float((partner >= 0).sum())
        return replace(plan, record={**plan.record, "matched_clusters": matched})
