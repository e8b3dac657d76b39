"""Contrast of each modality against its own cluster memory, as ADCA, PGM, GUR, PCA, MMM, N-ULC and RPNR share it.

And of both against the memory of joint clusters, as PCA and MMM share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from methods.base import MODALITIES, NOISE, Batch, Epoch, FeatureBank, Stage, Step, Stream, timed
from methods.clustering import Clustering, MeanExpansion, ModalityMean, jaccard_clusters
from methods.clustering.labels import shared_clusters
from methods.parts.config import ContrastConfig, JointContrastConfig, TwoStageConfig
from methods.parts.memories import ClusterMemory, compute_centroids
from methods.parts.spaces import (
    AUGMENTED_VIEWS,
    JOINT,
    LabelSpace,
    cluster_each_modality,
    distances_seen,
    label_space,
    stream_of,
    too_few_clusters,
)
from methods.parts.two_stream import Seen

DUAL, CROSS = "dual", "cross"
"""Stages: each modality alone, then with what crosses modalities."""


def two_stages(config: TwoStageConfig) -> tuple[Stage, ...]:
    """Return the dual and the cross stage, as far as they have epochs."""
    stages = (
        Stage(DUAL, config.epochs_dual, config.iterations),
        Stage(CROSS, config.epochs_cross, config.iterations, initial=config.stage_init),
    )
    return tuple(stage for stage in stages if stage.epochs)


def alternate(epoch: Epoch) -> tuple[str, str]:
    """Return whose images are compared with whose memory in an epoch of stage II (PGM and its followers)."""
    return ("infrared", "visible") if epoch.in_stage % 2 else ("visible", "infrared")


def cluster_plainly(config: ContrastConfig, bank: FeatureBank, eps: float | None = None) -> Clustering:
    """Cluster a bank by k-reciprocal Jaccard distances and DBSCAN."""
    return jaccard_clusters(
        bank.features,
        k1=config.k1,
        eps=config.eps if eps is None else eps,
        min_samples=config.min_samples,
        expansion=MeanExpansion(config.k2),
        unit=config.renormalise_flip,
    )


def cluster_modalities_plainly(config: ContrastConfig, bank: FeatureBank) -> dict[str, LabelSpace]:
    """Cluster visible and infrared images apart, by k-reciprocal Jaccard distances and DBSCAN."""
    return cluster_each_modality(bank, partial(cluster_plainly, config))


def centroids_of(spaces: Mapping[str, LabelSpace]) -> dict[str, Tensor]:
    """Return the mean of every cluster of each label space."""
    return {name: compute_centroids(space.bank.features, space.labels) for name, space in spaces.items()}


def start_memory(
    config: ContrastConfig, centroids: Tensor, generator: torch.Generator, rule: str | None = None
) -> ClusterMemory:
    """Start a cluster memory as the settings say; `rule` replaces their update rule."""
    return ClusterMemory(
        centroids,
        config.temperature,
        config.memory_momentum,
        rule or config.memory_update,
        generator=generator,
        in_backward=config.memory_gradient == "in_backward",
    )


def dual_streams(
    config: ContrastConfig,
    spaces: Mapping[str, LabelSpace],
    views: tuple[tuple[str, ...], tuple[str, ...]] = AUGMENTED_VIEWS,
) -> tuple[Stream, ...]:
    """Draw from each modality's own clusters; a modality of which no cluster took an image stays out."""
    return tuple(
        side_stream(config, name, name, name, space, views)
        for name, space in spaces.items()
        if bool((space.labels > NOISE).any())
    )


def joint_streams(
    config: ContrastConfig,
    joint: LabelSpace,
    views: tuple[tuple[str, ...], tuple[str, ...]] = AUGMENTED_VIEWS,
) -> tuple[Stream, ...]:
    """Draw from the images of each modality in those joint clusters that both modalities share."""
    shared = joint.shared()
    return tuple(
        side_stream(config, name, f"joint-{name}", JOINT, shared.of(m), views)
        for name, m in MODALITIES.items()
    )


