"""MPJL: modality-invariant progressive joint learning (public code of 2026; no paper seen).

DMIC's follow-up. EFE averages over at most so many neighbours of each camera, neighbour counts grow and eps falls
over a stage, and SBMR moves the memory rows of one modality towards the clusters of the other that prefer them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from methods.association.aggregation import refine_rows
from methods.base import Epoch, EpochPlan, FeatureBank, Reference, Source, Stage, TrainingData, setting
from methods.clustering import Capped
from methods.errors import MethodError
from methods.parts.hierarchical import JOINT, NAMES, HierarchicalConfig, HierarchicalContrast, Settings
from methods.parts.memories import cluster_means, random_members
from methods.parts.training import DEMO, smaller_modality
from methods.timing import timed

FIRST, SECOND, THIRD = STAGES = ("first", "second", "third")
CODE: Source = "published code"


class MPJLConfig(HierarchicalConfig):
    """Hyper-parameters of MPJL (methods-spec section 10b); defaults are SYSU-MM01's.

    A neighbour count that starts at s with growth g is s * g^(e / span) in epoch e of its stage.
    """

    epochs_first: int = setting(25, CODE, "epochs of stage I (within modalities)", ge=0)
    epochs_second: int = setting(25, CODE, "epochs of stage II (within modalities)", ge=0)
    epochs_third: int = setting(50, CODE, "epochs of stage III (all terms, SBMR)", ge=0)
    stage_init: Literal["last", "best-on-test"] = setting(
        "last",
        "reconstructed",
        "weights stages II and III start from; best-on-test is the public code's leak",
    )
    labels_per_batch: int = setting(8, CODE, "pseudo-identities in a batch of a stream", ge=1)
    span: int = setting(48, CODE, "epochs after which a growth is reached", ge=1)
    first_k1: float = setting(20, CODE, "stage I: neighbours within a modality, at first", ge=1)
    first_k1_growth: float = setting(3, CODE, "stage I: growth of the neighbours", gt=0)
    first_cap: float = setting(6, CODE, "stage I: expansion neighbours of a camera, at first", ge=1)
    first_cap_growth: float = setting(3, CODE, "stage I: growth of the cap", gt=0)
    second_k1: float = setting(30, CODE, "stage II: neighbours within a modality, at first", ge=1)
    second_k1_growth: float = setting(2, CODE, "stage II: growth of the neighbours", gt=0)
    second_cap: float = setting(6, CODE, "stage II: expansion neighbours of a camera, at first", ge=1)
    second_cap_growth: float = setting(3, CODE, "stage II: growth of the cap", gt=0)
    third_k1: float = setting(30, CODE, "stage III: neighbours within a modality, at first", ge=1)
    third_k1_growth: float = setting(2, CODE, "stage III: growth of the neighbours", gt=0)
    third_cap: float = setting(6, CODE, "stage III: expansion neighbours of a camera, at first", ge=1)
    third_cap_growth: float = setting(3, CODE, "stage III: growth of the cap", gt=0)
    joint_k1: float = setting(40, CODE, "neighbours over both modalities, at first", ge=1)
    joint_k1_growth: float = setting(3, CODE, "growth of the neighbours over both modalities", gt=0)
    joint_cap: float = setting(
        16, CODE, "expansion neighbours of a camera over both modalities, at first", ge=1
    )
    joint_cap_growth: float = setting(1, CODE, "growth of the joint cap", gt=0)
    eps: float = setting(0.6, CODE, "eps at the start of every stage", gt=0, le=1)
    eps_span: int = setting(50, CODE, "epochs in which eps would halve in stage I", ge=1)
    turning_epoch: int = setting(10, CODE, "epochs in which eps halves in stages II and III", ge=1)
    eps_low: float = setting(0.3, CODE, "eps from which it grows after the turn", gt=0, le=1)
    rise_span: int = setting(40, CODE, "epochs in which eps doubles after the turn", ge=1)
    sbmr_threshold: float = setting(0.5, CODE, "SBMR: cosine from which a sample counts", ge=-1, le=1)
    sbmr_momentum: float = setting(0.4, CODE, "SBMR: share of the old row", ge=0, le=1)


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


def in_every_stage(**values: float) -> dict[str, float]:
    """Give the fields of the three stages the same values: ``k1`` stands for ``first_k1``, ``second_k1`` ..."""
    return {f"{stage}_{name}": value for stage in STAGES for name, value in values.items()}


class MPJL(HierarchicalContrast):
    """Modality-invariant progressive joint learning."""

    name = "mpjl"
    summary = "DMIC's follow-up: capped expansion, progressive neighbours and eps, refined memory rows"
    Config = MPJLConfig
    config: MPJLConfig
    stage_names = STAGES
    reference = Reference(
        title="Modality-Invariant Progressive Joint Learning",
        venue="public code only; no paper seen",
        year=2026,
        parts={
            "EFE, schedules of k1, cap and eps": "published code",
            "memories, losses, weights": "published code",
            "SBMR": "published code",
            "rows of instance memories": "adapted: a sample's own row; the public index ignores removed noise",
            "rows during a step": "ours: gradients see the rows of the forward pass; the published code moves them "
            "between two gradients (quirk Q6)",
            "weights of later stages": "adapted: the last ones; mpjl:public takes the best on test, as published",
        },
        url="https://github.com/RuixingWu29/MPJL_USLVIReID",
    )
    presets = {
        "paper": {
            "sysu-mm01": {},
            "regdb": {
                **{"epochs_first": 30, "epochs_second": 30, "epochs_third": 60, "iterations": 100},
                **{"first_k1_growth": 2, "first_cap": 3, "first_cap_growth": 2},
                **{"second_k1_growth": 1.5, "second_cap": 3},
                **{"third_k1": 40, "third_k1_growth": 1.5, "third_cap": 8, "third_cap_growth": 1.5},
                **{"joint_k1": 60, "joint_k1_growth": 1.5, "joint_cap": 10, "joint_cap_growth": 1.5},
                **{"span": 59, "eps": 0.3, "eps_span": 60, "eps_low": 0.2},
            },
        },
        "demo": {
            "*": {
                **{**DEMO, "epochs_first": 3, "epochs_second": 3, "epochs_third": 4, "labels_per_batch": 8},
                **{"span": 4, "eps_span": 10, "turning_epoch": 8},
                **in_every_stage(k1_growth=1.2, cap_growth=1.5),
                **{"joint_k1_growth": 1.2, "joint_cap_growth": 1},
            },
            "regdb": {
                **in_every_stage(k1=10, cap=3),
                **{"joint_k1": 20, "joint_cap": 6, "eps": 0.5, "eps_low": 0.4},
            },
            "sysu-mm01": {
                **in_every_stage(k1=12, cap=2),
                **{"joint_k1": 18, "joint_cap": 2, "eps": 0.55, "eps_low": 0.45},
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
    def settings(cls, config: MPJLConfig, stage: Stage, epoch: int) -> Settings:
        """Return eps and the neighbour counts of an epoch; joint ones are 0 before stage III."""
        joint = stage.name == THIRD
        return {
            "eps": eps_at(config, stage.name, epoch),
            "k1": grown(config, f"{stage.name}_k1", epoch),
            "cap": grown(config, f"{stage.name}_cap", epoch),
            "joint_k1": grown(config, "joint_k1", epoch) if joint else 0,
            "joint_cap": grown(config, "joint_cap", epoch) if joint else 0,
        }

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality (and both together in stage III), fill the memories, draw streams."""
        s = self.settings(self.config, self.stages(self.config)[epoch.stage], epoch.in_stage)
        plan = self.plan(epoch, bank, s, f"eps = {s['eps']:.3g}, k1 = {s['k1']}, cap = {s['cap']}")
        if JOINT in plan.labels and not plan.skipped:
            with timed("associate"):
                self._refine(bank, plan.labels)
        return plan

    def neighbourhood(self, space: str, bank: FeatureBank, settings: Settings) -> tuple[int, Capped]:
        """EFE: at most `cap` neighbours of a camera, of whole lists (joint) or of their first 2 `cap`."""
        if space == JOINT:
            k1, cap = int(settings["joint_k1"]), int(settings["joint_cap"])
            return k1, Capped(k1, cap, bank.modality, bank.camera)
        k1, cap = int(settings["k1"]), int(settings["cap"])
        return k1, Capped(min(2 * cap, k1), cap, bank.modality, bank.camera)

    def first_rows(self, name: str, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> Tensor:
        """Start rows from a random member in stage I, from plain means later."""
        if self.stages(self.config)[epoch.stage].name == FIRST:
            return random_members(bank.features, labels, self._generator)
        return cluster_means(bank.features, labels)

    def _refine(self, bank: FeatureBank, labels: Mapping[str, Tensor]) -> None:
        """SBMR: clusters of one modality move the row of the other that they prefer; both see the rows before."""
        before = {name: self._clusters[name].rows for name in NAMES.values()}
        for (modality, name), other in zip(NAMES.items(), reversed(NAMES.values()), strict=True):
            mine = bank.of(modality)
            self._clusters[other].rows = refine_rows(
                mine.features,
                labels[name][mine.index.cpu()],
                before[other],
                self.config.sbmr_threshold,
                self.config.sbmr_momentum,
            )
