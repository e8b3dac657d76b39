"""SpCL (Ge et al., NeurIPS 2020, arXiv 2006.02713), brought to visible + infrared.

One memory row per image, kept over the whole run; clusters are found on these rows, and every image outside a cluster
is a class of its own. Only clusters that survive a tighter and a looser radius are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from methods.association.reliability import Reliability, independence_threshold, reliability, reliable_labels
from methods.base import (
    INFRARED,
    NOISE,
    VISIBLE,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Reference,
    Stage,
    Step,
    Stream,
    TrainingData,
    setting,
)
from methods.clustering import Plain, density_clusters, jaccard_graph
from methods.memory import InstanceMemory
from methods.sampling import gallery_with_singletons
from methods.training import DEMO, TrainingConfig, TwoStreamMethod, n_clusters, spread

MODALITIES = {"visible": VISIBLE, "infrared": INFRARED}


class SpCLConfig(TrainingConfig):
    """Hyper-parameters of SpCL (methods-spec section 3); defaults are SYSU-MM01's."""

    spaces: Literal["joint", "dual"] = setting(
        "joint", "adapted", "one memory over both modalities, or one for each alone"
    )
    epochs: int = setting(50, "published code", "epochs", ge=1)
    iterations: int = setting(400, "published code", "iterations an epoch", ge=1)
    labels_per_batch: int = setting(
        16,
        "published code",
        "a batch has this times instances images; classes of one image give it once",
        ge=1,
    )
    instances: int = setting(4, "published code", "images of each pseudo-identity", ge=2)
    k1: int = setting(30, "published code", "neighbours, the sample included", ge=1)
    k2: int = setting(6, "published code", "expansion neighbours", ge=1)
    eps: float = setting(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, lt=1)
    eps_gap: float = setting(
        0.02, "published code", "tighter and looser radius: eps minus and plus this", ge=0, lt=1
    )
    independent_share: float = setting(
        0.9, "published code", "share of the first epoch's clusters that count as independent", ge=0, le=1
    )
    memory_momentum: float = setting(0.2, "published code", "share of the old row in an update", ge=0, le=1)

    @model_validator(mode="after")
    def _radii_exist(self) -> SpCLConfig:
        if self.eps <= self.eps_gap or self.eps + self.eps_gap >= 1:
            raise ValueError(f"eps = {self.eps} minus and plus eps_gap = {self.eps_gap} leave (0, 1)")
        return self