@dataclass(frozen=True)
class Contrast:
    """What an epoch contrasts with cluster memories.

    Attributes
    ----------
    spaces : mapping of str to LabelSpace
    memories : mapping of str to ClusterMemory
        By stream; the joint streams share one, of all joint clusters.
    dual, joint : tuples of Stream
        Draw from the clusters of each modality; from the joint clusters that both modalities share, if any.
    record : mapping of str to float
    skipped : str
        Why there is nothing to contrast.
    """

    spaces: dict[str, LabelSpace]
    memories: dict[str, ClusterMemory]
    dual: tuple[Stream, ...]
    joint: tuple[Stream, ...]
    record: dict[str, float]
    skipped: str = ""

    def joint_steps(self) -> tuple[Step, ...]:
        """Return the step on the joint streams, if there are any."""
        return (Step(JOINT, tuple(stream.name for stream in self.joint)),) if self.joint else ()


def dual_contrast(config: ContrastConfig, bank: FeatureBank, generator: torch.Generator) -> Contrast:
    """Cluster each modality and start its memory from cluster means."""
    c, spaces = config, cluster_modalities_plainly(config, bank)
    record = {"eps": c.eps, "k2": float(c.k2)}
    if why := too_few_clusters(spaces):
        why = f"{why} with eps = {c.eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}"
        return Contrast(spaces, {}, (), (), record, why)
    with timed("memory"):
        memories = {name: start_memory(c, rows, generator) for name, rows in centroids_of(spaces).items()}
    return Contrast(spaces, memories, dual_streams(c, spaces), (), record)


def joint_contrast(
    config: JointContrastConfig, bank: FeatureBank, generator: torch.Generator, dual: Contrast
) -> Contrast:
    """Add joint clusters to the contrast of each modality: all have memory rows, the shared ones are drawn from."""
    joint = cluster_jointly(config, bank)
    with timed("associate"):
        shared = shared_clusters(joint.labels, bank.modality)
    spaces = {**dual.spaces, JOINT: joint}
    record = {**dual.record, "shared_clusters": shared, "joint_k2": float(config.joint_k2)}
    if not shared:
        return replace(dual, spaces=spaces, record=record)
    with timed("memory"):
        rows = compute_centroids(bank.features, joint.labels, bank.modality)
    memory, streams = start_memory(config, rows, generator), joint_streams(config, joint)
    memories = {**dual.memories, **{stream.name: memory for stream in streams}}
    return replace(dual, spaces=spaces, memories=memories, joint=streams, record=record)


def cluster_jointly(config: JointContrastConfig, bank: FeatureBank) -> LabelSpace:
    """Cluster both modalities together, each with one vote among the neighbours (PCA's CNE)."""
    clustering = jaccard_clusters(
        bank.features,
        k1=config.joint_k1,
        eps=config.eps,
        min_samples=config.min_samples,
        expansion=ModalityMean(config.joint_k2, bank.modality),
        unit=config.renormalise_flip,
    )
    return label_space(bank, clustering.labels, len(bank))


def side_stream(
    config: ContrastConfig,
    modality: str,
    name: str,
    space_name: str,
    space: LabelSpace,
    views: tuple[tuple[str, ...], tuple[str, ...]],
) -> Stream:
    """Draw from the images of one modality, P x K as the settings have it for that modality."""
    num_ids = config.labels_per_batch if modality == "visible" else config.infrared_labels
    repeat = config.repeat_singletons
    return stream_of(name, space_name, space, num_ids, config.instances, views, repeat_singletons=repeat)


def contrast(memories: Mapping[str, ClusterMemory], seen: Seen, batch: Batch) -> dict[str, Tensor]:
    """Compare each stream with its memory, the infrared one first.

    Autograd reaches the loss computed last first: memories that move in the backward pass (quirk Q6) do so in the
    order of the public codes.
    """
    return {
        f"cluster_{name}": memories[name].loss(seen.features[name], batch.parts[name].drawn.pseudo_label)
        for name in reversed([*batch.parts])
    }


def move_memories(memories: Mapping[str, ClusterMemory], seen: Seen, batch: Batch) -> None:
    """Move the centroids of the clusters in the batch, by visible images first."""
    for name, part in batch.parts.items():
        memories[name].update(seen.features[name], part.drawn.pseudo_label)
