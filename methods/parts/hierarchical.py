"""Hierarchical contrast (DMIC's HMCL, dmic-spec section 5): cluster- and instance-level memories, within and across
modalities. DMIC and its follow-up MPJL differ in how eps and neighbour counts move, in how neighbours are averaged
over, and in how cluster rows start.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from methods.base import (
    INFRARED,
    VISIBLE,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Stage,
    Step,
    Stream,
    TrainingData,
    setting,
)
from methods.clustering import Clustering, Expansion, jaccard_clusters
from methods.clustering.labels import scatter_labels
from methods.parts.memories import ClusterMemory, InstanceMemory
from methods.parts.training import (
    TrainingConfig,
    TwoStreamMethod,
    members,
    neighbour_distances,
    rows_of,
    too_few,
)
from methods.timing import timed

NAMES = {VISIBLE: "visible", INFRARED: "infrared"}
JOINT = "joint"
Settings = Mapping[str, float]
"""Eps and neighbour counts of an epoch by name."""


class HierarchicalConfig(TrainingConfig):
    """What the memories and their losses read."""

    instance_memory: bool = setting(
        True, "published code", "instance-level memories beside cluster-level ones"
    )
    memory_update: Literal["random", "sequential", "mean", "hardest"] = setting(
        "random", "published code", "which batch samples move a cluster's row"
    )
    memory_momentum: float = setting(0.0, "published code", "share of the old row in an update", ge=0, le=1)
    instance_reduce: Literal["sum", "mean"] = setting(
        "sum", "published code", "instances of a label: sum or mean"
    )
    joint_weight: float = setting(0.7, "published code", "lambda: weight of the joint terms", ge=0)


class HierarchicalContrast(TwoStreamMethod):
    """Cluster and instance memories of each modality, and of both together in the last stage."""

    config: HierarchicalConfig
    stage_names: ClassVar[tuple[str, ...]]
    """Stage ``x`` lasts ``epochs_x`` epochs; the last of these clusters both modalities together as well."""

    @classmethod
    def stages(cls, config: Any) -> Sequence[Stage]:
        """Name the stages that have epochs; later ones start from the weights that `stage_init` says."""
        stages = [
            Stage(name, getattr(config, f"epochs_{name}"), config.iterations, initial=config.stage_init)
            for name in cls.stage_names
        ]
        stages[0] = replace(stages[0], initial="last")
        return tuple(stage for stage in stages if stage.epochs)

    @classmethod
    @abstractmethod
    def settings(cls, config: Any, stage: Stage, epoch: int) -> Settings:
        """Return eps and the neighbour counts that move, as they are in epoch `epoch` of a stage."""

    @classmethod
    def schedule(cls, config: HierarchicalConfig) -> pd.DataFrame:
        """Return the settings of every epoch (after columns stage and epoch) without a run."""
        rows = [
            {"stage": stage.name, "epoch": epoch, **cls.settings(config, stage, epoch)}
            for stage in cls.stages(config)
            for epoch in range(stage.epochs)
        ]
        return pd.DataFrame(rows)

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone; instance memories start empty and are filled when their stage begins."""
        self._instance_rows: dict[str, Tensor] = {}
        self._instance_stage = -1
        return super().build(data)

    @abstractmethod
    def neighbourhood(self, space: str, bank: FeatureBank, settings: Settings) -> tuple[int, Expansion]:
        """Return the length of neighbour lists in a label space, and how they are averaged over."""

    @abstractmethod
    def first_rows(self, name: str, bank: FeatureBank, labels: Tensor, epoch: Epoch) -> Tensor:
        """Return the rows with which the cluster memory of a label space starts an epoch."""

    def plan(self, epoch: Epoch, bank: FeatureBank, settings: Settings, message: str) -> EpochPlan:
        """Cluster by the settings, fill the memories and draw streams, or say why not (with `message`)."""
        stage = self.stages(self.config)[epoch.stage]
        banks = {name: bank.of(modality) for modality, name in NAMES.items()}
        if stage.name == self.stage_names[-1]:
            banks[JOINT] = bank
        clusterings = {name: self._cluster(name, part, settings) for name, part in banks.items()}
        found = {name: each.labels for name, each in clusterings.items()}
        labels = {name: scatter_labels(found[name], banks[name].index, len(self.data)) for name in found}
        if reason := too_few(found):
            return self.skip(labels, f"{reason} with {message}; {neighbour_distances(clusterings)}", settings)
        with timed("memory"):
            self._fill_memories(epoch, banks, found)
        streams = self._streams(banks, found)
        step = Step(stage.name, tuple(stream.name for stream in streams))
        return EpochPlan(labels, streams, (step,), stage.iterations, settings)

    def _cluster(self, space: str, bank: FeatureBank, settings: Settings) -> Clustering:
        k1, expansion = self.neighbourhood(space, bank, settings)
        return jaccard_clusters(
            bank.features,
            k1=k1,
            eps=settings["eps"],
            min_samples=self.config.min_samples,
            expansion=expansion,
        )

    def _fill_memories(
        self, epoch: Epoch, banks: Mapping[str, FeatureBank], found: Mapping[str, Tensor]
    ) -> None:
        """Start the cluster memories of this epoch; instance memories start once, with their stage."""
        c = self.config
        self._generator = torch.Generator().manual_seed(self.data.seed("memory", epoch.number))
        self._clusters: dict[str, ClusterMemory] = {}
        for name, bank in banks.items():
            rows = self.first_rows(name, bank, found[name], epoch)
            self._clusters[name] = ClusterMemory(rows, c.temperature, c.memory_momentum, c.memory_update)
        if c.instance_memory:
            if epoch.stage != self._instance_stage:
                self._instance_rows = {name: bank.features.clone() for name, bank in banks.items()}
                self._instance_stage = epoch.stage
            self._row_of = {name: rows_of(bank, len(self.data)) for name, bank in banks.items()}
            self._instances = {
                name: InstanceMemory(
                    self._instance_rows[name],
                    found[name],
                    c.temperature,
                    c.memory_momentum,
                    c.instance_reduce,
                )
                for name in banks
            }

    def _streams(self, banks: Mapping[str, FeatureBank], found: Mapping[str, Tensor]) -> tuple[Stream, ...]:
        """One stream per modality by its own labels; one more each by joint labels where there are any."""
        streams = []
        for modality, name in NAMES.items():
            streams.append(self._stream(name, *members(banks[name], found[name])))
            if JOINT in banks:
                index, label = members(banks[JOINT], found[JOINT])
                mine = self.data.modality.cpu()[index] == modality
                if bool(mine.any()):
                    streams.append(self._stream(f"joint-{name}", index[mine], label[mine]))
        return tuple(streams)

    def _stream(self, name: str, index: Tensor, label: Tensor) -> Stream:
        return Stream(
            name,
            index,
            label,
            self.config.labels_per_batch,
            self.config.instances,
            visible_views=("plain", "channel-exchange"),
            infrared_views=("channel-adapt-gray",),
        )

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Sum of dmic-spec section 5: cluster and instance terms, intra and (weighted by lambda) joint."""
        names = list(batch.parts)
        features = dict(zip(names, self.features([batch.parts[name] for name in names]), strict=True))
        self._seen = {name: f.detach() for name, f in features.items()}
        terms: dict[str, Tensor] = {}
        for name, f in features.items():
            part, joint = batch.parts[name], name.startswith("joint-")
            space, weight = (JOINT, self.config.joint_weight) if joint else (name, 1.0)
            if self.config.instance_memory:
                rows = self._row_of[space][part.index]
                terms[f"instance_{name}"] = weight * self._instances[space].loss(f, rows)
            if not joint:
                terms[f"cluster_{name}"] = self._clusters[name].loss(f, part.label)
        joint_names = [name for name in names if name.startswith("joint-")]
        if joint_names:
            f = torch.cat([features[name] for name in joint_names])
            label = torch.cat([batch.parts[name].label for name in joint_names])
            terms["cluster_joint"] = self.config.joint_weight * self._clusters[JOINT].loss(f, label)
        return terms

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move the memories with the features of the forward pass."""
        spaces: dict[str, list[str]] = {}
        for name in batch.parts:
            spaces.setdefault(JOINT if name.startswith("joint-") else name, []).append(name)
        for space, names in spaces.items():
            f = torch.cat([self._seen[name] for name in names])
            label, index = (
                torch.cat([getattr(batch.parts[n], key) for n in names]) for key in ("label", "index")
            )
            self._clusters[space].update(f, label, self._generator)
            if self.config.instance_memory:
                # shuffled, or an image's row would always be its augmented view, which comes last
                order = self._update_order(len(f)).to(f.device)
                self._instances[space].update(f[order], self._row_of[space][index[order]])

    def _update_order(self, size: int) -> Tensor:
        """Return the order in which a batch moves instance rows: shuffled where cluster rows are (HMCL)."""
        if self.config.memory_update == "random":
            return torch.randperm(size, generator=self._generator)
        return torch.arange(size)

    def state(self) -> dict[str, Tensor]:
        """Return the instance memories, which live as long as their stage, and the number of that stage."""
        rows = {f"instance.{name}": rows for name, rows in self._instance_rows.items()}
        return {**rows, "stage": torch.tensor(self._instance_stage)} if rows else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the instance memories."""
        self._instance_rows = {
            key.removeprefix("instance."): rows for key, rows in state.items() if key != "stage"
        }
        self._instance_stage = int(state["stage"]) if state else -1
