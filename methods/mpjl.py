"""MPJL: modality-invariant progressive joint learning (public code of 2026; no paper seen).

DMIC's follow-up. Expansion (EFE) averages over at most so many neighbours of each camera; neighbour counts grow and
eps falls over a stage; SBMR moves the centroids of one modality towards the clusters of the other that prefer them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.aggregation import refine_rows
from methods.base import (
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    MethodConfig,
    Reference,
    Source,
    Stage,
    Step,
    TrainingData,
    timed,
    value,
)
from methods.clustering import Capped, Clustering, jaccard_clusters
from methods.errors import MethodError
from methods.parts.config import (
    DEMO,
    FROZEN_CENTROIDS,
    LAST_EPOCH,
    UNIT_AVERAGE,
    TrainingConfig,
    UpdateRule,
    network_parts,
)
from methods.parts.hierarchy import (
    bank_position_of,
    forward_apart,
    hierarchical_loss,
    hierarchical_streams,
    move_hierarchy,
    queries_of,
    schedule_rows,
    visible_orders,
)
from methods.parts.memories import ClusterMemory, InstanceMemory, compute_centroids, random_members
from methods.parts.spaces import (
    JOINT,
    LabelSpace,
    bank_row_of,
    cluster_each_modality,
    distances_seen,
    label_space,
    plan,
    skipped,
    too_few_clusters,
)
from methods.parts.two_stream import Seen, TwoStreamMethod

FIRST, SECOND, THIRD = STAGES = "first", "second", "third"
CODE: Source = "published code"
PUBLIC_ROWS = {"memory_gradient": "in_backward", "renormalise_flip": False}


class Neighbourhood(MethodConfig):
    """How neighbour counts grow over a stage: a count s with growth g is s * g^(e / span) in epoch e."""

    k1: float = value(30, CODE, "neighbours, at first", ge=1)
    k1_growth: float = value(2, CODE, "growth of the neighbours", gt=0)
    cap: float = value(6, CODE, "expansion neighbours of a camera, at first", ge=1)
    cap_growth: float = value(3, CODE, "growth of the cap", gt=0)


class StageSettings(Neighbourhood):
    """A stage, and its neighbours within a modality."""

    epochs: int = value(25, CODE, "epochs", ge=0)
    rows: Literal["random", "mean"] = value(
        "mean", CODE, "first centroid of a cluster within a modality: a random member, or the mean"
    )


class MPJLConfig(TrainingConfig):
    """Hyper-parameters of MPJL; defaults are SYSU-MM01's."""

    first: StageSettings = value(
        StageSettings(k1=20, k1_growth=3, rows="random"), CODE, "stage I: each modality alone"
    )
    second: StageSettings = value(StageSettings(), CODE, "stage II: each modality alone, SBMR")
    third: StageSettings = value(StageSettings(epochs=50), CODE, "stage III: all terms, SBMR")
    joint: Neighbourhood = value(
        Neighbourhood(k1=40, k1_growth=3, cap=16, cap_growth=1), CODE, "neighbours over both modalities"
    )
    span: int = value(48, CODE, "epochs after which a growth is reached", ge=1)
    stage_init: Literal["last", "best-of-stage"] = value(
        "last", "reconstructed", "weights stages II and III start from; best-of-stage: the public code's leak"
    )
    labels_per_batch: int = value(8, CODE, "pseudo-identities in a batch of a stream", ge=1)
    eps: float = value(0.6, CODE, "eps at the start of every stage", gt=0, le=1)
    eps_low: float = value(0.3, CODE, "the smallest eps", gt=0, le=1)
    eps_span: int = value(50, CODE, "epochs of stage I in which eps falls to eps_low", ge=1)
    turning_epoch: int = value(10, CODE, "epochs of stages II and III in which eps falls to eps_low", ge=1)
    rise_span: int = value(40, CODE, "epochs in which it is back at eps after the turn", ge=1)
    instance_memory: bool = value(True, CODE, "instance-level memories beside cluster-level ones")
    memory_update: UpdateRule = value(
        "random", CODE, "which samples move a row; random: visible ones shuffled, then infrared ones"
    )
    memory_gradient: Literal["frozen", "in_backward"] = value(
        "frozen", "reconstructed", "rows that gradients see: as in the forward pass, or moved (quirk Q6)"
    )
    instance_index: Literal["image", "position"] = value(
        "image", "adapted", "an image's instance row: its own, or that of its place without noise (quirk Q40)"
    )
    renormalise_flip: bool = value(
        True, "reconstructed", "unit length for features averaged with their mirrors' (quirk Q2)"
    )
    memory_momentum: float = value(0.0, CODE, "share of the old row in an update", ge=0, le=1)
    instance_reduce: Literal["sum", "mean"] = value("sum", CODE, "instances of a label: sum or mean")
    joint_weight: float = value(0.7, CODE, "lambda: weight of the joint terms", ge=0)
    sbmr_threshold: float = value(0.5, CODE, "SBMR: cosine from which a sample counts", ge=-1, le=1)
    sbmr_momentum: float = value(0.4, CODE, "SBMR: share of the old centroid", ge=0, le=1)

    def of(self, stage: Stage) -> StageSettings:
        """Return the settings of a stage."""
        return {FIRST: self.first, SECOND: self.second, THIRD: self.third}[stage.name]


