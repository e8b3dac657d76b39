"""Cluster and instance contrast within modalities and over both together: functions that DMIC and MPJL share.

What only MPJL does is here too, as far as it is about memories; what a paper decides stands in the paper's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from methods.base import MODALITIES, VISIBLE, Batch, FeatureBank, Stage, Stream
from methods.parts.host import to_device
from methods.parts.memories import ClusterMemory, InstanceMemory
from methods.parts.spaces import AUGMENTED_VIEWS, JOINT, LabelSpace, stream_of
from methods.parts.two_stream import Seen


def hierarchical_streams(
    spaces: Mapping[str, LabelSpace],
    num_ids: int,
    num_instances: int,
    views: tuple[tuple[str, ...], tuple[str, ...]] = AUGMENTED_VIEWS,
    *,
    repeat_singletons: bool = False,
) -> tuple[Stream, ...]:
    """Draw each modality by its own labels and, where both are clustered together, by joint labels as well.

    `views` are the recipes of visible and of infrared images; `repeat_singletons` is that of a stream.
    """
    kinds = [(name, name, spaces[name]) for name in MODALITIES]
    if JOINT in spaces:
        kinds += [(f"joint-{name}", JOINT, spaces[JOINT].of(m)) for name, m in MODALITIES.items()]
    return tuple(
        stream_of(
            name, label_space, space, num_ids, num_instances, views, repeat_singletons=repeat_singletons
        )
        for name, label_space, space in kinds
        if bool((space.labels >= 0).any())
    )


def joint_streams_of(batch: Batch) -> list[str]:
    """Return the streams of a batch that are labelled over both modalities."""
    return [name for name, part in batch.parts.items() if part.label_space == JOINT]


def forward_apart(forward: Callable[[Batch], Seen], batch: Batch) -> Seen:
    """Run the streams within modalities and the joint ones through the network, each in a pass of its own.

    Batch norms take the statistics of each pass alone.
    """
    joint = joint_streams_of(batch)
    intra = [name for name in batch.parts if name not in joint]
    if not joint or not intra:
        return forward(batch)
    return forward(batch.only(intra)).joined(forward(batch.only(joint)))


@dataclass(frozen=True)
class Queries:
    """What a stream of a batch asks the memories, and what it writes into them afterwards, in this order.

    Attributes
    ----------
    label_space : str
    features : float32 tensor (b, d), unit rows
    pseudo_label, sample_index : int64 tensors (b,) on the CPU
    """

    label_space: str
    features: Tensor
    pseudo_label: Tensor
    sample_index: Tensor


def visible_orders(batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw an order of the images of every visible stream, augmented copies among them; infrared ones keep theirs."""
    return {
        name: torch.randperm(len(part), generator=generator)
        for name, part in batch.parts.items()
        if int(part.drawn.modality[0]) == VISIBLE
    }


def queries_of(seen: Seen, batch: Batch, orders: Mapping[str, Tensor]) -> dict[str, Queries]:
    """Return the queries of every stream; `orders` are those of some of them."""
    queries = {}
    for name, part in batch.parts.items():
        features, label, index = seen.features[name], part.drawn.pseudo_label, part.drawn.sample_index
        if name in orders:
            order = orders[name]
            features, label, index = features[to_device(order, features.device)], label[order], index[order]
        queries[name] = Queries(part.label_space, features, label, index)
    return queries


def together(queries: Mapping[str, Queries], space: str) -> tuple[Tensor, Tensor]:
    """Return the features and labels of all queries to a label space, visible ones first."""
    chosen = [one for one in queries.values() if one.label_space == space]
    return torch.cat([one.features for one in chosen]), torch.cat([one.pseudo_label for one in chosen])


def hierarchical_loss(
    clusters: Mapping[str, ClusterMemory],
    instances: Mapping[str, InstanceMemory],
    queries: Mapping[str, Queries],
    joint_weight: float,
) -> dict[str, Tensor]:
    """Compare each stream with instances, each modality with its clusters, and all joint streams with joint clusters.

    Terms over both modalities are weighted by `joint_weight`; without instance memories their terms are left out.
    """
    terms = {}
    # infrared first: memories that move in the backward pass do so in the order of the public code
    for name, asked in reversed([*queries.items()]):
        weight, space = joint_weight if asked.label_space == JOINT else 1.0, asked.label_space
        if f"cluster_{space}" not in terms:
            terms[f"cluster_{space}"] = weight * clusters[space].loss(*together(queries, space))
        if instances:
            terms[f"instance_{name}"] = weight * instances[space].loss(asked.features, asked.sample_index)
    return terms


def move_hierarchy(
    clusters: Mapping[str, ClusterMemory],
    instances: Mapping[str, InstanceMemory],
    queries: Mapping[str, Queries],
) -> None:
    """Move the memories by the queries to them, visible ones first."""
    for space in dict.fromkeys(one.label_space for one in queries.values()):
        clusters[space].update(*together(queries, space))
    for asked in queries.values() if instances else ():
        instances[asked.label_space].update(asked.features, asked.sample_index)


def bank_position_of(bank: FeatureBank, labels: Tensor, n: int) -> Tensor:
    """Map the `n` training images to rows of a bank as if the noise of each modality were not in it (quirk Q40)."""
    rows = torch.full((n,), -1, dtype=torch.int64, device=bank.sample_index.device)
    for modality in bank.modality.unique():
        of_modality = bank.modality == modality
        kept = bank.sample_index[of_modality & (labels.to(of_modality.device) >= 0)]
        first = int(of_modality.nonzero()[0])
        rows[kept] = first + torch.arange(len(kept), device=rows.device)
    return rows


def schedule_rows(
    stages: Sequence[Stage], settings: Callable[[Stage, int], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the settings of every epoch, after its stage and number."""
    return [
        {"stage": stage.name, "epoch": epoch, **settings(stage, epoch)}
        for stage in stages
        for epoch in range(stage.epochs)
    ]
