"""DMIC: dynamic modality-camera invariant clustering (Yang, Hu, Hu; IEEE TNNLS 2025, arXiv 2412.08231).

Three parts over cluster contrast: MIE (camera- and modality-balanced expansion), DNC (eps and k2 follow
schedules) and HMCL (cluster- and instance-level memories, within and across modalities, moved by random
samples). What the paper's public text does not settle is marked reconstructed in the configuration.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import model_validator
from torch import Tensor, nn

from methods.base import Epoch, EpochPlan, FeatureBank, Reference, Stage, TrainingData, setting
from methods.clustering import Expansion, ModalityCamera, ModalityMean, Plain
from methods.clustering.checks import check_k
from methods.parts.hierarchical import JOINT, HierarchicalConfig, HierarchicalContrast, Settings
from methods.parts.memories import cluster_means, random_members
from methods.parts.training import DEMO, smaller_modality


class DMICConfig(HierarchicalConfig):
    """Hyper-parameters of DMIC (dmic-spec section 7); defaults are SYSU-MM01's."""

    epochs_intra: int = setting(50, "predecessor", "epochs of stage I (within modalities)", ge=0)
    epochs_joint: int = setting(50, "predecessor", "epochs of stage II (all terms)", ge=0)
    stage_init: Literal["last", "best-on-test"] = setting(
        "last", "reconstructed", "weights stage II starts from; best-on-test is the public codes' leak"
    )
    expansion: Literal["mie", "modality-mean", "plain"] = setting(
        "mie", "published code", "local query expansion"
    )
    intra_k1: int = setting(30, "predecessor", "neighbours within a modality, the sample included", ge=1)
    joint_k1: int = setting(40, "published code", "neighbours over both modalities", ge=1)
    joint_k2: int = setting(32, "published code", "expansion neighbours over both modalities", ge=1)
    eps_schedule: Literal["exponential", "linear", "cosine", "fixed"] = setting(
        "exponential", "follow-up", "shape of eps between its limits; fixed stays at eps_high"
    )
    eps_high: float = setting(0.6, "follow-up", "pi2: eps at the start and at the end", gt=0, le=1)
    eps_low: float = setting(0.3, "follow-up", "pi1: eps at the turning epoch", gt=0, le=1)
    turning_epoch: int = setting(10, "follow-up", "T: epoch of the smallest eps", ge=1)
    k2_schedule: Literal["rising", "valley", "fixed"] = setting(
        "rising", "reconstructed", "k2 within a modality; fixed stays at k2_start"
    )
    k2_start: int = setting(6, "reconstructed", "k2 within a modality at the first epoch", ge=1)
    k2_end: int = setting(18, "reconstructed", "k2 within a modality at the last epoch", ge=1)
    instance_memory: bool = setting(True, "paper", "instance-level memories beside cluster-level ones")
    memory_init: Literal["random", "mean"] = setting(
        "random", "follow-up", "first row of a cluster in C^v, C^r"
    )
    memory_update: Literal["random", "sequential", "mean", "hardest"] = setting(
        "random", "paper", "which batch samples move a cluster's row"
    )
    memory_momentum: float = setting(0.0, "follow-up", "share of the old row in an update", ge=0, le=1)
    instance_reduce: Literal["sum", "mean"] = setting("sum", "follow-up", "instances of a label: sum or mean")
    joint_weight: float = setting(0.7, "follow-up", "lambda: weight of the joint terms", ge=0)

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
    """Return eps of one epoch of a stage (dmic-spec section 4; shapes but the exponential are reconstructed)."""
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