def grown(start: float, growth: float, epoch: int, span: int) -> int:
    """Return a growing neighbour count in epoch `epoch` of its stage."""
    return max(1, round(start * growth ** (epoch / span)))


def eps_at(config: MPJLConfig, stage: str, epoch: int) -> float:
    """Return eps in epoch `epoch` of a stage: it falls, and after the turn of stages II and III it rises again."""
    c = config
    falling = c.eps_span if stage == FIRST else c.turning_epoch
    if stage == FIRST or epoch <= falling:
        return c.eps * (c.eps_low / c.eps) ** (epoch / falling)
    return min(1.0, c.eps_low * (c.eps / c.eps_low) ** ((epoch - falling) / c.rise_span))


def settings_at(config: MPJLConfig, stage: Stage, epoch: int) -> dict[str, float]:
    """Return eps and the neighbour counts in epoch `epoch` of a stage; joint ones are 0 before stage III."""
    c, own, joint = config, config.of(stage), stage.name == THIRD
    return {
        "eps": eps_at(c, stage.name, epoch),
        "k1": grown(own.k1, own.k1_growth, epoch, c.span),
        "cap": grown(own.cap, own.cap_growth, epoch, c.span),
        "joint_k1": grown(c.joint.k1, c.joint.k1_growth, epoch, c.span) if joint else 0,
        "joint_cap": grown(c.joint.cap, c.joint.cap_growth, epoch, c.span) if joint else 0,
    }


