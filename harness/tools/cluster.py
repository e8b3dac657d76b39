"""Clusters anybody's features by the clustering core (``reidbench cluster``, ``reidbench variants``)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from harness.errors import HarnessError
from harness.registry import nearest
from harness.runs.configuration import parse_sets, validated
from harness.tools.score import Arrays, labels_of, read_arrays
from harness.training.diagnostics import cluster_quality
from methods.clustering import (
    LARGEST_RADIUS,
    CameraAware,
    Capped,
    Expansion,
    Graph,
    ModalityCamera,
    ModalityMean,
    Neighbours,
    Plain,
    agglomerative,
    camera_aware_graph,
    density_clusters,
    hdbscan,
    infomap,
    jaccard_graph,
)
from methods.clustering.labels import NOISE
from methods.errors import MethodError
from protocols.base import Modality

ExpansionName = Literal["none", "plain", "modality-mean", "mie", "capped", "camera-aware"]
ClustererName = Literal["dbscan", "hdbscan", "agglomerative", "infomap"]
GROUPS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "plain": (),
    "modality-mean": ("modality",),
    "mie": ("modality", "camera"),
    "capped": ("modality", "camera"),
    "camera-aware": ("camera",),
}
"""Arrays that an expansion needs beside the features."""
INTEGERS = ("modality", "camera", "identity")
CAMERA_AWARE = frozenset({"k1_intra", "k1_inter", "k2_intra", "k2_inter"})
TABLE = ("ari", "nmi", "pair_f1", "fragmentation")
"""Columns of the table of variants that need identities."""


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
        used = {"expansion", "clusterer", "min_samples"}
        used |= CAMERA_AWARE if self.expansion == "camera-aware" else {"k1"}
        if self.expansion == "capped":
            used |= {"cap", "pool"}
        elif self.expansion != "camera-aware":
            used |= {"k2"}
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


@dataclass(frozen=True)
class Samples:
    """Features and what is known of the samples.

    Attributes
    ----------
    features : float32 tensor (n, d), unit rows
    groups : mapping of str to int64 tensor (n,)
        ``modality`` and ``camera`` where the file has them.
    identity : int64 array (n,), optional
        For diagnostics only.
    """

    features: Tensor
    groups: Mapping[str, Tensor]
    identity: np.ndarray | None

    def __len__(self) -> int:
        return len(self.features)

    def missing(self, expansion: str) -> list[str]:
        """Name the arrays that an expansion needs and that are not there."""
        return [name for name in GROUPS[expansion] if name not in self.groups]

    def quality(self, labels: Tensor) -> dict[str, float]:
        """Compare labels with the identities; empty without them."""
        if self.identity is None:
            return {}
        known = {name: group.cpu().numpy() for name, group in self.groups.items()}
        return cluster_quality(labels.cpu().numpy(), self.identity, **known)


def read_samples(path: Path, device: torch.device) -> Samples:
    """Read ``features`` and, where present, ``modality``, ``camera`` and ``identity`` of an ``.npz`` file.

    Raises
    ------
    HarnessError
        Whatever is wrong with the file, by array name.
    """
    arrays = read_arrays(path, ("features", *INTEGERS))
    features = _features_of(path, arrays)
    integers: dict[str, np.ndarray] = {key: labels_of(path, arrays, key) for key in INTEGERS if key in arrays}
    for key, values in integers.items():
        if len(values) != len(features):
            raise HarnessError(f"{path}: {key} has {len(values)} entries, features {len(features)} rows")
    if "modality" in integers and (odd := sorted({*integers["modality"].tolist()} - {*Modality})):
        raise HarnessError(f"{path}: modality holds {odd[0]}; expected 0 (visible) and 1 (infrared)")
    identity = integers.pop("identity", None)
    groups = {name: torch.from_numpy(values).to(device) for name, values in integers.items()}
    return Samples(torch.from_numpy(features).to(device), groups, identity)


def _features_of(path: Path, arrays: Arrays) -> np.ndarray:
    if "features" not in arrays:
        raise HarnessError(
            f"{path}: the array 'features' is missing; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    features = arrays["features"]
    if features.dtype.kind != "f" or features.ndim != 2 or 0 in features.shape:
        raise HarnessError(
            f"{path}: features has shape {features.shape} and type {features.dtype}; expected a matrix of "
            "floating-point numbers, one row a sample"
        )
    return np.ascontiguousarray(features, dtype=np.float32)


def distances(samples: Samples, config: ClusterConfig, radius: float) -> tuple[Graph, Neighbours]:
    """Compute the distances at or below `radius` that a configuration asks for."""
    if config.expansion == "camera-aware":
        settings = CameraAware(
            samples.groups["camera"],
            **{name: getattr(config, name) for name in CAMERA_AWARE},
        )
        return camera_aware_graph(samples.features, settings, radius=radius)
    return jaccard_graph(
        samples.features, k1=config.k1, radius=radius, expansion=expansion_of(samples, config)
    )


def expansion_of(samples: Samples, config: ClusterConfig) -> Expansion:
    """Return the local query expansion of a configuration."""
    groups = {name: samples.groups[name] for name in GROUPS[config.expansion]}
    if config.expansion == "modality-mean":
        return ModalityMean(config.k2, **groups)
    if config.expansion == "mie":
        return ModalityCamera(config.k2, **groups)
    if config.expansion == "capped":
        return Capped(pool=config.pool or config.k1, cap=config.cap, **groups)
    return Plain(config.k2)


CLUSTERERS: Mapping[str, Callable[[Graph, ClusterConfig], Tensor]] = {
    "dbscan": lambda graph, c: density_clusters(graph, c.eps, c.min_samples),
    "hdbscan": lambda graph, c: hdbscan(graph, c.min_samples),
    "agglomerative": lambda graph, c: agglomerative(graph, min(c.eps, LARGEST_RADIUS), c.min_samples),
    "infomap": lambda graph, c: infomap(graph, min(c.eps, LARGEST_RADIUS), c.min_samples),
}


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
        frame = pd.DataFrame({"index": np.arange(len(self.labels)), "label": self.labels})
        return frame.to_csv(index=False).encode()

    def lines(self) -> list[str]:
        """Describe the clusters in words and numbers."""
        sizes = np.bincount(self.labels[self.labels != NOISE])
        noise = int((self.labels == NOISE).sum())
        found = [
            f"samples  {len(self.labels)}",
            f"clusters {len(sizes)}",
            f"noise    {noise} ({noise / len(self.labels):.1%})",
        ]
        if len(sizes):
            found.append(f"sizes    {sizes.min()} min, {np.median(sizes):g} median, {sizes.max()} max")
        return found + (self._quality_lines() if self.quality else [])

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
        labels = CLUSTERERS[config.clusterer](graph, config)
    except MethodError as error:
        raise HarnessError(f"{path}: {error}") from error
    return Outcome(labels.cpu().numpy(), samples.quality(labels))


def variants(
    samples: Samples,
    base: ClusterConfig,
    eps: Sequence[float],
    expansions: Sequence[str],
    say: Callable[[str], None],
) -> pd.DataFrame:
    """Try every expansion with every clusterer and eps; an expansion's distances are computed once.

    Parameters
    ----------
    base : ClusterConfig
        Everything but expansion, clusterer and eps.
    expansions : sequence of str
        Those whose arrays are missing are left out.
    say : callable
        Gets a line for whatever is left out.

    Returns
    -------
    DataFrame
        expansion, clusterer, eps (NaN for HDBSCAN, which has none), ari, nmi, pair_f1, split (with
        identities), clusters, noise, graph_s (shared by an expansion's rows), cluster_s.
    """
    rows: list[dict[str, Any]] = []
    for expansion in expansions:
        if absent := samples.missing(expansion):
            say(f"{expansion} is left out: the file has no {' and no '.join(absent)}")
            continue
        start = time.perf_counter()
        graph, _ = distances(samples, base.model_copy(update={"expansion": expansion}), LARGEST_RADIUS)
        graph_s = time.perf_counter() - start
        for clusterer, radius in grid(eps):
            config = base.model_copy(update={"clusterer": clusterer, "eps": radius or base.eps})
            try:
                row = attempt(samples, graph, config)
            except MethodError as error:
                say(f"{expansion}, {clusterer}, eps {radius} is left out: {error}")
                continue
            rows.append({"expansion": expansion, "clusterer": clusterer, "eps": radius, **row})
            rows[-1]["graph_s"] = graph_s
    columns = ["expansion", "clusterer", "eps", *TABLE, "clusters", "noise", "graph_s", "cluster_s"]
    return pd.DataFrame(rows, columns=columns).astype({"eps": float}).dropna(axis=1, how="all")


def grid(eps: Sequence[float]) -> list[tuple[str, float | None]]:
    """Return clusterers and radii; HDBSCAN once, for it takes none."""
    radial = [name for name in CLUSTERERS if name != "hdbscan"]
    return [*itertools.product(radial, eps), ("hdbscan", None)]


def attempt(samples: Samples, graph: Graph, config: ClusterConfig) -> dict[str, float]:
    """Return a row of the table of variants."""
    start = time.perf_counter()
    labels = CLUSTERERS[config.clusterer](graph, config)
    noise = int((labels == NOISE).sum())
    seconds = time.perf_counter() - start
    quality = samples.quality(labels)
    known = {name: quality[name] for name in TABLE if name in quality}
    return known | {"clusters": int(labels.max()) + 1, "noise": noise, "cluster_s": seconds}


def variants_of_file(
    path: Path, sets: Iterable[str], eps: str, device: torch.device, say: Callable[[str], None]
) -> pd.DataFrame:
    """Run :func:`variants` over every expansion on the features of a file.

    Parameters
    ----------
    eps : str
        Comma-separated radii.

    Raises
    ------
    HarnessError
        As :func:`cluster_file`; or for a key that the grid itself varies.
    """
    sets = list(sets)
    if fixed := {"expansion", "clusterer", "eps"} & parse_sets(sets).keys():
        raise HarnessError(
            f"--set {min(fixed)}: `reidbench variants` varies it; see --eps, or `reidbench cluster`"
        )
    radii = [configuration([f"eps={text.strip()}"]).eps for text in eps.split(",")]
    samples = read_samples(path, device)
    expansions = [name for name in GROUPS if name != "none"]
    try:
        return variants(samples, configuration(sets), radii, expansions, say)
    except MethodError as error:
        raise HarnessError(f"{path}: {error}") from error
