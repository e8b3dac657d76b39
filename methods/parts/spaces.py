"""Label spaces: images that are clustered together, their clusters, and the streams that are drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import MODALITIES, NOISE, EpochPlan, FeatureBank, Step, Stream
from methods.clustering import Clustering
from methods.clustering.labels import in_both_modalities, n_clusters, scatter_labels
from methods.clustering.values import Neighbours

JOINT = "joint"
"""The label space of both modalities together."""
AUGMENTED_VIEWS = (("plain", "channel-exchange"), ("channel-adapt-gray",))
"""Visible images with their channel-exchanged copy, infrared ones with adapted channels (ADCA)."""


@dataclass(frozen=True)
class LabelSpace:
    """Images that are clustered together, and their clusters.

    Attributes
    ----------
    bank : FeatureBank
    labels : int64 tensor (m,)
        Of the bank's rows, numbered from 0; noise is -1.
    everywhere : int64 tensor (n,)
        The same over all training images; OUTSIDE where an image is not in the bank.
    distances_seen : str
        How far neighbours are, for the message about an epoch that trains nothing.
    neighbours : Neighbours, optional
        The lists that the clustering made of the bank's rows.
    """

    bank: FeatureBank
    labels: Tensor
    everywhere: Tensor
    distances_seen: str = ""
    neighbours: Neighbours | None = None

    def __len__(self) -> int:
        """Return the number of clusters."""
        return n_clusters(self.labels)

    def of(self, modality: int) -> LabelSpace:
        """Return the images of one modality, with the same numbering of clusters."""
        mask = (self.bank.modality == modality).to(self.labels.device)
        return LabelSpace(self.bank.of(modality), self.labels[mask], self.everywhere)

    def shared(self) -> LabelSpace:
        """Turn the images of clusters that lie in one modality alone into noise."""
        both = in_both_modalities(self.labels, self.bank.modality)
        return LabelSpace(self.bank, self.labels.masked_fill(~both, NOISE), self.everywhere)


def label_space(
    bank: FeatureBank, labels: Tensor, n: int, distances_seen: str = "", neighbours: Neighbours | None = None
) -> LabelSpace:
    """Put labels (m,) of a bank of some of the `n` training images into a label space."""
    everywhere = scatter_labels(labels, bank.sample_index, n)
    return LabelSpace(bank, labels, everywhere, distances_seen, neighbours)


def by_modality(bank: FeatureBank) -> dict[str, FeatureBank]:
    """Part a bank into its modalities, visible first."""
    return {name: bank.of(modality) for name, modality in MODALITIES.items()}


def cluster_each(
    banks: Mapping[str, FeatureBank], cluster: Callable[[FeatureBank], Clustering], n: int
) -> dict[str, LabelSpace]:
    """Cluster banks of some of the `n` training images, each alone."""
    spaces = {}
    for name, bank in banks.items():
        clustering = cluster(bank)
        seen, lists = clustering.distances_seen, clustering.neighbours
        spaces[name] = label_space(bank, clustering.labels, n, seen, lists)
    return spaces


def cluster_each_modality(
    bank: FeatureBank, cluster: Callable[[FeatureBank], Clustering]
) -> dict[str, LabelSpace]:
    """Cluster each modality of a bank alone; return the label spaces ``visible`` and ``infrared``."""
    return cluster_each(by_modality(bank), cluster, len(bank))


def everywhere(spaces: Mapping[str, LabelSpace]) -> dict[str, Tensor]:
    """Return the labels of every space over all training images, as a plan records them."""
    return {name: space.everywhere for name, space in spaces.items()}


def too_few_clusters(spaces: Mapping[str, LabelSpace]) -> str:
    """Say which label spaces have fewer than two clusters; empty if none has."""
    short = [f"{name}: {len(space)}" for name, space in spaces.items() if len(space) < 2]
    return f"fewer than two clusters ({', '.join(short)})" if short else ""


def distances_seen(spaces: Mapping[str, LabelSpace]) -> str:
    """Say how far neighbours are in each label space."""
    return "; ".join(f"{name}: {space.distances_seen}" for name, space in spaces.items())


def skipped(spaces: Mapping[str, LabelSpace], reason: str, record: Mapping[str, float]) -> EpochPlan:
    """Return the plan of an epoch that trains nothing."""
    return EpochPlan(everywhere(spaces), (), (), 0, record, skipped=reason)


def plan(
    spaces: Mapping[str, LabelSpace],
    streams: tuple[Stream, ...],
    steps: tuple[Step, ...],
    iterations: int,
    record: Mapping[str, float],
) -> EpochPlan:
    """Return the plan of an epoch that trains on the streams of label spaces."""
    return EpochPlan(everywhere(spaces), streams, steps, iterations, record)


def stream_of(
    name: str,
    space_name: str,
    space: LabelSpace,
    num_ids: int,
    num_instances: int,
    views: tuple[tuple[str, ...], tuple[str, ...]] = AUGMENTED_VIEWS,
    *,
    repeat_singletons: bool = False,
) -> Stream:
    """Draw P x K images from the clusters of a label space; `views` are those of visible and infrared images."""
    device = space.bank.sample_index.device
    kept = space.labels.to(device) > NOISE
    return Stream(
        name,
        space_name,
        space.bank.sample_index[kept].cpu(),
        space.labels.to(device)[kept].cpu(),
        num_ids,
        num_instances,
        *views,
        repeat_singletons=repeat_singletons,
    )


def bank_row_of(bank: FeatureBank, n: int) -> Tensor:
    """Map the `n` training images to rows of a bank; -1 outside it."""
    rows = torch.full((n,), -1, dtype=torch.int64, device=bank.sample_index.device)
    rows[bank.sample_index] = torch.arange(len(bank), device=bank.sample_index.device)
    return rows
