"""ECUL, a reconstruction (Wu et al., arXiv 2412.19134; no code, and only the abstract was available).

Extended modality-camera clustering (EMCC), memories updated in two steps (TSMem), and contrast within modalities,
over joint clusters and between neighbouring images of the two modalities. The formulas are ours; a published number
of ECUL must not stand beside a result of this file without the word reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from methods.association.neighbours import mutual_neighbours
from methods.base import (
    INFRARED,
    VISIBLE,
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
from methods.clustering import Capped, Clustering, jaccard_clusters
from methods.clustering.labels import shared_clusters
from methods.parts.config import DEMO, TwoStageConfig, UpdateRule, network_parts
from methods.parts.contrast import (
    CROSS,
    contrast,
    dual_streams,
    joint_streams,
    move_memories,
    start_memory,
    two_stages,
)
from methods.parts.host import to_device
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


class ECULConfig(TwoStageConfig):
    """Hyper-parameters of the reconstruction; defaults are SYSU-MM01's."""

    k2: int = value(6, "reconstructed", "EMCC: nearest neighbours kept of each camera", ge=1)
    k3: int = value(12, "reconstructed", "EMCC: neighbours from which they are kept; k3 = k2 gives MIE", ge=1)
    joint_k1: int = value(40, "reconstructed", "neighbours over both modalities", ge=1)
    joint_k2: int = value(16, "reconstructed", "k2 over both modalities", ge=1)
    joint_k3: int = value(32, "reconstructed", "k3 over both modalities", ge=1)
    switch: float = value(
        0.5, "reconstructed", "TSMem: share of a stage's epochs in its first step", ge=0, le=1
    )
    early_update: UpdateRule = value(
        "random", "reconstructed", "TSMem, first step: which batch samples move a cluster's centroid"
    )
    early_momentum: float = value(
        0.0, "reconstructed", "TSMem, first step: share of the old centroid", ge=0, le=1
    )
    memory_update: UpdateRule = value(
        "mean", "reconstructed", "TSMem, second step: which batch samples move a cluster's centroid"
    )
    memory_momentum: float = value(
        0.1, "reconstructed", "TSMem, second step: share of the old centroid", ge=0, le=1
    )
    instance_momentum: float = value(0.1, "reconstructed", "share of an image's old row", ge=0, le=1)
    intra_weight: float = value(1.0, "reconstructed", "weight of the terms within modalities", ge=0)
    joint_weight: float = value(1.0, "reconstructed", "weight of the terms over joint clusters", ge=0)
    instance_weight: float = value(1.0, "reconstructed", "weight of the instance term", ge=0)
    renormalise_flip: Literal[True] = value(
        True, "reconstructed", "always: rows of instances are features, of unit length"
    )
    labels_per_batch: int = value(4, "predecessor", "pseudo-identities in a visible batch", ge=1)
    infrared_labels: int = value(4, "predecessor", "pseudo-identities in an infrared batch", ge=1)

    sources = dict.fromkeys(
        ("k1", "eps", "epochs_dual", "epochs_cross", "temperature", "min_samples", "non_local"),
        "reconstructed (as its predecessors have it)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ECULConfig:
        for prefix in ("", "joint_"):
            k1, k2, k3 = (getattr(self, f"{prefix}{name}") for name in ("k1", "k2", "k3"))
            if not k2 <= k3 <= k1:
                raise ValueError(f"{prefix}k2 <= {prefix}k3 <= {prefix}k1 must hold, not {k2}, {k3}, {k1}")
        return self


class NeighbourMemory(InstanceMemory):
    """One unit row per sample; the positives of a sample are others it is paired with (ECUL, reconstructed).

    Parameters
    ----------
    rows : float32 tensor (n, d)
    pairs : int64 tensor (m, 2)
        Rows that are each other's positives.
    """

    def __init__(self, rows: Tensor, pairs: Tensor, temperature: float, momentum: float) -> None:
        super().__init__(rows, torch.arange(len(rows)), temperature, momentum)
        # on the host: how many positives an image has decides shapes
        both = torch.cat([pairs, pairs.flip(1)]).cpu()
        self._partner = both[both[:, 0].argsort(stable=True), 1]
        self._count = both[:, 0].bincount(minlength=len(rows))
        self._start = self._count.cumsum(0) - self._count

    def positives(self, sample_index: Tensor) -> Tensor:
        """Return which rows (b, n), on their device, are positives of images (b,)."""
        device, sample_index = self.rows.device, sample_index.cpu()
        count = self._count[sample_index]
        sample = torch.arange(len(sample_index)).repeat_interleave(count)
        rank = torch.arange(len(sample)) - (count.cumsum(0) - count)[sample]
        partner = self._partner[self._start[sample_index][sample] + rank]
        mask = torch.zeros(len(sample_index), len(self.rows), dtype=torch.bool, device=device)
        yes = torch.ones(len(sample), dtype=torch.bool, device=device)
        return mask.index_put((to_device(sample, device), to_device(partner, device)), yes)

    def loss(self, features: Tensor, sample_index: Tensor) -> Tensor:
        """Return the mean of -log(sum over positives / sum over all) of the images that have positives."""
        with torch.autocast(features.device.type, enabled=False):
            paired = torch.nonzero(self._count[sample_index.cpu()] > 0).flatten()
            scores = features[to_device(paired, features.device)].float() @ self.rows.T / self.temperature
            own = scores.masked_fill(~self.positives(sample_index.cpu()[paired]), -torch.inf)
            return (scores.logsumexp(1) - own.logsumexp(1)).sum() / max(len(paired), 1)


class ECUL(TwoStreamMethod):
    """Extended cross-modality united learning, reconstructed."""

    name = "ecul"
    written = "ECUL (reconstruction)"
    summary = (
        "reconstruction: capped modality-camera clusters, two-step memories, neighbours across modalities"
    )
    Config = ECULConfig
    config: ECULConfig
    reference = Reference(
        title="Extended Cross-Modality United Learning for Unsupervised Visible-Infrared Person Re-identification",
        venue="arXiv 2412.19134; reconstruction, no public code",
        year=2024,
        parts={
            "clusters within and across modalities, instances across": (
                "paper",
                "its abstract; formulas reconstructed",
            ),
            "EMCC": (
                "reconstructed",
                "k2 and k3 named by a summary; MIE's weights on capped neighbours, after MPJL",
            ),
            "TSMem": (
                "reconstructed",
                "diversity early, generalisation later; switch and rules are ours",
            ),
            "instance term, all weights": ("reconstructed", ""),
            "backbone, batches, augmentation, optimiser": ("predecessor", "PCA"),
            "values called published code": ("reconstructed", "that of predecessors, taken over"),
            **network_parts("predecessor"),
            "selection of the best epoch": (
                "predecessor",
                "by mean mAP over SYSU-MM01's ten galleries of all search, as in PCA",
            ),
        },
        url="https://arxiv.org/abs/2412.19134",
        reconstruction=True,
    )

    def __init__(self, config: ECULConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}
        self.instances: NeighbourMemory | None = None

    @classmethod
    def stages(cls, config: ECULConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with joint clusters and instances."""
        return two_stages(config)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality; in stage II both together, and pair neighbours across modalities."""
        c = self.config
        spaces = cluster_each_modality(bank, lambda part: self.cluster(part, c.k1, c.k2, c.k3))
        record = {"eps": c.eps, "k2": float(c.k2)}
        if why := too_few_clusters(spaces):
            return skipped(
                spaces, f"{why} with eps = {c.eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}", record
            )

        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        with timed("memory"):
            self.memories = {
                name: self.start_memory(space, epoch, generator) for name, space in spaces.items()
            }
        streams = dual_streams(c, spaces)
        steps: tuple[Step, ...] = (Step("dual", tuple(stream.name for stream in streams)),)

        if epoch.stage.name == CROSS:
            clustering = self.cluster(bank, c.joint_k1, c.joint_k2, c.joint_k3)
            spaces[JOINT] = joint = label_space(bank, clustering.labels, len(bank))
            with timed("associate"):
                shared = shared_clusters(joint.labels, bank.modality)
                pairs = self.neighbour_pairs(joint)
            record |= {"shared_clusters": shared, "neighbour_pairs": float(len(pairs))}
            if shared:
                with timed("memory"):
                    memory = self.start_memory(joint, epoch, generator)
                    self.instances = self.start_instances(bank, pairs)
                both = joint_streams(c, joint)
                self.memories |= {stream.name: memory for stream in both}
                streams += both
                steps += (Step(JOINT, tuple(stream.name for stream in both)),)
        return plan(spaces, streams, steps, epoch.stage.iterations, record)

    def cluster(self, bank: FeatureBank, k1: int, k2: int, k3: int) -> Clustering:
        """Cluster by EMCC: k3 filters the neighbours, at most k2 of each camera are fused."""
        return jaccard_clusters(
            bank.features,
            k1=k1,
            eps=self.config.eps,
            min_samples=self.config.min_samples,
            expansion=Capped(k3, k2, bank.modality, bank.camera),
        )

    def start_memory(self, space: LabelSpace, epoch: Epoch, generator: torch.Generator) -> ClusterMemory:
        """TSMem: random members moved by random samples at first, then modality-balanced means moved by means."""
        c, bank = self.config, space.bank
        if epoch.in_stage < c.switch * epoch.stage.epochs:
            rows = random_members(bank.features, space.labels, generator)
            return ClusterMemory(
                rows,
                c.temperature,
                c.early_momentum,
                c.early_update,
                generator=generator,
                in_backward=c.memory_gradient == "in_backward",
            )
        return start_memory(c, compute_centroids(bank.features, space.labels, bank.modality), generator)

    def neighbour_pairs(self, joint: LabelSpace) -> Tensor:
        """Return the training images (m, 2) of mutual neighbours across modalities that share a joint label."""
        visible, infrared = joint.of(VISIBLE), joint.of(INFRARED)
        pairs = mutual_neighbours(
            visible.bank.features,
            infrared.bank.features,
            visible.labels,
            infrared.labels,
            self.config.joint_k1,
        )
        return torch.stack(
            [visible.bank.sample_index[pairs[:, 0]], infrared.bank.sample_index[pairs[:, 1]]], 1
        )

    def start_instances(self, bank: FeatureBank, pairs: Tensor) -> NeighbourMemory:
        """Pair the rows of the images anew; they start as the features of stage II's first epoch."""
        if self.instances is not None:
            rows = self.instances.rows
        else:
            rows = torch.empty_like(bank.features)
            rows[bank.sample_index] = bank.features
        return NeighbourMemory(rows, pairs, self.config.temperature, self.config.instance_momentum)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Return cluster terms of the step; the joint step adds the instance term."""
        c, joint = self.config, batch.step == JOINT
        weight = c.joint_weight if joint else c.intra_weight
        terms = {name: weight * term for name, term in contrast(self.memories, seen, batch).items()}
        if joint and self.instances:
            instances = self.instances.loss(seen.of(JOINT), batch.drawn(JOINT).sample_index)
            terms["instance"] = c.instance_weight * instances
        return terms

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the clusters, and in the joint step the rows of the images, in the batch."""
        move_memories(self.memories, seen, batch)
        if batch.step == JOINT and self.instances:
            self.instances.update(seen.of(JOINT), batch.drawn(JOINT).sample_index)

    def state(self) -> dict[str, Tensor]:
        """Return the rows of the images, which live as long as stage II."""
        return {"instance": self.instances.rows} if self.instances else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the rows of the images; their pairs come with the next epoch."""
        if "instance" in state:
            nobody = torch.empty(0, 2, dtype=torch.int64, device=state["instance"].device)
            self.instances = NeighbourMemory(
                state["instance"], nobody, self.config.temperature, self.config.instance_momentum
            )

    presets = {
        "paper": {
            "sysu-mm01": {},
            "llcm": Adapted({"k1": 25}),
            "regdb": {"eps": 0.3, "iterations": 100, "joint_k1": 38, "joint_k3": 18, "joint_k2": 9},
        },
        "demo": {
            "*": DEMO
            | {"epochs_dual": 4, "epochs_cross": 6, "labels_per_batch": 8, "infrared_labels": 8}
            | {
                "k1": 12,
                "k3": 8,
                "k2": 2,
                "eps": 0.55,
                "joint_k1": 18,
                "joint_k3": 14,
                "joint_k2": 2,
            },
            "regdb": {
                "k1": 10,
                "k3": 6,
                "k2": 3,
                "eps": 0.5,
                "joint_k1": 20,
                "joint_k3": 12,
                "joint_k2": 6,
            },
        },
    }
