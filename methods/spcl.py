"""SpCL (Ge et al., NeurIPS 2020, arXiv 2006.02713), brought to visible + infrared.

One memory row per image, kept over the whole run; clusters are found on these rows, and every image outside a cluster
is a class of its own. Only clusters that survive a tighter and a looser radius are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

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
    value,
)
from methods.parts.config import DEMO, FROM_ONE_MODALITY, SelfPacedConfig, TrainingConfig
from methods.parts.hybrid_memory import HybridMemory
from methods.parts.spaces import JOINT, by_modality, label_space, plan, skipped
from methods.parts.two_stream import Seen, TwoStreamMethod


class SpCLConfig(TrainingConfig, SelfPacedConfig):
    """Hyper-parameters of SpCL; defaults are SYSU-MM01's."""

    spaces: Literal["joint", "dual"] = value(
        "joint", "adapted", "one memory over both modalities, or one for each alone"
    )
    epochs: int = value(50, "published code", "epochs", ge=1)
    iterations: int = value(400, "published code", "iterations an epoch", ge=1)
    labels_per_batch: int = value(
        16,
        "published code",
        "a batch has this times instances images; classes of one image give it once",
        ge=1,
    )
    instances: int = value(4, "published code", "images of each pseudo-identity", ge=2)


class SpCL(TwoStreamMethod):
    """Self-paced contrastive learning with a hybrid memory."""

    name = "spcl"
    written = "SpCL"
    summary = "self-paced: one memory row per image, only clusters stable under other radii are kept"
    Config = SpCLConfig
    config: SpCLConfig
    reference = Reference(
        title="Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID",
        venue="NeurIPS, arXiv 2006.02713",
        year=2020,
        parts={
            "clusters on memory rows, reliability, hybrid loss": ("published code", ""),
            "sampler with classes of one image": ("published code", ""),
            "two-stream backbone, 288 x 144, both modalities in one set": ("adapted", "no public reference"),
            "pooling": (
                "adapted",
                "generalised mean with fixed p = 3; the published code takes the plain mean",
            ),
            **FROM_ONE_MODALITY,
            "bn_chunks of the preset public": (
                "reconstructed",
                "four devices, as the descendants' codes use",
            ),
            "eps on RegDB": ("adapted", "the value of cluster contrast's visible-infrared descendants"),
        },
    )

    def __init__(self, config: SpCLConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, HybridMemory] = {}

    @classmethod
    def stages(cls, config: SpCLConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def uses_features(self, epoch: Epoch) -> bool:
        """Only the memory's first rows are extracted (quirk Q17)."""
        return not self.memories

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster the memory, keep reliable clusters, and draw from all images."""
        c = self.config
        banks = {JOINT: bank} if c.spaces == "joint" else by_modality(bank)
        self.memories = self.memories or {name: HybridMemory(c) for name in banks}
        spaces = {
            name: label_space(banks[name], memory.cluster(banks[name]), len(bank))
            for name, memory in self.memories.items()
        }
        record = {"eps": c.eps, "k2": float(c.k2)}
        for name, memory in self.memories.items():
            if memory.threshold is not None:
                record[f"threshold_{name}"] = memory.threshold
        if why := self.nothing_to_learn():
            return skipped(spaces, f"{why} with eps = {c.eps:.3g}, k1 = {c.k1}", record)
        streams = tuple(
            memory.stream(
                name,
                c.labels_per_batch,
                c.instances,
                c.iterations,
                self.data.seed("sampler", epoch.number, name),
            )
            for name, memory in self.memories.items()
        )
        return plan(spaces, streams, (Step("train", tuple(banks)),), c.iterations, record)

    def nothing_to_learn(self) -> str:
        """Say which space holds one class only, or only noise from the start; later, noise still learns."""
        for name, memory in self.memories.items():
            if len(memory.classes.unique()) < 2:
                return f"all images in one cluster ({name})"
            if memory.threshold is None:
                return f"no cluster yet ({name})"
        return ""

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Hybrid memory loss of each label space."""
        return {
            f"instance_{name}": self.memories[name].loss(seen.features[name], part.drawn.sample_index)
            for name, part in batch.parts.items()
        }

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the rows of the images in the batch."""
        for name, part in batch.parts.items():
            self.memories[name].update(seen.features[name], part.drawn.sample_index)

    def state(self) -> dict[str, Tensor]:
        """Return the memory rows and the thresholds, which live as long as the run."""
        return {k: v for name, memory in self.memories.items() for k, v in memory.state(name).items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the memory rows and the thresholds."""
        self.memories = {key.split(".")[0]: HybridMemory(self.config) for key in state}
        for name, memory in self.memories.items():
            memory.load_state(name, state)

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted(), "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {
            "*": DEMO | {"epochs": 10, "labels_per_batch": 8, "k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "joint": {"*": {"spaces": "joint"}},
        "dual": {"*": {"spaces": "dual"}},
        "public": {"*": {"bn_chunks": 4}},
    }
