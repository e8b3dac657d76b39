"""Clusters anybody's features by the clustering core (``reidbench cluster``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from harness.errors import HarnessError
from harness.registry import nearest
from harness.runs.configuration import parse_sets, validated
from harness.tools.samples import Samples, read_samples
from methods.clustering import (
    EXPANSIONS,
    LARGEST_RADIUS,
    CameraAware,
    Neighbours,
    SparseDistances,
    camera_aware_graph,
    density_clusters,
    jaccard_graph,
)
from methods.clustering.labels import NOISE
from methods.clustering.registry import make_expansion, settings_of
from methods.errors import MethodError

ExpansionName = Literal["none", "plain", "modality-mean", "mie", "capped", "camera-aware"]
ClustererName = Literal["dbscan", "hdbscan", "agglomerative", "infomap"]


class ClusterConfig(BaseModel):
    """How to cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    expansion: ExpansionName = Field(
        "plain",
        description="whose encodings a sample's own becomes: the plain mean of k2 neighbours (plain or none), "
        "modality-mean (PCA), mie (DMIC), capped (MPJL, ECUL), or the distance camera-aware (CA-Jaccard)",
    )
    clusterer: ClustererName = Field("dbscan", description="what groups the samples by their distances")
    k1: int = Field(30, ge=1, description="length of the neighbour lists, the sample itself included")
    k2: int = Field(6, ge=1, description="first neighbours that the expansion averages over; 1 skips it")
    eps: float = Field(0.6, gt=0, le=1, description="radius of neighbourhoods, links or merges")
    min_samples: int = Field(4, ge=1, description="core points of DBSCAN; smallest cluster of the others")
    cap: int = Field(16, ge=1, description="capped: neighbours of each modality and camera")
    pool: int | None = Field(None, ge=1, description="capped: first neighbours looked at; k1 by default")
    k1_intra: int = Field(5, ge=1, description="camera-aware: neighbours of the same camera")
    k1_inter: int = Field(20, ge=1, description="camera-aware: neighbours of other cameras")
    k2_intra: int = Field(2, ge=0, description="camera-aware: averaged over, of the same camera")
    k2_inter: int = Field(4, ge=0, description="camera-aware: averaged over, of other cameras")

    @property
    def unused(self) -> list[str]:
        """Return the keys that were given and change nothing here."""
        used = {"expansion", "clusterer", "min_samples"} | settings_of(self.expansion)
        if EXPANSIONS[self.expansion] is not CameraAware:  # which has list lengths of its own
            used |= {"k1"}
        if self.clusterer != "hdbscan":
            used |= {"eps"}
        return sorted(self.model_fields_set - used)

    @property
    def radius(self) -> float:
        """Return the largest distance that the clusterer asks for."""
        whole = self.clusterer in ("hdbscan", "agglomerative")
        return LARGEST_RADIUS if whole else min(self.eps, LARGEST_RADIUS)


def configuration(sets: Iterable[str]) -> ClusterConfig:
    """Validate ``key=value`` texts.

    Raises
    ------
    HarnessError
        Unknown key or choice (says the nearest), value of a wrong type or range (says the key).
    """
    values = parse_sets(sets)
    fields = ClusterConfig.model_fields
    for key, value in values.items():
        if key not in fields:
            raise HarnessError(f"--set {key}: unknown key; {nearest(key, fields)}")
        choices = get_args(fields[key].annotation)
        if choices and isinstance(choices[0], str) and value not in choices:
            raise HarnessError(f"--set {key}={value}: {nearest(value, choices)}")
    return validated(ClusterConfig, values, "reidbench cluster --help")


def distances(samples: Samples, config: ClusterConfig, radius: float) -> tuple[SparseDistances, Neighbours]:
    """Compute the distances at or below `radius` that a configuration asks for."""
    settings = config.model_dump() | {"pool": config.pool or config.k1}
    expansion = make_expansion(config.expansion, settings | dict(samples.groups))
    if isinstance(expansion, CameraAware):
        return camera_aware_graph(samples.features, expansion, radius=radius)
    return jaccard_graph(samples.features, k1=config.k1, radius=radius, expansion=expansion)


def labels_from(graph: SparseDistances, config: ClusterConfig) -> Tensor:
    """Group the samples of a graph by the clusterer of a configuration: int64 tensor (n,), -1 is noise."""
    if config.clusterer == "dbscan":
        return density_clusters(graph, config.eps, config.min_samples)
    from methods.clustering import other_clusterers as others  # SciPy and scikit-learn

    if config.clusterer == "hdbscan":
        return others.hdbscan(graph, config.min_samples)
    cluster = others.agglomerative if config.clusterer == "agglomerative" else others.infomap
    return cluster(graph, min(config.eps, LARGEST_RADIUS), config.min_samples)


@dataclass(frozen=True)
class Outcome:
    """Labels of one configuration, and how good they are.

    Attributes
    ----------
    labels : int64 array (n,)
        -1 is noise.
    quality : dict
        Of :func:`harness.training.diagnostics.cluster_quality`; empty without identities.
    """

    labels: np.ndarray
    quality: dict[str, float]

    def csv(self) -> bytes:
        """Return ``index,label`` lines."""
        lines = [f"{index},{label}\n" for index, label in enumerate(self.labels.tolist())]
        return "".join(["index,label\n", *lines]).encode()

    def lines(self) -> list[str]:
        """Describe the clusters in words and numbers."""
        sizes = np.bincount(self.labels[self.labels != NOISE])
        noise = int((self.labels == NOISE).sum())
        lines = [
            f"samples  {len(self.labels)}",
            f"clusters {len(sizes)}",
            f"noise    {noise} ({noise / len(self.labels):.1%})",
        ]
        if len(sizes):
            lines.append(f"sizes    {sizes.min()} min, {np.median(sizes):g} median, {sizes.max()} max")
        return lines + (self._quality_lines() if self.quality else [])

    def _quality_lines(self) -> list[str]:
        q = self.quality
        within = [
            f"{q[key]:.2f} within a {name}"
            for name in ("camera", "modality")
            if (key := f"fragmentation_{name}") in q
        ]
        return [
            f"ARI      {q['ari']:.4f}",
            f"NMI      {q['nmi']:.4f}",
            f"pairs    precision {q['pair_precision']:.4f}, recall {q['pair_recall']:.4f}, F1 {q['pair_f1']:.4f}",
            "fragmentation " + ", ".join([f"{q['fragmentation']:.2f} clusters an identity", *within]),
        ]


def cluster_file(path: Path, config: ClusterConfig, device: torch.device) -> Outcome:
    """Cluster the features of a file.

    Raises
    ------
    HarnessError
        Naming the file, for arrays that are missing or that the core refuses.
    """
    samples = read_samples(path, device)
    if absent := samples.missing(config.expansion):
        raise HarnessError(
            f"{path}: expansion={config.expansion} needs the array {' and '.join(map(repr, absent))}"
        )
    try:
        graph, _ = distances(samples, config, config.radius)
        labels = labels_from(graph, config)
    except MethodError as error:
        raise HarnessError(f"{path}: {error}") from error
    return Outcome(labels.cpu().numpy(), samples.quality(labels))
