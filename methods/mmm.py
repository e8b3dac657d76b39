"""MMM: multi-memory matching (Shi et al., ECCV 2024).

Stages I and II contrast each modality, then both, against cluster memories (CMC). Then every cluster is split into four
memories, and visible clusters take the labels of the infrared clusters whose memories are nearest (MMLM). Stage III
trains a new network on these labels, which stay: a classifier, a triplet, prototypes and a discrepancy of modalities,
images weighted by confidence (SCA).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from methods.association.confidence import LastLosses, Unvisited, loss_confidence
from methods.association.multi_memory import MatchingRule, matched_labels, memory_distance
from methods.association.weighted_prototypes import WeightedPrototypes
from methods.base import (
    NOISE,
    TRAIN,
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Optimisation,
    Part,
    Phase,
    Reference,
    Stage,
    Step,
    TrainingData,
    timed,
    value,
)
from methods.errors import MethodError
from methods.parts.alignment import mean_discrepancy
from methods.parts.config import (
    DEMO,
    FIRST_GALLERY,
    FROZEN_CENTROIDS,
    LAST_EPOCH,
    UNIT_AVERAGE,
    JointContrastConfig,
    network_parts,
)
from methods.parts.contrast import (
    CROSS,
    DUAL,
    cluster_modalities_plainly,
    contrast,
    dual_contrast,
    joint_contrast,
    move_memories,
    two_stages,
)
from methods.parts.fixed_labels import KINDS, KINDS_OF, FixedLabels, Padding, fixed_labels, kinds_of
from methods.parts.heads import Classifier, Predictions
from methods.parts.losses import batch_hard_triplet
from methods.parts.memories import ClusterMemory
from methods.parts.optimisers import two_rates, warm_up_factor
from methods.parts.spaces import JOINT, LabelSpace, distances_seen, plan, skipped
from methods.parts.two_stream import Seen, TwoStreamMethod, first_network

MATCHED, WARM_UP = "matched", "warm-up"
CONFIDENCE, PROTOTYPES = Phase("confidence"), Phase("prototypes")
REGDB: dict[str, Any] = {
    **{"eps": 0.3, "iterations": 100, "joint_k1": 38, "joint_k2": 18},
    **{"matched_iterations": 86, "padding": 20, "infrared_padding": "alike"},
}
DEMO_STAGES = {"epochs_dual": 3, "epochs_cross": 3, "epochs_warm_up": 2, "epochs_matched": 4}
PUBLIC: dict[str, Any] = {
    **{"stage_init": "best-of-stage", "bn_chunks": 2, "memory_gradient": "in_backward"},
    **{"renormalise_flip": False, "match_all": False, "unvisited": "minimum", "flip_test": False},
}


class MMMConfig(JointContrastConfig):
    """Hyper-parameters of MMM; defaults are SYSU-MM01's."""

    non_local: bool = value(True, "published code", "non-local blocks in layer2 and layer3")
    infrared_labels: int = value(8, "published code", "pseudo-identities in an infrared batch", ge=1)
    # matching
    memories: int = value(4, "published code", "memories (sub-clusters) of a cluster", ge=1)
    kmeans_starts: int = value(10, "published code", "starts of their k-means, the best counts", ge=1)
    matching: MatchingRule = value("nearest", "published code", "partners: the nearest, or one to one")
    match_all: bool = value(True, "ours", "match the last cluster of each side too (quirk Q51)")
    # stage III
    epochs_warm_up: int = value(5, "published code", "first epochs of stage III: the classifier alone", ge=0)
    epochs_matched: int = value(95, "published code", "epochs of stage III after them", ge=0)
    matched_iterations: int = value(928, "published code", "iterations at most: images / batch, + 1", ge=1)
    matched_labels: int = value(6, "published code", "labels in its batches", ge=1)
    matched_instances: int = value(4, "published code", "images of each label and modality", ge=1)
    padding: int = value(14, "published code", "first images that follow a pass's visible list", ge=0)
    infrared_padding: Padding = value("to-visible", "published code", "infrared ones: as long, or as many")
    unvisited: Unvisited = value("left-out", "adapted", "images missed by a pass are trusted (quirk Q55)")
    skip_unset_prototypes: bool = value(False, "published code", "no pull to zero prototypes (quirk Q56)")
    intra_weight: float = value(0.5, "published code", "weight of the distance from prototypes", ge=0)
    inter_weight: float = value(0.05, "published code", "weight of the discrepancy of modalities", ge=0)
    margin: float = value(0.2, "published code", "margin of the triplet", ge=0)
    matched_rate: float = value(0.1, "published code", "SGD learning rate of neck and classifier", gt=0)
    backbone_rate: float = value(0.1, "published code", "the backbone's, as a share of it", gt=0)
    sgd_momentum: float = value(0.9, "published code", "its Nesterov momentum", gt=0, lt=1)
    flip_test: bool = value(True, "harness", "mirrors at test in stage III (quirk Q58)")