class SpCL(TwoStreamMethod):
    """Self-paced contrastive learning with a hybrid memory."""

    name = "spcl"
    summary = "self-paced: one memory row per image, only clusters stable under other radii are kept"
    Config = SpCLConfig
    config: SpCLConfig
    reference = Reference(
        title="Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID",
        venue="NeurIPS, arXiv 2006.02713",
        year=2020,
        parts={
            "clusters on memory rows, reliability, hybrid loss": "published code",
            "sampler with classes of one image": "published code",
            "two-stream backbone, 288 x 144, both modalities in one set": "adapted: no public reference",
            "eps on RegDB": "adapted: the value of cluster contrast's visible-infrared descendants",
        },
    )
    presets = {
        "paper": {"sysu-mm01": {}, "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {
            "*": {**DEMO, "epochs": 10, "labels_per_batch": 8},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
            "sysu-mm01": {"k1": 12, "k2": 4, "eps": 0.55},
        },
        "joint": {"*": {"spaces": "joint"}},
        "dual": {"*": {"spaces": "dual"}},
        "public": {"*": {"bn_chunks": 4}},
    }

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone; memory and thresholds come with the first features."""
        self._rows: dict[str, Tensor] = {}
        self._thresholds: dict[str, float] = {}
        return super().build(data)

    @classmethod
    def stages(cls, config: SpCLConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def uses_features(self, epoch: Epoch) -> bool:
        """Only the memory's first rows are extracted (quirk Q17)."""
        del epoch
        return not self._rows

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster the memory, keep reliable clusters, and draw from all images."""
        c = self.config
        banks = (
            {"joint": bank} if c.spaces == "joint" else {name: bank.of(m) for name, m in MODALITIES.items()}
        )
        if not self._rows:
            self._rows = {name: part.features.clone() for name, part in banks.items()}
        classes = {name: self._classes(name) for name in banks}
        clusters = {name: without_singletons(found) for name, found in classes.items()}
        labels = {name: spread(clusters[name], banks[name].index, len(bank)) for name in banks}
        record = {"eps": c.eps, "k2": float(c.k2)}
        record |= {f"threshold_{name}": value for name, value in self._thresholds.items()}
        if reason := self._nothing_to_learn(classes, clusters):
            return self.skip(labels, f"{reason} with eps = {c.eps:.3g}, k1 = {c.k1}", record)
        with self.data.stage("memory"):
            self._at = {name: rows_of(part, len(self.data)) for name, part in banks.items()}
            self._memories = {
                name: InstanceMemory(
                    self._rows[name], classes[name], c.temperature, c.memory_momentum, "mean"
                )
                for name in banks
            }
        streams = tuple(self._stream(name, banks[name], classes[name], epoch) for name in banks)
        return EpochPlan(labels, streams, (Step("train", tuple(banks)),), c.iterations, record)

    def _classes(self, name: str) -> Tensor:
        """Return the class of every image: its reliable cluster, or one of its own."""
        c = self.config
        radii = (c.eps, c.eps - c.eps_gap, c.eps + c.eps_gap)
        graph, _ = jaccard_graph(
            self._rows[name], k1=c.k1, radius=max(radii), expansion=Plain(c.k2), stage=self.data.stage
        )
        with self.data.stage("cluster"):
            found = [density_clusters(graph, eps, c.min_samples) for eps in radii]
        with self.data.stage("associate"):
            stability = reliability(*found)
            return reliable_labels(stability, self._threshold(name, stability))

    def _nothing_to_learn(self, classes: Mapping[str, Tensor], clusters: Mapping[str, Tensor]) -> str:
        """Say which space holds one class only, or only noise from the start; later, noise still learns."""
        for name, found in classes.items():
            if len(found.unique()) < 2:
                return f"all images in one cluster ({name})"
            if name not in self._thresholds and not n_clusters(clusters[name]):
                return f"no cluster yet ({name})"
        return ""

    def _threshold(self, name: str, stability: Reliability) -> float:
        """Return the independence that clusters need, fixed by the first epoch that has any."""
        if name not in self._thresholds:
            value = independence_threshold(stability, self.config.independent_share)
            if value is None:
                return 0.0
            self._thresholds[name] = value
        return self._thresholds[name]

    def _stream(self, name: str, bank: FeatureBank, classes: Tensor, epoch: Epoch) -> Stream:
        """Draw over all images; a class of one image gives it once (quirk Q8)."""
        c = self.config
        drawn = gallery_with_singletons(
            classes.cpu().numpy(),
            bank.camera.cpu().numpy(),
            c.labels_per_batch * c.instances,
            c.instances,
            c.iterations,
            np.random.default_rng(self.data.seed("sampler", epoch.number, name)),
        )
        stream = Stream(name, bank.index.cpu(), classes.cpu(), c.labels_per_batch, c.instances)
        return replace(stream, drawn=torch.from_numpy(drawn))

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Hybrid memory loss of each label space."""
        del epoch
        features = dict(zip(batch.parts, self.features(list(batch.parts.values())), strict=True))
        self._seen = {name: f.detach() for name, f in features.items()}
        return {
            f"instance_{name}": self._memories[name].loss(f, self._at[name][batch.parts[name].index])
            for name, f in features.items()
        }

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move the rows of the images in the batch."""
        del epoch
        for name, f in self._seen.items():
            self._memories[name].update(f, self._at[name][batch.parts[name].index])

    def state(self) -> dict[str, Tensor]:
        """Return the memory rows and the thresholds, which live as long as the run."""
        thresholds = {
            name: torch.tensor(value, dtype=torch.float64) for name, value in self._thresholds.items()
        }
        return {f"rows.{k}": v for k, v in self._rows.items()} | {
            f"threshold.{k}": v for k, v in thresholds.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the memory rows and the thresholds."""
        split = {tuple(key.split(".", 1)): value for key, value in state.items()}
        self._rows = {name: value for (kind, name), value in split.items() if kind == "rows"}
        self._thresholds = {
            name: float(value) for (kind, name), value in split.items() if kind == "threshold"
        }


def without_singletons(classes: Tensor) -> Tensor:
    """Number the classes of two images and more from 0; the others are noise."""
    _, found, size = classes.unique(return_inverse=True, return_counts=True)
    kept = size > 1
    return torch.where(kept, kept.cumsum(0) - 1, NOISE)[found]


def rows_of(bank: FeatureBank, n: int) -> Tensor:
    """Map the `n` training rows to rows of a bank; -1 outside it."""
    rows = torch.full((n,), -1, dtype=torch.int64, device=bank.index.device)
    rows[bank.index] = torch.arange(len(bank), device=bank.index.device)
    return rows
