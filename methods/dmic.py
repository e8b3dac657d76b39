"""DMIC: dynamic modality-camera invariant clustering (Yang, Hu, Hu; IEEE TNNLS 2025, arXiv 2412.08231).

Three parts over cluster contrast: MIE (camera- and modality-balanced expansion), DNC (eps and k2 follow schedules) and
HMCL (cluster- and instance-level memories, within and across modalities, moved by random samples). What the paper's
public text does not settle is marked reconstructed in the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import model_validator
from torch import Tensor

from methods.base import (
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
from methods.clustering import MIE, Clustering, Expansion, MeanExpansion, ModalityMean, jaccard_clusters
from methods.clustering.checks import check_k
from methods.parts.config import DEMO, TrainingConfig, UpdateRule
from methods.parts.hierarchy import (
    hierarchical_loss,
    hierarchical_streams,
    instance_state,
    move_hierarchy,
    restore_instances,
    schedule_frame,
    start_instances,
)
from methods.parts.memories import ClusterMemory, InstanceMemory, compute_centroids, random_members
from methods.parts.spaces import (
    JOINT,
    LabelSpace,
    cluster_each_modality,
    distances_seen,
    label_space,
    plan,
    skipped,
    too_few_clusters,
)
from methods.parts.two_stream import Seen, TwoStreamMethod

INTRA = "intra"


class DMICConfig(TrainingConfig):
    """Hyper-parameters of DMIC; defaults are SYSU-MM01's."""

    epochs_intra: int = value(50, "predecessor", "epochs of stage I (within modalities)", ge=0)
    epochs_joint: int = value(50, "predecessor", "epochs of stage II (all terms)", ge=0)
    stage_init: Literal["last", "best-of-stage"] = value(
        "last", "reconstructed", "weights stage II starts from; best-of-stage is the public codes' leak"
    )
    expansion: Literal["mie", "modality-mean", "plain"] = value(
        "mie", "published code", "local query expansion"
    )
    intra_k1: int = value(30, "predecessor", "neighbours within a modality, the sample included", ge=1)
    joint_k1: int = value(40, "published code", "neighbours over both modalities", ge=1)
    joint_k2: int = value(32, "published code", "expansion neighbours over both modalities", ge=1)
    eps_schedule: Literal["exponential", "linear", "cosine", "fixed"] = value(
        "exponential", "follow-up", "shape of eps between its limits; fixed stays at eps_high"
    )
    eps_high: float = value(0.6, "follow-up", "pi2: eps at the start and at the end", gt=0, le=1)
    eps_low: float = value(0.3, "follow-up", "pi1: eps at the turning epoch", gt=0, le=1)
    turning_epoch: int = value(10, "follow-up", "T: epoch of the smallest eps", ge=1)
    k2_schedule: Literal["rising", "valley", "fixed"] = value(
        "rising", "reconstructed", "k2 within a modality; fixed stays at k2_start"
    )
    k2_start: int = value(6, "reconstructed", "k2 within a modality at the first epoch", ge=1)
    k2_end: int = value(18, "reconstructed", "k2 within a modality at the last epoch", ge=1)
    instance_memory: bool = value(True, "paper", "instance-level memories beside cluster-level ones")
    memory_init: Literal["random", "mean"] = value(
        "random", "follow-up", "first row of a cluster in C^v, C^r"
    )
    memory_update: UpdateRule = value("random", "paper", "which batch samples move a cluster's row")
    memory_momentum: float = value(0.0, "follow-up", "share of the old row in an update", ge=0, le=1)
    instance_reduce: Literal["sum", "mean"] = value("sum", "follow-up", "instances of a label: sum or mean")
    joint_weight: float = value(0.7, "follow-up", "lambda: weight of the joint terms", ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> DMICConfig:
        if self.joint_k2 > self.joint_k1:
            raise ValueError(f"joint_k2 = {self.joint_k2} is larger than joint_k1 = {self.joint_k1}")
        if max(self.k2_start, self.k2_end) > self.intra_k1:
            raise ValueError(f"k2_start/k2_end are larger than intra_k1 = {self.intra_k1}")
        if self.eps_low > self.eps_high:
            raise ValueError(f"eps_low = {self.eps_low} is larger than eps_high = {self.eps_high}")
        return self


def eps_at(config: DMICConfig, epoch: int, epochs: int) -> float:
    """Return eps of one epoch of a stage (shapes but the exponential are reconstructed)."""
    if config.eps_schedule == "fixed":
        return config.eps_high
    turn = min(config.turning_epoch, max(epochs - 1, 1))
    # 0 at the turning epoch, 1 at both ends
    height = 1 - epoch / turn if epoch <= turn else (epoch - turn) / (epochs - turn)
    if config.eps_schedule == "exponential":
        return config.eps_low * (config.eps_high / config.eps_low) ** height
    if config.eps_schedule == "cosine":
        height = 0.5 * (1 - math.cos(math.pi * height))
    return config.eps_low + (config.eps_high - config.eps_low) * height


def k2_at(config: DMICConfig, epoch: int, epochs: int) -> int:
    """Return k2 within a modality (reconstructed after the follow-up's rising cap)."""
    if config.k2_schedule == "fixed" or epochs < 2:
        return config.k2_start
    rise = epoch / (epochs - 1)
    if config.k2_schedule == "valley":
        rise = abs(2 * rise - 1)
    return round(config.k2_start * (config.k2_end / config.k2_start) ** rise)


PLAIN = {"expansion": "plain", "joint_k1": 30, "joint_k2": 6}
FIXED = {"eps_schedule": "fixed", "k2_schedule": "fixed"}
DEMO_PLAIN: dict[str, Any] = {"joint_k1": 20, "joint_k2": 4}
DEMO_FIXED: dict[str, Any] = {"eps_high": 0.5, "eps_low": 0.5}
CLUSTER_ONLY = {
    "instance_memory": False,
    "memory_init": "mean",
    "memory_update": "sequential",
    "memory_momentum": 0.1,
}


class DMIC(TwoStreamMethod):
    """Dynamic modality-camera invariant clustering."""

    name = "dmic"
    summary = "dynamic modality-camera invariant clustering: MIE + DNC + HMCL"
    Config = DMICConfig
    config: DMICConfig
    reference = Reference(
        title="Dynamic Modality-Camera Invariant Clustering for Unsupervised Visible-Infrared Person "
        "Re-identification",
        venue="IEEE TNNLS, arXiv 2412.08231",
        year=2025,
        parts={
            "MIE across modalities": (
                "published code",
                "a function released under its name; equal to its outputs",
            ),
            "MIE within a modality": ("reconstructed", "the same function on one modality alone"),
            "DNC, eps": (
                "paper",
                "shrink, then grow; limits, turn and exponential shape from the follow-up (MPJL); linear and cosine "
                "shapes reconstructed",
            ),
            "DNC, k2": ("reconstructed", "rising, after the follow-up's cap; restarted in each stage"),
            "HMCL memories": (
                "paper",
                "updated by randomly selected samples; losses and weights from the follow-up",
            ),
            "rows during a step": (
                "ours",
                "gradients see the rows of the forward pass; the follow-up moves them between two gradients",
            ),
            "rows of instance memories": (
                "ours",
                "a sample's own row; the follow-up's index ignores removed noise",
            ),
            "features that are clustered": (
                "ours",
                "the average of image and mirror, of unit length; the predecessor's code (PCA) leaves it shorter "
                "(quirk Q2), which no preset restores",
            ),
            "joint batches": ("predecessor", "PCA: one stream per modality, sampled by joint label"),
            "backbone, augmentation, optimiser, stages": ("predecessor", "PCA"),
        },
    )

    def __init__(self, config: DMICConfig, data: TrainingData) -> None:
        check_k(data.smaller_modality(), config.intra_k1, "intra_k1")
        if config.epochs_joint:
            check_k(len(data), config.joint_k1, "joint_k1")
        super().__init__(config, data)
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
    def schedule(cls, config: DMICConfig) -> pd.DataFrame:
        """Return eps and k2 of every epoch without a run."""
        return schedule_frame(cls.stages(config), lambda stage, epoch: settings_at(config, stage, epoch))

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality (and both together in stage II), start the memories, draw streams."""
        c, now = self.config, settings_at(self.config, epoch.stage, epoch.in_stage)
        if epoch.in_stage == 0:
            self.instances = {}  # instance memories live as long as their stage
        spaces = cluster_each_modality(
            bank, lambda part: self.cluster(part, now["eps"], c.intra_k1, int(now["k2"]))
        )
        if epoch.stage.name == JOINT:
            both = self.cluster(bank, now["eps"], c.joint_k1, c.joint_k2)
            spaces[JOINT] = label_space(bank, both.labels, len(bank), both.distances_seen)
        record = {**now, "joint_k2": float(c.joint_k2)}
        if why := too_few_clusters(spaces):
            where = f"eps = {now['eps']:.3g}, k1 = {c.intra_k1}"
            return skipped(spaces, f"{why} with {where}; {distances_seen(spaces)}", record)

        with timed("memory"):
            self.shuffle = self.data.generator("memory", epoch.number)
            self.clusters = {name: self.start_clusters(name, space) for name, space in spaces.items()}
            if c.instance_memory:
                self.instances = start_instances(
                    self.instances, spaces, len(bank), c.temperature, c.memory_momentum, c.instance_reduce
                )
        streams = hierarchical_streams(spaces, c.labels_per_batch, c.instances)
        step = Step(epoch.stage.name, tuple(stream.name for stream in streams))
        return plan(spaces, streams, (step,), epoch.stage.iterations, record)

    def cluster(self, bank: FeatureBank, eps: float, k1: int, k2: int) -> Clustering:
        """Cluster with MIE, or with what stands in for it, over lists of constant length."""
        expansions: dict[str, Expansion] = {
            "mie": MIE(k2, bank.modality, bank.camera),
            "modality-mean": ModalityMean(k2, bank.modality),
            "plain": MeanExpansion(k2),
        }
        return jaccard_clusters(
            bank.features,
            k1=k1,
            eps=eps,
            min_samples=self.config.min_samples,
            expansion=expansions[self.config.expansion],
        )

    def start_clusters(self, name: str, space: LabelSpace) -> ClusterMemory:
        """Start joint centroids from modality-balanced means, the others from a random member or the mean."""
        c, bank = self.config, space.bank
        if name == JOINT:
            rows = compute_centroids(bank.features, space.labels, bank.modality)
        elif c.memory_init == "random":
            rows = random_members(bank.features, space.labels, self.shuffle)
        else:
            rows = compute_centroids(bank.features, space.labels)
        return ClusterMemory(rows, c.temperature, c.memory_momentum, c.memory_update, generator=self.shuffle)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cluster and instance terms within each modality, and in stage II over both, weighted by lambda."""
        return hierarchical_loss(self.clusters, self.instances, seen, batch, self.config.joint_weight)

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the memories by random samples of the batch."""
        shuffle = self.shuffle if self.config.memory_update == "random" else None
        move_hierarchy(self.clusters, self.instances, seen, batch, shuffle)

    def state(self) -> dict[str, Tensor]:
        """Return the instance memories, which live as long as their stage."""
        return instance_state(self.instances)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the instance memories."""
        c = self.config
        self.instances = restore_instances(state, c.temperature, c.memory_momentum, c.instance_reduce)

    presets = {
        "paper": {
            "sysu-mm01": {},
            "regdb": {
                "iterations": 100,
                "joint_k1": 38,
                "joint_k2": 18,
                "eps_high": 0.3,
                "eps_low": 0.15,
                "k2_start": 3,
                "k2_end": 9,
            },
        },
        "paper-large": {"*": {"labels_per_batch": 8}},
        "demo": {
            "*": DEMO
            | {
                "epochs_intra": 4,
                "epochs_joint": 6,
                "labels_per_batch": 8,
                "intra_k1": 12,
                "joint_k1": 20,
                "joint_k2": 8,
                "k2_start": 3,
                "k2_end": 4,
                "eps_high": 0.55,
                "eps_low": 0.4,
                "turning_epoch": 3,
            }
        },
        "baseline": {"*": PLAIN | FIXED | CLUSTER_ONLY},
        "+mie": {"*": FIXED | CLUSTER_ONLY},
        "+dnc": {"*": PLAIN | CLUSTER_ONLY},
        "+hmcl": {"*": PLAIN | FIXED},
        "+mie+dnc": {"*": CLUSTER_ONLY},
        "+mie+hmcl": {"*": FIXED},
        "+dnc+hmcl": {"*": PLAIN},
        "baseline@demo": {"*": DEMO_PLAIN | DEMO_FIXED},
        "+mie@demo": {"*": DEMO_FIXED},
        "+dnc@demo": {"*": DEMO_PLAIN},
        "+hmcl@demo": {"*": DEMO_PLAIN | DEMO_FIXED},
        "+mie+hmcl@demo": {"*": DEMO_FIXED},
        "+dnc+hmcl@demo": {"*": DEMO_PLAIN},
        "intra-only": {"*": {"epochs_joint": 0}},
        "public": {"*": {"stage_init": "best-of-stage"}},
    }


def settings_at(config: DMICConfig, stage: Stage, epoch: int) -> dict[str, float]:
    """Return eps and k2 within a modality in epoch `epoch` of a stage (DNC)."""
    return {"eps": eps_at(config, epoch, stage.epochs), "k2": float(k2_at(config, epoch, stage.epochs))}
