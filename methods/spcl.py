"""SpCL (Ge et al., NeurIPS 2020, arXiv 2006.02713), brought to visible + infrared.

One memory row per image, kept over the whole run; clusters are found on these rows, and every image outside a cluster
is a class of its own. Only clusters that survive a tighter and a looser radius are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from methods.base import Batch, Epoch, EpochPlan, FeatureBank, Reference, Stage, Step, TrainingData, setting
from methods.clustering.labels import scatter_labels
from methods.parts.dual import by_modality
from methods.parts.self_paced import SelfPacedConfig, SelfPacedMemory
from methods.parts.training import DEMO, TrainingConfig, TwoStreamMethod


class SpCLConfig(TrainingConfig, SelfPacedConfig):
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
            "bn_chunks of the preset public": "reconstructed: four devices, as the descendants' codes use",
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
        """Make the backbone; memories come with the first features."""
        self._memories: dict[str, SelfPacedMemory] = {}
        return super().build(data)

    @classmethod
    def stages(cls, config: SpCLConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def uses_features(self, epoch: Epoch) -> bool:
        """Only the memory's first rows are extracted (quirk Q17)."""
        del epoch
        return not self._memories

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster the memory, keep reliable clusters, and draw from all images."""
        c = self.config
        banks = {"joint": bank} if c.spaces == "joint" else by_modality(bank)
        self._memories = self._memories or {name: SelfPacedMemory(c) for name in banks}
        memories = self._memories
        clusters = {name: memory.cluster(banks[name]) for name, memory in memories.items()}
        labels = {name: scatter_labels(clusters[name], banks[name].index, len(bank)) for name in banks}
        thresholds = {f"threshold_{name}": memory.threshold for name, memory in memories.items()}
        record = {"eps": c.eps, "k2": float(c.k2)}
        record |= {name: value for name, value in thresholds.items() if value is not None}
        if reason := self._nothing_to_learn():
            return self.skip(labels, f"{reason} with eps = {c.eps:.3g}, k1 = {c.k1}", record)
        batch = c.labels_per_batch, c.instances
        seeds = {name: self.data.seed("sampler", epoch.number, name) for name in banks}
        streams = tuple(memories[name].stream(name, batch, c.iterations, seeds[name]) for name in banks)
        return EpochPlan(labels, streams, (Step("train", tuple(banks)),), c.iterations, record)

    def _nothing_to_learn(self) -> str:
        """Say which space holds one class only, or only noise from the start; later, noise still learns."""
        for name, memory in self._memories.items():
            if len(memory.classes.unique()) < 2:
                return f"all images in one cluster ({name})"
            if memory.threshold is None:
                return f"no cluster yet ({name})"
        return ""

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Hybrid memory loss of each label space."""
        del epoch
        features = dict(zip(batch.parts, self.features(list(batch.parts.values())), strict=True))
        return {
            f"instance_{name}": self._memories[name].loss(f, batch.parts[name].index)
            for name, f in features.items()
        }

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move the rows of the images in the batch."""
        del batch, epoch
        for memory in self._memories.values():
            memory.update()

    def state(self) -> dict[str, Tensor]:
        """Return the memory rows and the thresholds, which live as long as the run."""
        return {k: v for name, memory in self._memories.items() for k, v in memory.state(name).items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the memory rows and the thresholds."""
        self._memories = {key.split(".")[0]: SelfPacedMemory(self.config) for key in state}
        for name, memory in self._memories.items():
            memory.load_state(name, state)