class MPJL(TwoStreamMethod):
    """Modality-invariant progressive joint learning."""

    name = "mpjl"
    written = "MPJL"
    summary = "DMIC's follow-up: capped expansion, progressive neighbours and eps, refined memory rows"
    Config = MPJLConfig
    config: MPJLConfig
    reference = Reference(
        title="Modality-Invariant Progressive Joint Learning",
        venue="public code only; no paper seen",
        year=2026,
        parts={
            "EFE, schedules of k1, cap and eps; memories, losses, weights": (CODE, ""),
            "SBMR": (CODE, "stages II and III"),
            "two forward passes in stage III": (CODE, "within modalities, and over both"),
            "rows of instance memories": ("adapted", "an image's own (public: by position, quirk Q40)"),
            "centroids that gradients see": FROZEN_CENTROIDS,
            "features that are clustered": UNIT_AVERAGE,
            "weights of later stages": LAST_EPOCH,
            **network_parts(CODE),
        },
        url="https://github.com/RuixingWu29/MPJL_USLVIReID",
    )

    def __init__(self, config: MPJLConfig, data: TrainingData) -> None:
        refuse_long_lists(config, data)
        super().__init__(config, data)
        self.clusters: dict[str, ClusterMemory] = {}
        self.instances: dict[str, InstanceMemory] = {}
        self.orders: dict[str, Tensor] = {}

    @classmethod
    def stages(cls, config: MPJLConfig) -> Sequence[Stage]:
        """Two stages within modalities, then one with both together."""
        lengths = {name: getattr(config, name).epochs for name in STAGES}
        return tuple(
            Stage(name, epochs, config.iterations, "last" if name == FIRST else config.stage_init)
            for name, epochs in lengths.items()
            if epochs
        )

    @classmethod
    def schedule(cls, config: MPJLConfig) -> list[dict[str, Any]]:
        """Return eps and the neighbour counts of every epoch without a run."""
        return schedule_rows(cls.stages(config), lambda stage, epoch: settings_at(config, stage, epoch))

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality, and both together in stage III; start the memories, refined by SBMR after stage I."""
        c, now = self.config, settings_at(self.config, epoch.stage, epoch.in_stage)
        if epoch.in_stage == 0:
            self.instances = {}  # instance memories live as long as their stage
        spaces = cluster_each_modality(
            bank, lambda part: self.cluster(part, now["eps"], now["k1"], now["cap"], 2 * now["cap"])
        )
        if epoch.stage.name == THIRD:
            both = self.cluster(bank, now["eps"], now["joint_k1"], now["joint_cap"], now["joint_k1"])
            spaces[JOINT] = label_space(bank, both.labels, len(bank), both.distances_seen)
        if why := too_few_clusters(spaces):
            where = f"eps = {now['eps']:.3g}, k1 = {now['k1']}, cap = {now['cap']}"
            return skipped(spaces, f"{why} with {where}; {distances_seen(spaces)}", now)

        with timed("memory"):
            self.shuffle = self.data.generator("memory", epoch.number)
            centroids = {name: self.centroids_of(name, space, epoch) for name, space in spaces.items()}
            if c.instance_memory:
                self.instances = {name: self.instances_of(name, space) for name, space in spaces.items()}
        if epoch.stage.name != FIRST:
            with timed("associate"):
                centroids |= self.refine(spaces, centroids)
        self.clusters = {name: self.memory_of(rows) for name, rows in centroids.items()}
        streams = hierarchical_streams(spaces, c.labels_per_batch, c.instances)
        step = Step(epoch.stage.name, tuple(stream.name for stream in streams))
        return plan(spaces, streams, (step,), epoch.stage.iterations, now)

    def cluster(self, bank: FeatureBank, eps: float, k1: float, cap: float, pool: float) -> Clustering:
        """Cluster by EFE: of the first `pool` neighbours at most `cap` of each camera are averaged over."""
        return jaccard_clusters(
            bank.features,
            k1=int(k1),
            eps=eps,
            min_samples=self.config.min_samples,
            expansion=Capped(int(min(pool, k1)), int(cap), bank.modality, bank.camera),
            unit=self.config.renormalise_flip,
        )

    def centroids_of(self, name: str, space: LabelSpace, epoch: Epoch) -> Tensor:
        """Start from a random member of every cluster, or from its mean; joint ones from means over all members."""
        if name != JOINT and self.config.of(epoch.stage).rows == "random":
            return random_members(space.bank.features, space.labels, self.shuffle)
        return compute_centroids(space.bank.features, space.labels)

    def memory_of(self, centroids: Tensor) -> ClusterMemory:
        """Start a cluster memory."""
        c = self.config
        # queries are shuffled once for both levels; in that order, "random" is sample after sample
        rule = "sequential" if c.memory_update == "random" else c.memory_update
        moved = c.memory_gradient == "in_backward"
        return ClusterMemory(centroids, c.temperature, c.memory_momentum, rule, in_backward=moved)

    def instances_of(self, name: str, space: LabelSpace) -> InstanceMemory:
        """Take over the rows of the epoch before, or start them from features, and give them this epoch's classes."""
        c, n, bank = self.config, len(self.data), space.bank
        start = bank.features.clone() if c.renormalise_flip else normalize(bank.features)
        rows = self.instances[name].rows if name in self.instances else start
        row_of = bank_row_of(bank, n)
        if c.instance_index == "position":
            row_of = bank_position_of(bank, space.labels, n)
        settings = c.temperature, c.memory_momentum, c.instance_reduce, row_of
        return InstanceMemory(rows, space.labels, *settings, in_backward=c.memory_gradient == "in_backward")

    def refine(self, spaces: Mapping[str, LabelSpace], centroids: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """SBMR: clusters of one modality move the centroid of the other that they prefer; both see the old ones."""
        c = self.config
        refined = {}
        for name, other in (("visible", "infrared"), ("infrared", "visible")):
            space = spaces[name]
            refined[other] = refine_rows(
                space.bank.features, space.labels, centroids[other], c.sbmr_threshold, c.sbmr_momentum
            )
        return refined

    def forward(self, batch: Batch) -> Seen:
        """Run the streams within modalities and the joint ones through the network, each in a pass of its own."""
        return forward_apart(super().forward, batch)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cluster and instance terms within each modality, and in stage III over both, weighted by lambda."""
        shuffled = self.config.memory_update == "random"
        self.orders = visible_orders(batch, self.shuffle) if shuffled else {}
        queries = queries_of(seen, batch, self.orders)
        return hierarchical_loss(self.clusters, self.instances, queries, self.config.joint_weight)

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the memories by the samples of the batch, infrared ones last."""
        move_hierarchy(self.clusters, self.instances, queries_of(seen, batch, self.orders))

    def state(self) -> dict[str, Tensor]:
        """Return the instance memories, which live as long as their stage."""
        return {f"instance.{name}": memory.rows for name, memory in self.instances.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the instance memories; their classes come with the next clustering."""
        for key, rows in state.items():
            nobody = torch.full((len(rows),), -1, device=rows.device)
            self.instances[key.removeprefix("instance.")] = InstanceMemory(rows, nobody, 1.0, 0.0)

    presets = {
        "paper": {
            "sysu-mm01": {},
            "llcm": Adapted(),
            "regdb": {
                "iterations": 100,
                "first": {"epochs": 30, "k1_growth": 2, "cap": 3, "cap_growth": 2, "rows": "mean"},
                "second": {"epochs": 30, "k1_growth": 1.5, "cap": 3},
                "third": {"epochs": 60, "k1": 40, "k1_growth": 1.5, "cap": 8, "cap_growth": 1.5},
                "joint": {"k1": 60, "k1_growth": 1.5, "cap": 10, "cap_growth": 1.5},
                **{"span": 59, "eps_span": 60, "eps": 0.3, "eps_low": 0.2},
            },
        },
        "demo": {
            "*": DEMO
            | {
                **{"labels_per_batch": 8, "span": 4, "eps_span": 10, "turning_epoch": 8},
                "first": {"epochs": 3, "k1": 12, "k1_growth": 1.2, "cap": 2, "cap_growth": 1.5},
                "second": {"epochs": 3, "k1": 12, "k1_growth": 1.2, "cap": 2, "cap_growth": 1.5},
                "third": {"epochs": 4, "k1": 12, "k1_growth": 1.2, "cap": 2, "cap_growth": 1.5},
                "joint": {"k1": 18, "k1_growth": 1.2, "cap": 2, "cap_growth": 1},
                **{"eps": 0.55, "eps_low": 0.45},
            },
            "regdb": {
                **{stage: {"k1": 10, "cap": 3} for stage in STAGES},
                **{"joint": {"k1": 20, "cap": 6}, "eps": 0.5, "eps_low": 0.4},
            },
        },
        "public": {
            "*": {"stage_init": "best-of-stage", "instance_index": "position", **PUBLIC_ROWS},
        },
    }


def refuse_long_lists(config: MPJLConfig, data: TrainingData) -> None:
    """Raise a MethodError if neighbour lists grow beyond the images there are."""
    rows = MPJL.schedule(config)
    for column, n in (("k1", data.smaller_modality()), ("joint_k1", len(data))):
        if (most := max((row[column] for row in rows), default=0)) > n:
            text = f"{column} grows to {most}, but there are only {n} samples to cluster"
            raise MethodError(f"{text}; lower the k1 of a stage, or its growth")
