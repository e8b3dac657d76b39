"""MPJL: modality-invariant progressive joint learning (public code of 2026; no paper seen).

DMIC's follow-up. EFE averages over at most so many neighbours of each camera, neighbour counts grow and eps falls
over a stage, and SBMR moves the memory rows of one modality towards the clusters of the other that prefer them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from torch import Tensor, nn

from methods.association.aggregation import refine_rows
from methods.base import Epoch, EpochPlan, FeatureBank, Reference, Stage, TrainingData, setting
from methods.clustering import Capped, Clustering, jaccard_clusters
from methods.errors import MethodError
from methods.hierarchical import JOINT, NAMES, HierarchicalConfig, HierarchicalContrast
from methods.memory import cluster_means, random_members
from methods.training import DEMO, smaller_modality

FIRST, SECOND, THIRD = STAGES = ("first", "second", "third")


class MPJLConfig(HierarchicalConfig):
    """Hyper-parameters of MPJL (methods-spec section 10b); defaults are SYSU-MM01's.

    A neighbour count that starts at s with growth g is s * g^(e / span) in epoch e of its stage.
    """

    epochs_first: int = setting(25, "published code", "epochs of stage I (within modalities)", ge=0)
    epochs_second: int = setting(25, "published code", "epochs of stage II (within modalities)", ge=0)
    epochs_third: int = setting(50, "published code", "epochs of stage III (all terms, SBMR)", ge=0)
    stage_init: Literal["last", "best-on-test"] = setting(
        "last",
        "reconstructed",
        "weights stages II and III start from; best-on-test is the public code's leak",
    )
    labels_per_batch: int = setting(8, "published code", "pseudo-identities in a batch of a stream", ge=1)
    span: int = setting(48, "published code", "epochs after which a growth is reached", ge=1)
    first_k1: float = setting(20, "published code", "stage I: neighbours within a modality, at first", ge=1)
    first_k1_growth: float = setting(3, "published code", "stage I: growth of the neighbours", gt=0)
    first_cap: float = setting(
        6, "published code", "stage I: expansion neighbours of a camera, at first", ge=1
    )
    first_cap_growth: float = setting(3, "published code", "stage I: growth of the cap", gt=0)
    second_k1: float = setting(30, "published code", "stage II: neighbours within a modality, at first", ge=1)
    second_k1_growth: float = setting(2, "published code", "stage II: growth of the neighbours", gt=0)
    second_cap: float = setting(
        6, "published code", "stage II: expansion neighbours of a camera, at first", ge=1
    )
    second_cap_growth: float = setting(3, "published code", "stage II: growth of the cap", gt=0)
    third_k1: float = setting(30, "published code", "stage III: neighbours within a modality, at first", ge=1)
    third_k1_growth: float = setting(2, "published code", "stage III: growth of the neighbours", gt=0)
    third_cap: float = setting(
        6, "published code", "stage III: expansion neighbours of a camera, at first", ge=1
    )
    third_cap_growth: float = setting(3, "published code", "stage III: growth of the cap", gt=0)
    joint_k1: float = setting(40, "published code", "neighbours over both modalities, at first", ge=1)
    joint_k1_growth: float = setting(
        3, "published code", "growth of the neighbours over both modalities", gt=0
    )
    joint_cap: float = setting(
        16, "published code", "expansion neighbours of a camera over both modalities, at first", ge=1
    )
    joint_cap_growth: float = setting(1, "published code", "growth of the joint cap", gt=0)
    eps: float = setting(0.6, "published code", "eps at the start of every stage", gt=0, le=1)
    eps_span: int = setting(50, "published code", "epochs in which eps would halve in stage I", ge=1)
    turning_epoch: int = setting(
        10, "published code", "epochs in which eps halves in stages II and III", ge=1
    )
    eps_low: float = setting(0.3, "published code", "eps from which it grows after the turn", gt=0, le=1)
    rise_span: int = setting(40, "published code", "epochs in which eps doubles after the turn", ge=1)
    sbmr_threshold: float = setting(
        0.5, "published code", "SBMR: cosine from which a sample counts", ge=-1, le=1
    )
    sbmr_momentum: float = setting(0.4, "published code", "SBMR: share of the old row", ge=0, le=1)


def grown(config: MPJLConfig, name: str, epoch: int) -> int:
    """Return a growing neighbour count (``first_k1``, ``joint_cap`` ...) in epoch `epoch` of its stage."""
    start, growth = getattr(config, name), getattr(config, f"{name}_growth")
    return max(1, round(start * growth ** (epoch / config.span)))


def eps_at(config: MPJLConfig, stage: str, epoch: int) -> float:
    """Return eps in epoch `epoch` of a stage; on RegDB it jumps up after the turn, as published."""
    c = config
    if stage == FIRST:
        return c.eps * 0.5 ** (epoch / c.eps_span)
    if epoch <= c.turning_epoch:
        return c.eps * 0.5 ** (epoch / c.turning_epoch)
    return min(1.0, c.eps_low * 2 ** ((epoch - c.turning_epoch) / c.rise_span))


class MPJL(HierarchicalContrast):
    """Modality-invariant progressive joint learning."""

    name = "mpjl"
    summary = "DMIC's follow-up: capped expansion, progressive neighbours and eps, refined memory rows"
    Config = MPJLConfig
    config: MPJLConfig
    reference = Reference(
        title="Modality-Invariant Progressive Joint Learning",
        venue="public code only; no paper seen",
        year=2026,
        parts={
            "EFE, schedules of k1, cap and eps": "published code",
            "memories, losses, weights": "published code",
            "SBMR": "published code",
            "rows of instance memories": "adapted: a sample's own row; the public index ignores removed noise",
            "weights of later stages": "adapted: the last ones; mpjl:public takes the best on test, as published",
        },
        url="https://github.com/RuixingWu29/MPJL_USLVIReID",
    )
    presets = {
        "paper": {
            "sysu-mm01": {},
            "regdb": {
                "iterations": 100,
                "epochs_first": 30,
                "epochs_second": 30,
                "epochs_third": 60,
                "span": 59,
                **{"first_k1_growth": 2, "first_cap": 3, "first_cap_growth": 2},
                **{"second_k1_growth": 1.5, "second_cap": 3},
                **{"third_k1": 40, "third_k1_growth": 1.5, "third_cap": 8, "third_cap_growth": 1.5},
                **{"joint_k1": 60, "joint_k1_growth": 1.5, "joint_cap": 10, "joint_cap_growth": 1.5},
                "eps": 0.3,
                "eps_span": 60,
                "eps_low": 0.2,
            },
        },
        "demo": {
            "*": {
                **DEMO,
                **{"epochs_first": 3, "epochs_second": 3, "epochs_third": 4, "labels_per_batch": 8},
                **{"span": 4, "eps_span": 10, "turning_epoch": 8},
                **{f"{stage}_k1_growth": 1.2 for stage in STAGES},
                **{f"{stage}_cap_growth": 1.5 for stage in STAGES},
                **{"joint_k1_growth": 1.2, "joint_cap_growth": 1},
            },
            "regdb": {
                **{"first_k1": 10, "first_cap": 3, "second_k1": 10, "second_cap": 3},
                **{
                    "third_k1": 10,
                    "third_cap": 3,
                    "joint_k1": 20,
                    "joint_cap": 6,
                    "eps": 0.5,
                    "eps_low": 0.4,
                },
            },
            "sysu-mm01": {
                **{"first_k1": 12, "first_cap": 2, "second_k1": 12, "second_cap": 2},
                **{
                    "third_k1": 12,
                    "third_cap": 2,
                    "joint_k1": 18,
                    "joint_cap": 2,
                    "eps": 0.55,
                    "eps_low": 0.45,
                },
            },
        },
        "public": {"*": {"stage_init": "best-on-test"}},
    }

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone, if the data can fill the longest neighbour lists there will be."""
        schedule = self.schedule(self.config)
        for column, n in (("k1", smaller_modality(data)), ("joint_k1", len(data))):
            if len(schedule) and schedule[column].max() > n:
                raise MethodError(
                    f"{column} grows to {schedule[column].max()}, but there are only {n} samples to cluster; "
                    "lower the k1 of a stage, or its growth"
                )
        return super().build(data)

    @classmethod
    def stages(cls, config: MPJLConfig) -> Sequence[Stage]:
        """Two stages within modalities, the third with the joint terms."""
        c = config
        stages = (
            Stage(FIRST, c.epochs_first, c.iterations),
            Stage(SECOND, c.epochs_second, c.iterations, initial=c.stage_init),
            Stage(THIRD, c.epochs_third, c.iterations, initial=c.stage_init),
        )
        return tuple(stage for stage in stages if stage.epochs)

    @classmethod
    def schedule(cls, config: MPJLConfig) -> pd.DataFrame:
        """Return eps and the neighbour counts of every epoch without a run; joint ones are 0 before stage III."""
        rows = [
            {"stage": stage.name, "epoch": epoch, **settings_at(config, stage.name, epoch)}
            for stage in cls.stages(config)
            for epoch in range(stage.epochs)
        ]
        return pd.DataFrame(rows, columns=["stage", "epoch", "eps", "k1", "cap", "joint_k1", "joint_cap"])

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality (and both together in stage III), fill the memories, draw streams."""
        stage = self.stages(self.config)[epoch.stage].name
        s = settings_at(self.config, stage, epoch.in_stage)
        eps, k1, cap = s["eps"], int(s["k1"]), int(s["cap"])
        banks = {name: bank.of(modality) for modality, name in NAMES.items()}
        found = {name: self._cluster(part, eps, k1, 2 * cap, cap) for name, part in banks.items()}
        if stage == THIRD:
            joint_k1 = int(s["joint_k1"])
            banks[JOINT] = bank
            found[JOINT] = self._cluster(bank, eps, joint_k1, joint_k1, int(s["joint_cap"]))
        plan = self.plan(epoch, banks, found, s, f"eps = {eps:.3g}, k1 = {k1}, cap = {cap}")
        if stage == THIRD and not plan.skipped:
            with self.data.stage("associate"):
                self._refine(banks, found)
        return plan

    def _cluster(self, bank: FeatureBank, eps: float, k1: int, pool: int, cap: int) -> Clustering:
        """Cluster by Jaccard distances with EFE, whose pool ends with the neighbour lists."""
        return jaccard_clusters(
            bank.features,
            k1=k1,
            eps=eps,
            min_samples=self.config.min_samples,
            expansion=Capped(min(pool, k1), cap, bank.modality, bank.camera),
            stage=self.data.stage,
        )

    def first_rows(self, name: str, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> Tensor:
        """Start rows from a random member in stage I, from plain means later."""
        if self.stages(self.config)[epoch.stage].name == FIRST:
            return random_members(bank.features, labels, self._generator)
        return cluster_means(bank.features, labels)

    def _refine(self, banks: dict[str, FeatureBank], found: dict[str, Clustering]) -> None:
        """SBMR: clusters of one modality move the row of the other that they prefer; both see the rows before."""
        before = {name: self._clusters[name].rows for name in NAMES.values()}
        for mine, other in (("visible", "infrared"), ("infrared", "visible")):
            self._clusters[other].rows = refine_rows(
                banks[mine].features,
                found[mine].labels,
                before[other],
                self.config.sbmr_threshold,
                self.config.sbmr_momentum,
            )


def settings_at(config: MPJLConfig, stage: str, epoch: int) -> dict[str, float]:
    """Return eps and the neighbour counts of one epoch of a stage."""
    names = {"k1": f"{stage}_k1", "cap": f"{stage}_cap", "joint_k1": "joint_k1", "joint_cap": "joint_cap"}
    joint = stage == THIRD
    counts = {
        key: grown(config, name, epoch) if joint or not key.startswith("joint") else 0
        for key, name in names.items()
    }
    return {"eps": eps_at(config, stage, epoch), **counts}
