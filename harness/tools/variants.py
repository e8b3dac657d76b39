"""Compares expansions, clusterers and radii on the same features (``reidbench variants``)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch

from harness.errors import HarnessError
from harness.runs.configuration import parse_sets
from harness.tools.cluster import ClusterConfig, ClustererName, configuration, distances, labels_from
from harness.tools.samples import Samples, read_samples
from methods.clustering import EXPANSIONS, LARGEST_RADIUS, SparseDistances
from methods.clustering.labels import NOISE
from methods.errors import MethodError

TABLE = ("ari", "nmi", "pair_f1", "fragmentation")
"""Columns of the table that need identities."""


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
        expansion, clusterer, eps (NaN for HDBSCAN, which has none), ari, nmi, pair_f1, fragmentation (with
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
    radial = [name for name in get_args(ClustererName) if name != "hdbscan"]
    return [*itertools.product(radial, eps), ("hdbscan", None)]


def attempt(samples: Samples, graph: SparseDistances, config: ClusterConfig) -> dict[str, float]:
    """Return a row of the table of variants."""
    start = time.perf_counter()
    labels = labels_from(graph, config)
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
    expansions = [name for name in EXPANSIONS if name != "none"]
    try:
        return variants(samples, configuration(sets), radii, expansions, say)
    except MethodError as error:
        raise HarnessError(f"{path}: {error}") from error