class DMIC(HierarchicalContrast):
    """Dynamic modality-camera invariant clustering."""

    name = "dmic"
    summary = "dynamic modality-camera invariant clustering: MIE + DNC + HMCL"
    Config = DMICConfig
    config: DMICConfig
    stage_names = ("intra", "joint")
    reference = Reference(
        title="Dynamic Modality-Camera Invariant Clustering for Unsupervised Visible-Infrared Person "
        "Re-identification",
        venue="IEEE TNNLS, arXiv 2412.08231",
        year=2025,
        parts={
            "MIE across modalities": "published code (a function released under its name; equal to its outputs)",
            "MIE within a modality": "reconstructed: the same function on one modality alone",
            "DNC, eps": "paper: shrink, then grow; limits, turn and exponential shape from the follow-up (MPJL); "
            "linear and cosine shapes reconstructed",
            "DNC, k2": "reconstructed: rising, after the follow-up's cap; restarted in each stage",
            "HMCL memories": "paper: updated by randomly selected samples; losses and weights from the follow-up",
            "rows during a step": "ours: gradients see the rows of the forward pass; the follow-up moves them "
            "between two gradients",
            "rows of instance memories": "ours: a sample's own row; the follow-up's index ignores removed noise",
            "features that are clustered": "ours: the average of image and mirror, of unit length; the predecessor's "
            "code (PCA) leaves it shorter (quirk Q2), which no preset restores",
            "joint batches": "predecessor (PCA): one stream per modality, sampled by joint label",
            "backbone, augmentation, optimiser, stages": "predecessor (PCA)",
        },
    )
    presets = {
        "paper": {
            "sysu-mm01": {},
            "regdb": {
                **{"iterations": 100, "joint_k1": 38, "joint_k2": 18},
                **{"eps_high": 0.3, "eps_low": 0.15, "k2_start": 3, "k2_end": 9},
            },
        },
        "paper-large": {"*": {"labels_per_batch": 8}},
        "demo": {
            "*": {
                **{**DEMO, "epochs_intra": 4, "epochs_joint": 6, "labels_per_batch": 8},
                **{"intra_k1": 12, "joint_k1": 20, "joint_k2": 8, "k2_start": 3, "k2_end": 4},
                **{"eps_high": 0.55, "eps_low": 0.4, "turning_epoch": 3},
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
        "public": {"*": {"stage_init": "best-on-test"}},
    }

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone, if the data can fill the neighbour lists there will be."""
        check_k(smaller_modality(data), self.config.intra_k1, "intra_k1")
        if self.config.epochs_joint:
            check_k(len(data), self.config.joint_k1, "joint_k1")
        return super().build(data)

    @classmethod
    def settings(cls, config: DMICConfig, stage: Stage, epoch: int) -> Settings:
        """Return eps and k2 within a modality of an epoch (DNC)."""
        return {"eps": eps_at(config, epoch, stage.epochs), "k2": float(k2_at(config, epoch, stage.epochs))}

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality (and both together in stage II), fill the memories, draw streams."""
        c = self.config
        s = self.settings(c, self.stages(c)[epoch.stage], epoch.in_stage)
        record = {**s, "joint_k2": float(c.joint_k2)}
        return self.plan(epoch, bank, record, f"eps = {s['eps']:.3g}, k1 = {c.intra_k1}")

    def neighbourhood(self, space: str, bank: FeatureBank, settings: Settings) -> tuple[int, Expansion]:
        """MIE, or what stands in for it, over lists of constant length."""
        c = self.config
        k1, k2 = (c.joint_k1, c.joint_k2) if space == JOINT else (c.intra_k1, int(settings["k2"]))
        expansions: dict[str, Expansion] = {
            "mie": ModalityCamera(k2, bank.modality, bank.camera),
            "modality-mean": ModalityMean(k2, bank.modality),
            "plain": Plain(k2),
        }
        return k1, expansions[c.expansion]

    def first_rows(self, name: str, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> Tensor:
        """Start joint rows from modality-balanced means, the others from a random member or the mean."""
        if name == JOINT:
            return cluster_means(bank.features, labels, bank.modality)
        if self.config.memory_init == "random":
            return random_members(bank.features, labels, self._generator)
        return cluster_means(bank.features, labels)
