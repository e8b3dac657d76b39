"""One stage of contrast against cluster memories: the training of cluster contrast, which CA-Jaccard takes over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from methods.base import Batch, FeatureBank, Stream, value
from methods.parts.config import TrainingConfig, UpdateRule
from methods.parts.memories import ClusterMemory, compute_centroids
from methods.parts.spaces import AUGMENTED_VIEWS, JOINT, LabelSpace, by_modality, stream_of
from methods.parts.two_stream import Seen

PLAIN_VIEWS = (("plain",), ("plain",))


class OneStageConfig(TrainingConfig):
    """Settings whatever the distance; defaults are SYSU-MM01's."""

    spaces: Literal["joint", "dual"] = value(
        "joint", "adapted", "cluster both modalities as one set, or each alone"
    )
    augmented_view: bool = value(
        False,
        "adapted",
        "add the channel-augmented copy of visible images, and adapt infrared channels (ADCA's first stage)",
    )
    epochs: int = value(50, "published code", "epochs", ge=1)
    eps: float = value(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, le=1)
    memory_momentum: float = value(
        0.1, "published code", "share of the old centroid in an update", ge=0, le=1
    )
    memory_update: UpdateRule = value(
        "sequential", "published code", "which batch samples move a cluster's centroid"
    )
    labels_per_batch: int = value(16, "published code", "pseudo-identities in a batch of a stream", ge=1)


def banks_of(config: OneStageConfig, bank: FeatureBank) -> dict[str, FeatureBank]:
    """Return what is clustered: both modalities as one set, or each alone."""
    return {JOINT: bank} if config.spaces == "joint" else by_modality(bank)


def start_memories(
    config: OneStageConfig, spaces: Mapping[str, LabelSpace], generator: torch.Generator
) -> dict[str, ClusterMemory]:
    """Start a memory for each label space from the means of its clusters."""
    c = config
    return {
        name: ClusterMemory(
            compute_centroids(space.bank.features, space.labels),
            c.temperature,
            c.memory_momentum,
            c.memory_update,
            generator=generator,
        )
        for name, space in spaces.items()
    }


def streams_of(config: OneStageConfig, spaces: Mapping[str, LabelSpace]) -> tuple[Stream, ...]:
    """Draw from the clusters of each label space.

    As in ADCA, two views of half as many visible images make a batch as large as the infrared one.
    """
    c, views = config, AUGMENTED_VIEWS if config.augmented_view else PLAIN_VIEWS
    visible_ids = max(1, c.labels_per_batch // len(views[0]))
    return tuple(
        stream_of(
            name, name, space, visible_ids if name == "visible" else c.labels_per_batch, c.instances, views
        )
        for name, space in spaces.items()
    )


def contrast_loss(memories: Mapping[str, ClusterMemory], seen: Seen, batch: Batch) -> dict[str, Tensor]:
    """Compare the images of each stream with its memory."""
    return {
        f"cluster_{name}": memories[name].loss(seen.features[name], part.drawn.pseudo_label)
        for name, part in batch.parts.items()
    }
