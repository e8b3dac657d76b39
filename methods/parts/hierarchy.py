"""Cluster- and instance-level memories within modalities and over both together, as DMIC and MPJL use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from methods.base import MODALITIES, Batch, Stage, Stream
from methods.parts.memories import ClusterMemory, InstanceMemory
from methods.parts.spaces import AUGMENTED_VIEWS, JOINT, LabelSpace, bank_row_of, stream_of
from methods.parts.two_stream import Seen


def hierarchical_streams(
    spaces: Mapping[str, LabelSpace],
    num_ids: int,
    num_instances: int,
    views: tuple[tuple[str, ...], tuple[str, ...]] = AUGMENTED_VIEWS,
) -> tuple[Stream, ...]:
    """Draw each modality by its own labels and, where both are clustered together, by joint labels as well.

    `views` are the recipes of visible and of infrared images.
    """
    streams = []
    for name, modality in MODALITIES.items():
        streams.append(stream_of(name, name, spaces[name], num_ids, num_instances, views))
        if JOINT in spaces:
            part = spaces[JOINT].of(modality)
            if bool((part.labels >= 0).any()):
                streams.append(stream_of(f"joint-{name}", JOINT, part, num_ids, num_instances, views))
    return tuple(streams)


def start_instances(
    before: Mapping[str, InstanceMemory],
    spaces: Mapping[str, LabelSpace],
    n: int,
    temperature: float,
    momentum: float,
    reduce: str,
) -> dict[str, InstanceMemory]:
    """Take over the rows of the epoch before, or start them from features, and give them this epoch's classes."""
    memories = {}
    for name, space in spaces.items():
        rows = before[name].rows if name in before else space.bank.features.clone()
        memories[name] = InstanceMemory(
            rows, space.labels, temperature, momentum, reduce, bank_row_of(space.bank, n)
        )
    return memories


def hierarchical_loss(
    clusters: Mapping[str, ClusterMemory],
    instances: Mapping[str, InstanceMemory],
    seen: Seen,
    batch: Batch,
    joint_weight: float,
) -> dict[str, Tensor]:
    """Compare each stream with instances, each modality with its clusters, and all joint streams with joint clusters.

    Terms over both modalities are weighted by `joint_weight`; without instance memories their terms are left out.
    """
    terms = {}
    for name, part in batch.parts.items():
        features, space = seen.features[name], part.label_space
        if instances:
            term = instances[space].loss(features, part.sample_index)
            terms[f"instance_{name}"] = (joint_weight if space == JOINT else 1.0) * term
        if space != JOINT:
            terms[f"cluster_{name}"] = clusters[space].loss(features, part.pseudo_label)
    if JOINT in batch.label_spaces:
        term = clusters[JOINT].loss(seen.of(JOINT), batch.of(JOINT).pseudo_label)
        terms["cluster_joint"] = joint_weight * term
    return terms


def move_hierarchy(
    clusters: Mapping[str, ClusterMemory],
    instances: Mapping[str, InstanceMemory],
    seen: Seen,
    batch: Batch,
    shuffle: torch.Generator | None,
) -> None:
    """Move the memories of every label space of the batch.

    With `shuffle` instance rows move in a drawn order; else an image's row would always end as its augmented view,
    which comes last.
    """
    for space in batch.label_spaces:
        features, part = seen.of(space), batch.of(space)
        clusters[space].update(features, part.pseudo_label)
        if instances:
            order = (
                torch.arange(len(features))
                if shuffle is None
                else torch.randperm(len(features), generator=shuffle)
            ).to(features.device)
            instances[space].update(features[order], part.sample_index[order])


def instance_state(instances: Mapping[str, InstanceMemory]) -> dict[str, Tensor]:
    """Return the rows of instance memories, as a checkpoint holds them."""
    return {f"instance.{name}": memory.rows for name, memory in instances.items()}


def restore_instances(
    state: Mapping[str, Tensor], temperature: float, momentum: float, reduce: str
) -> dict[str, InstanceMemory]:
    """Return instance memories with the rows of a checkpoint; their classes come with the next clustering."""
    memories = {}
    for key, rows in state.items():
        nobody = torch.full((len(rows),), -1, device=rows.device)
        memories[key.removeprefix("instance.")] = InstanceMemory(rows, nobody, temperature, momentum, reduce)
    return memories


def schedule_frame(
    stages: Sequence[Stage], settings: Callable[[Stage, int], Mapping[str, Any]]
) -> pd.DataFrame:
    """Return the settings of every epoch, after the columns stage and epoch."""
    rows = [
        {"stage": stage.name, "epoch": epoch, **settings(stage, epoch)}
        for stage in stages
        for epoch in range(stage.epochs)
    ]
    return pd.DataFrame(rows)