class MMM(TwoStreamMethod):
    """Multi-memory matching."""

    name = "mmm"
    written = "MMM"
    summary = "joint contrast, then clusters matched as sets of memories, and a new network on their labels"
    Config = MMMConfig
    config: MMMConfig
    reference = Reference(
        title="Multi-Memory Matching for Unsupervised Visible-Infrared Person Re-Identification",
        venue="ECCV, arXiv 2401.06825",
        year=2024,
        parts={
            "contrast, matching, alignment": ("published code", "the paper's text was not read, but a note"),
            **network_parts("published code"),
            "partners": ("published code", "the nearest, many to one; the note: an assignment (matching)"),
            "matched clusters": ("ours", "all; the published code leaves out two (public; quirk Q51)"),
            "memories of small clusters": ("ours", "their images; the published code: numbers (quirk Q52)"),
            "k-means": ("published code", "ten starts, the default of its library then; draws are ours"),
            "labels and images": ("ours", "go together; the published code sorts them apart (quirk Q53)"),
            "start of the mixture": ("adapted", "the parts of least variance; published: random k-means"),
            "images without a loss": ("adapted", "are trusted; published: of least loss (public; quirk Q55)"),
            "resizing in training": ("harness", "bicubic; the published code's stage III: Lanczos"),
            "features at test": ("harness", "mirrored; published in stage III: not (public; quirk Q58)"),
            "stage II from stage I's last epoch": LAST_EPOCH,
            "features that are clustered": UNIT_AVERAGE,
            "centroids that gradients see": FROZEN_CENTROIDS,
            "selection of the best epoch": FIRST_GALLERY,
        },
        url="https://arxiv.org/abs/2401.06825",
    )

    def __init__(self, config: MMMConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        dimension: int = self.backbone.dimension  # type: ignore[assignment]
        self.classifier = Classifier(dimension)
        self.modules["classifier"] = self.classifier
        self.memories: dict[str, ClusterMemory] = {}
        self.fixed: FixedLabels | None = None
        self.prototypes = WeightedPrototypes(torch.empty(len(KINDS), 0, dimension))

    @classmethod
    def stages(cls, config: MMMConfig) -> Sequence[Stage]:
        """Stages I and II cluster in every epoch; stage III trains a new network on labels that stay."""
        matched = Stage(MATCHED, config.epochs_warm_up + config.epochs_matched, config.matched_iterations)
        return (*two_stages(config), matched) if matched.epochs else two_stages(config)

    def phases(self, epoch: Epoch) -> Sequence[Phase]:
        """After its warm-up, an epoch of stage III looks for confidence before, and for prototypes after training."""
        if epoch.stage.name != MATCHED or self.warms_up(epoch):
            return (TRAIN,)
        return CONFIDENCE, TRAIN, PROTOTYPES

    def warms_up(self, epoch: Epoch) -> bool:
        """Whether an epoch of stage III trains the classifier alone."""
        return epoch.in_stage < self.config.epochs_warm_up

    def uses_features(self, epoch: Epoch) -> bool:
        """Stage III clusters once, with the features that stage II leaves."""
        return epoch.stage.name != MATCHED or self.fixed is None

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make Adam over the backbone; in stage III SGD, with a smaller rate for the backbone's body."""
        c, matched = self.config, stage.name == MATCHED
        self.flip_test = c.flip_test or not matched
        self.backbone.bn_chunks = 1 if matched else c.bn_chunks  # type: ignore[assignment]
        if not matched:
            return super().optimisers(stage)
        trainable = {name: p for name, p in self.backbone.named_parameters() if p.requires_grad}
        head = [*(p for name, p in trainable.items() if name.startswith("neck.")), self.classifier.weight]
        body = [p for name, p in trainable.items() if not name.startswith("neck.")]
        make = partial(SGD, momentum=c.sgd_momentum, nesterov=True)
        sgd = two_rates(make, head, body, (c.matched_rate, c.backbone_rate * c.matched_rate), c.weight_decay)
        schedule = LambdaLR(sgd, lambda e: warm_up_factor(c.lr_schedule, e, stage.epochs, second_fall=40))
        return {"model": Optimisation(sgd, schedule)}

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Stages I and II cluster and contrast; stage III matches once, then passes over images and draws batches."""
        c = self.config
        record: dict[str, float] = {}
        if epoch.stage.name != MATCHED:
            return self.contrast_clusters(epoch, bank)
        if self.fixed is None:
            spaces = cluster_modalities_plainly(c, bank)
            try:
                self.fixed, record = self.match(spaces)
            except MethodError as error:
                why = f"{error}, with eps = {c.eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}"
                return skipped(spaces, why, {"eps": c.eps})
            self.start_anew(len(self.fixed))
        step = WARM_UP if self.warms_up(epoch) else epoch.phase.name
        if step == CONFIDENCE.name:
            self.losses = LastLosses(len(KINDS), len(self.data), self.classifier.weight.device)
        elif step == TRAIN.name:
            record |= self.trust(self.fixed)
        elif step == PROTOTYPES.name:
            self.prototypes.begin()
        sizes, look = (c.matched_labels, c.matched_instances), step in (CONFIDENCE.name, PROTOTYPES.name)
        return self.fixed.plan(step, self.draw(self.fixed, epoch, step), sizes, record, look=look)

    def contrast_clusters(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality; in stage II both together, where clusters of one modality are only negatives (CMC)."""
        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        found = dual_contrast(self.config, bank, generator)
        if found.skipped:
            return skipped(found.spaces, found.skipped, found.record)
        if epoch.stage.name == CROSS:
            found = joint_contrast(self.config, bank, generator, found)
        self.memories = found.memories
        steps = Step(DUAL, tuple(stream.name for stream in found.dual)), *found.joint_steps()
        return plan(found.spaces, found.dual + found.joint, steps, epoch.stage.iterations, found.record)

    def match(self, spaces: Mapping[str, LabelSpace]) -> tuple[FixedLabels, dict[str, float]]:
        """Give visible clusters the labels of their partners (MMLM); a MethodError says why stage III cannot start."""
        c, (visible, infrared) = self.config, spaces.values()
        if empty := [f"no {name} cluster" for name, space in spaces.items() if not len(space)]:
            raise MethodError(" and ".join(empty))
        with timed("associate"):
            sides = (visible.bank.features, visible.labels), (infrared.bank.features, infrared.labels)
            distance = memory_distance(*sides, c.memories, starts=c.kmeans_starts)
            matched = matched_labels(sides[0][1], sides[1][1], distance, c.matching, match_all=c.match_all)
        fixed = fixed_labels(spaces, matched, self.data)
        if fixed.largest() < c.matched_instances:
            raise MethodError(f"no label has {c.matched_instances} images of each modality")
        return fixed, {
            "eps": c.eps,
            "visible_clusters": float(len(visible)),
            "infrared_clusters": float(len(infrared)),
            "partners": float(len(fixed.of("visible").unique())),
            "images_dropped": float((fixed.labels == NOISE).sum()),
        }

    def start_anew(self, classes: int) -> None:
        """Go back to the first weights; make a classifier, and prototypes that are zero (quirk Q56)."""
        self.backbone.load_state_dict(first_network(self.config, self.data).state_dict())
        self.classifier.resize(classes, self.data.seed("classifier"))
        rows = torch.zeros_like(self.classifier.weight.detach())
        self.prototypes = WeightedPrototypes(rows.repeat(len(KINDS), 1, 1))

    def draw(self, fixed: FixedLabels, epoch: Epoch, step: str) -> np.ndarray:
        """Draw passes over all images, or batches of common labels; prototypes see what was trained on."""
        c, passes = self.config, step in (WARM_UP, CONFIDENCE.name)
        sizes, most = (c.matched_labels, c.matched_instances), c.matched_iterations
        generator = np.random.default_rng(self.data.seed("passes" if passes else "batches", epoch.number))
        if passes:
            return fixed.passes(c.padding, c.infrared_padding, sizes, most, generator)
        return fixed.batches(sizes, most, generator)

    def trust(self, fixed: FixedLabels) -> dict[str, float]:
        """Turn the losses of the confidence pass into weights of the images; return their means."""
        costs, record = self.losses.costs, {}
        self.confidence = torch.ones_like(costs)
        with timed("associate"):
            for name, kinds in KINDS_OF.items():
                at = torch.tensor(kinds)[:, None], fixed.images(name)
                self.confidence[at] = loss_confidence(costs[at], unvisited=self.config.unvisited)
                record[f"confidence_{name}"] = float(self.confidence[at].mean())
        return record

    def forward(self, batch: Batch) -> Any:
        """Run all images through the network as one batch, in stage III through the classifier too."""
        if batch.step in (DUAL, JOINT):
            return super().forward(batch)
        part = batch.of(JOINT)
        post_bn, pooled = self.backbone(part.images, part.drawn.modality)
        return Predictions(pooled, self.classifier(post_bn).float())

    def loss(self, seen: Any, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Contrast with cluster memories in stages I and II; SCA in stage III, after a warm-up of the classifier."""
        if isinstance(seen, Seen):
            return contrast(self.memories, seen, batch)
        part = batch.of(JOINT)
        if batch.step == WARM_UP:
            return {"identity": cross_entropy(seen.logits, part.pseudo_label)}
        return self.align(seen, part)

    def align(self, seen: Predictions, part: Part) -> dict[str, Tensor]:
        """Return the terms of soft alignment; a batch is visible, augmented and infrared images of the same labels."""
        c, y, x, kind = self.config, part.pseudo_label, seen.pooled, kinds_of(part)
        n, weight = len(y) // 3, self.confidence[kind, part.sample_index]
        rows = self.prototypes.rows[kind, y]
        away = weight * (x - rows).abs().mean(1)
        if c.skip_unset_prototypes:
            away = away * rows.any(1)
        visible, augmented, infrared = x.chunk(3)
        pairs = (visible, infrared), (augmented, infrared), (infrared, visible), (infrared, augmented)
        # the partner gets no gradient, but is the one that gets it in another pair
        inter = torch.stack([mean_discrepancy(a, b.detach(), y[:n]) for a, b in pairs]).sum()
        from_prototypes = away[: 2 * n].sum() / 2 + away[2 * n :].sum()
        return {
            "identity": (weight * cross_entropy(seen.logits, y, reduction="none")).mean(),
            "triplet": batch_hard_triplet(x, y, c.margin),
            "intra": c.intra_weight * from_prototypes / n,
            "inter": c.inter_weight * inter / len(part.drawn.pseudo_label.unique()),
        }

    def update(self, seen: Any, batch: Batch, epoch: Epoch) -> None:
        """Move memories in stages I and II; in stage III keep what a pass has seen."""
        if isinstance(seen, Seen):
            move_memories(self.memories, seen, batch)
            return
        part = batch.of(JOINT)
        kind, drawn = kinds_of(part.drawn), part.drawn
        if batch.step == CONFIDENCE.name:
            cost = cross_entropy(seen.logits, part.pseudo_label, reduction="none")
            self.losses.add(kind, drawn.sample_index, cost)
        elif batch.step == PROTOTYPES.name:
            weight = self.confidence[kinds_of(part), part.sample_index]
            self.prototypes.add(kind, drawn.pseudo_label, seen.pooled, weight)

    def state(self) -> dict[str, Tensor]:
        """Return labels and prototypes of stage III."""
        return {"labels": self.fixed.labels, "prototypes": self.prototypes.rows} if self.fixed else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore labels and prototypes."""
        if state:
            self.fixed = FixedLabels(state["labels"].cpu(), self.data.modality.cpu())
            self.prototypes = WeightedPrototypes(state["prototypes"])

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted({"k1": 25}), "regdb": REGDB},
        "demo": {
            "*": DEMO
            | DEMO_STAGES
            | {"matched_iterations": 8}
            | {"k1": 12, "k2": 4, "eps": 0.55, "joint_k1": 16, "joint_k2": 10},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5, "joint_k1": 14, "joint_k2": 8},
        },
        "public": {"*": PUBLIC},
        "assignment": {"*": {"matching": "assignment"}},
    }
