"""DMIC: dynamic modality-camera invariant clustering (Yang, Hu, Hu; IEEE TNNLS 2025, arXiv 2412.08231).

Stage I trains each modality alone, stage II both together as well. In every epoch MIE clusters the features with one
vote for each camera, DNC says how dense a cluster must be (eps) and how far expansion reaches (k2), and HMCL pulls
images towards cluster and instance memories, which are made anew in every epoch and moved by random samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import model_validator
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
from methods.clustering import MIE, Clustering, Expansion, MeanExpansion, jaccard_clusters
from methods.clustering.checks import check_k
from methods.parts.config import DEMO, TrainingConfig, UpdateRule, network_parts
from methods.parts.hierarchy import forward_apart, hierarchical_streams, joint_streams_of, schedule_rows
from methods.parts.host import to_device
from methods.parts.memories import ClusterMemory, InstanceMemory, compute_centroids
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

INTRA, TOGETHER = "intra", "together"
EQ6 = {"expansion": "camera-mean"}
VC: dict[str, Any] = {"expansion": "plain", "k1": 30, "joint_k2": 6}  # of earlier work; reconstructed
FIXED = {"eps_schedule": "fixed", "k2_schedule": "fixed"}
CONTRAST = {"instance_terms": "none", "memory_update": "sequential", "memory_momentum": 0.1}
REGDB = {"iterations": 100, "k1": 38, "joint_k2": 18, "eps": 0.3, "eps_low": 0.2, "k2_end": 12}
DEMO_SIZES: dict[str, Any] = DEMO | {
    **{"epochs_intra": 4, "epochs_joint": 6, "turning_epoch": 3, "labels_per_batch": 8, "k1": 20},
    **{"joint_k2": 8, "k2_start": 3, "k2_end": 4, "eps": 0.55, "eps_low": 0.4},
}
DEMO_VC: dict[str, Any] = {"k1": 20, "joint_k2": 4}
DEMO_FIXED = {"eps": 0.5}
TEXT = "paper (IV-B)"


class DMICConfig(TrainingConfig):
    """Hyper-parameters of DMIC; defaults are those of section IV-B for SYSU-MM01."""

    epochs_intra: int = value(50, TEXT, "epochs of stage I (within modalities)", ge=0)
    epochs_joint: int = value(50, TEXT, "epochs of stage II (all terms)", ge=0)
    stage_init: Literal["last", "best-of-stage"] = value(
        "last", "reconstructed", "weights stage II starts from; best-of-stage is the public codes' leak"
    )
    k1: int = value(40, TEXT, "neighbours in every clustering, the sample included", ge=1)
    joint_k2: int = value(32, TEXT, "epsilon_3: expansion neighbours over both modalities", ge=1)
    expansion: Literal["mie", "camera-mean", "plain"] = value(
        "mie", "published code", "a vote a modality, then a camera; camera-mean (Eq. 6): a vote a camera"
    )
    eps_schedule: Literal["exponential", "linear", "cosine", "fixed"] = value(
        "exponential", "paper (Eq. 8, 9)", "shape of eps between its limits; fixed stays at eps"
    )
    eps: float = value(0.6, TEXT, "pi2: DBSCAN radius at the start of a stage, its largest", gt=0, le=1)
    eps_low: float = value(0.3, TEXT, "pi1: the smallest eps", gt=0, le=1)
    turning_epoch: int = value(10, TEXT, "T: epochs of stage II in which eps falls", ge=1)
    k2_schedule: Literal["rising", "fixed"] = value(
        "rising", "paper (Eq. 10)", "k2 within a modality; fixed stays at k2_start"
    )
    k2_start: int = value(6, TEXT, "epsilon_1: k2 within a modality at first", ge=1)
    k2_end: int = value(18, TEXT, "epsilon_2: k2 within a modality in the end", ge=1)
    instance_weight: float = value(0.1, TEXT, "phi_1: weight of the instance terms", ge=0)
    cluster_weight: float = value(1.0, TEXT, "phi_2: weight of the cluster terms", ge=0)
    instance_terms: Literal["all", "intra", "none"] = value(
        "all", "paper (Eq. 23)", "IC-1 and IC-2, IC-1 alone, or neither (Table III)"
    )
    joint_instance: Literal["one-mean", "per-modality"] = value(
        "one-mean", "paper (Eq. 22)", "one mean over all queries, or a mean a modality (follow-up)"
    )
    instance_reduce: Literal["sum", "mean"] = value(
        "sum", "follow-up", "instances of a label: sum of exponentials, or exponential of the mean (SpCL)"
    )
    joint_step: Literal["separate", "together"] = value(
        "separate", "predecessor", "joint terms in a step of their own, or in one step (Algorithm 1)"
    )
    memory_update: UpdateRule = value("random", "paper (III-D)", "which samples of a batch move a row")
    memory_momentum: float = value(0.0, "paper (III-D)", "share of the old row in an update", ge=0, le=1)
    infrared_view: Literal["channel-adapt-gray", "plain"] = value(
        "channel-adapt-gray", "predecessor", "channels of infrared images; plain: the paper to the letter"
    )
    test_feature: Literal["post-bn", "pooled"] = value(
        "post-bn", "harness", "features at test: after the BNNeck (closed division), or pooled (the paper)"
    )

    sources = {
        **dict.fromkeys(("learning_rate", "lr_schedule", "lr_step", "lr_gamma", "temperature"), TEXT),
        **dict.fromkeys(("labels_per_batch", "instances"), TEXT),
        **dict.fromkeys(("non_local", "non_local_width"), "predecessor"),
    }
    replaced = {
        **dict.fromkeys(("intra_k1", "joint_k1"), "k1, one value for every clustering"),
        "eps_high": "eps (pi2)",
        "joint_weight": "instance_weight (phi_1) and cluster_weight (phi_2)",
        "instance_memory": "instance_terms",
        "memory_init": "",  # every row starts from a mean (Eq. 15, 20)
    }

    @model_validator(mode="after")
    def _consistent(self) -> DMICConfig:
        counts = {"k2_start": self.k2_start, "joint_k2": self.joint_k2}
        if self.k2_schedule == "rising":
            counts["k2_end"] = self.k2_end
        largest = max(counts, key=lambda name: counts[name])
        if counts[largest] > self.k1:
            raise ValueError(f"{largest} = {counts[largest]} is larger than k1 = {self.k1}")
        if self.eps_schedule != "fixed" and self.eps_low > self.eps:
            raise ValueError(f"eps_low = {self.eps_low} is larger than eps = {self.eps}")
        return self


def between(start: float, end: float, share: float, shape: str) -> float:
    """Return a value on its way from `start` (share 0) to `end` (share 1)."""
    if shape == "exponential":
        return start * (end / start) ** share  # sigma_n, sigma_b and sigma_k are end / start
    if shape == "cosine":  # ours, as linear is
        share = 0.5 * (1 - math.cos(math.pi * share))
    return start + (end - start) * share


def eps_at(c: DMICConfig, stage: Stage, epoch: int) -> float:
    """Return eps: it falls in stage I (Eq. 8); in stage II it falls for T epochs, then rises again (Eq. 9)."""
    if c.eps_schedule == "fixed":
        return c.eps
    falling = stage.epochs if stage.name == INTRA else c.turning_epoch
    if epoch <= falling:
        return between(c.eps, c.eps_low, epoch / falling, c.eps_schedule)
    return between(c.eps_low, c.eps, (epoch - falling) / (stage.epochs - falling), c.eps_schedule)


def k2_at(c: DMICConfig, stage: Stage, epoch: int) -> int:
    """Return k2 within a modality, rising in each stage anew (Eq. 10)."""
    if c.k2_schedule == "fixed":
        return c.k2_start
    return round(between(c.k2_start, c.k2_end, epoch / stage.epochs, "exponential"))


class DMIC(TwoStreamMethod):
    """Dynamic modality-camera invariant clustering."""

    name = "dmic"
    written = {"": "DMIC", "eq6": "DMIC (Eq. 6)", "letter": "DMIC (to the letter)"}
    summary = "dynamic modality-camera invariant clustering: MIE + DNC + HMCL"
    Config = DMICConfig
    config: DMICConfig
    reference = Reference(
        title="Dynamic Modality-Camera Invariant Clustering for Unsupervised Visible-Infrared Person "
        "Re-identification",
        venue="IEEE TNNLS, arXiv 2412.08231",
        year=2025,
        parts={
            "MIE within a modality": ("paper", "Eq. 6 and 7; the released function equals them there"),
            "MIE over both": ("published code", "a vote a modality, then a camera; Eq. 6: a camera (eq6)"),
            "DNC": ("paper", "Eq. 8 to 10; k2 takes E epochs and is rounded: reconstructed"),
            "HMCL": ("paper", "Eq. 13 to 22 are sums in the text, and means in all codes seen"),
            "phi_1, phi_2": ("paper", "Eq. 23, IV-B; the sentence after it names them the other way round"),
            "instance terms": ("follow-up", "sums over a label's instances; Eq. 18, 19, 22 leave that open"),
            "random samples": ("paper", "over all views and modalities; the follow-up: infrared last"),
            "rows during a step": ("ours", "those of the forward pass; the follow-up moves them in between"),
            "joint terms": ("predecessor", "a step of their own; Algorithm 1 to the letter: one (letter)"),
            "infrared images": ("predecessor", "adapted channels; the paper enhances visible ones (letter)"),
            "VC, fixed eps, fixed k2": ("reconstructed", "Table IV does not say their values"),
            "features at test (not the paper's)": ("harness", "after the BNNeck; the paper: pooled (public)"),
            "one device (not the paper's)": ("harness", "the paper: two, each with its batch norm (public)"),
            "backbone, augmentation, optimiser": ("predecessor", "PCA, where the paper is silent"),
            **network_parts("predecessor"),
        },
        url="https://arxiv.org/abs/2412.08231",
    )

    def __init__(self, config: DMICConfig, data: TrainingData) -> None:
        check_k(data.smaller_modality(), config.k1, "k1")
        super().__init__(config, data)
        self.test_feature = config.test_feature
        self.clusters: dict[str, ClusterMemory] = {}
        self.instances: dict[str, InstanceMemory] = {}

    @classmethod
    def stages(cls, config: DMICConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with all terms."""
        stages = (
            Stage(INTRA, config.epochs_intra, config.iterations),
            Stage(JOINT, config.epochs_joint, config.iterations, config.stage_init),
        )
        return tuple(stage for stage in stages if stage.epochs)

    @classmethod
    def schedule(cls, config: DMICConfig) -> list[dict[str, Any]]:
        """Return eps and k2 of every epoch without a run (Fig. 3)."""
        c = config
        return schedule_rows(cls.stages(c), lambda *at: {"eps": eps_at(c, *at), "k2": k2_at(c, *at)})

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster, make all memories anew, and draw (Algorithm 1, lines 2 to 6 and 11 to 15)."""
        c = self.config
        eps, k2 = eps_at(c, epoch.stage, epoch.in_stage), k2_at(c, epoch.stage, epoch.in_stage)
        record = {"eps": eps, "k2": float(k2)}
        spaces = cluster_each_modality(bank, lambda part: self.cluster(part, eps, k2))
        if epoch.stage.name == JOINT:
            both = self.cluster(bank, eps, c.joint_k2)
            spaces[JOINT] = label_space(bank, both.labels, len(bank), both.distances_seen)
            record["joint_k2"] = float(c.joint_k2)
        if why := too_few_clusters(spaces):
            seen = f"{why} with eps = {eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}"
            return skipped(spaces, seen, record)

        with timed("memory"):
            self.shuffle = self.data.generator("memory", epoch.number)
            self.clusters = {name: self.start_clusters(space) for name, space in spaces.items()}
            self.instances = {
                name: self.start_instances(space)
                for name, space in spaces.items()
                if c.instance_terms == "all" or (c.instance_terms == "intra" and name != JOINT)
            }
        views = ("plain", "channel-exchange"), (c.infrared_view,)
        streams = hierarchical_streams(spaces, c.labels_per_batch, c.instances, views, repeat_singletons=True)
        intra = tuple(stream.name for stream in streams if stream.label_space != JOINT)
        joint = tuple(stream.name for stream in streams if stream.label_space == JOINT)
        steps = (Step(INTRA, intra), Step(JOINT, joint)) if joint else (Step(INTRA, intra),)
        if joint and c.joint_step == "together":
            steps = (Step(TOGETHER, intra + joint),)
        return plan(spaces, streams, steps, epoch.stage.iterations, record)

    def cluster(self, bank: FeatureBank, eps: float, k2: int) -> Clustering:
        """Cluster by Jaccard distances and DBSCAN, after MIE (Eq. 6, 7) or what stands in for it."""
        c = self.config
        # a camera is a pair of modality and number: RegDB's visible 1 and infrared 1 are two
        camera = bank.modality * (bank.camera.max() + 1) + bank.camera
        expansion: Expansion = {
            "mie": MIE(k2, bank.modality, bank.camera),
            "camera-mean": MIE(k2, torch.zeros_like(bank.modality), camera),
            "plain": MeanExpansion(k2),
        }[c.expansion if k2 > 1 else "plain"]  # k2 = 1 leaves the encoding as it is
        return jaccard_clusters(
            bank.features, k1=c.k1, eps=eps, min_samples=c.min_samples, expansion=expansion
        )

    def start_clusters(self, space: LabelSpace) -> ClusterMemory:
        """Start from the mean of every cluster, "a stable starting point" (Eq. 15, 20)."""
        c = self.config
        rows = compute_centroids(space.bank.features, space.labels)
        # update() shuffles the batch once for both levels; in that order, "random" is sample after sample
        rule = "sequential" if c.memory_update == "random" else c.memory_update
        return ClusterMemory(rows, c.temperature, c.memory_momentum, rule)

    def start_instances(self, space: LabelSpace) -> InstanceMemory:
        """Start from the features (Eq. 14, 20); every noise image is a label of its own."""
        c, rows = self.config, space.bank.features.clone()
        row_of = bank_row_of(space.bank, len(self.data))
        return InstanceMemory(rows, space.labels, c.temperature, c.memory_momentum, c.instance_reduce, row_of)

    def forward(self, batch: Batch) -> Seen:
        """Run intra streams and joint streams through the network, each in a pass of its own."""
        return forward_apart(super().forward, batch)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Eq. 23: phi_1 times the instance terms (Eq. 18, 19, 22), phi_2 times the cluster terms (Eq. 16, 17, 21)."""
        c, terms = self.config, {}
        for space in batch.label_spaces:
            cluster = self.clusters[space].loss(seen.of(space), batch.drawn(space).pseudo_label)
            terms[f"cluster_{space}"] = c.cluster_weight * cluster
            if space in self.instances:
                terms[f"instance_{space}"] = c.instance_weight * self.instance_term(space, seen, batch)
        return terms

    def instance_term(self, space: str, seen: Seen, batch: Batch) -> Tensor:
        """Return the mean over all queries, or, as the follow-up has it over both modalities, a mean a stream."""
        memory = self.instances[space]
        if space != JOINT or self.config.joint_instance == "one-mean":
            return memory.loss(seen.of(space), batch.drawn(space).sample_index)
        joint = joint_streams_of(batch)
        means = [memory.loss(seen.features[name], batch.parts[name].drawn.sample_index) for name in joint]
        return torch.stack(means).sum()

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Let each row become a random sample of the batch: one shuffle serves clusters and instances."""
        for space in batch.label_spaces:
            drawn, features = batch.drawn(space), seen.of(space)
            order = torch.arange(len(features))
            if self.config.memory_update == "random":
                order = torch.randperm(len(features), generator=self.shuffle)
            place = to_device(order, features.device)
            self.clusters[space].update(features[place], drawn.pseudo_label[order])
            if space in self.instances:
                self.instances[space].update(features[place], drawn.sample_index[order])

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted(), "regdb": REGDB},
        "paper-large": {"*": {"labels_per_batch": 8}},
        "demo": {"*": DEMO_SIZES},
        "public": {"*": {"bn_chunks": 2, "test_feature": "pooled", "stage_init": "best-of-stage"}},
        "eq6": {"*": EQ6},
        "letter": {"*": EQ6 | {"joint_step": "together", "infrared_view": "plain", "test_feature": "pooled"}},
        "cc1": {"*": {"epochs_joint": 0, "instance_terms": "none"}},
        "cc1+ic1": {"*": {"epochs_joint": 0}},
        "cc1+ic1+cc2": {"*": {"instance_terms": "intra"}},
        "vc": {"*": VC | FIXED},
        "vc+dnc": {"*": VC},
        "mie": {"*": FIXED},
        "baseline": {"*": VC | FIXED | CONTRAST},  # ours
        "vc@demo": {"*": DEMO_VC | DEMO_FIXED},
        "vc+dnc@demo": {"*": DEMO_VC},
        "mie@demo": {"*": DEMO_FIXED},
        "baseline@demo": {"*": DEMO_VC | DEMO_FIXED},
    }
    ablations = {
        "Table III": {  # cluster (CC) and instance (IC) contrast within modalities (1) and over both (2)
            "CC-1": {"epochs_intra": [0]},
            "IC-1": {"epochs_intra": [0], "instance_weight": [0], "instance_terms": ["none"]},
            "CC-2": {"epochs_joint": [0]},
            "IC-2": {"epochs_joint": [0], "instance_weight": [0], "instance_terms": ["none", "intra"]},
        },
        "Table IV": {
            "MIE/VC": {"expansion": ["plain"]},
            "DNC": {"eps_schedule": ["fixed"], "k2_schedule": ["fixed"]},
            "HMCL": {"memory_update": ["sequential", "mean", "hardest"]},
            "": {"k1": [], "joint_k2": [], "eps": [], "memory_momentum": [], "instance_terms": []},
        },
    }
    replaced = {
        **{"+hmcl": "vc", "+dnc+hmcl": "vc+dnc", "+mie+hmcl": "mie", "intra-only": "cc1+ic1"},
        **dict.fromkeys(("+mie", "+dnc", "+mie+dnc"), ""),
    }
