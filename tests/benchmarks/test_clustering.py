"""The clustering core stage by stage, beside faiss and the public algorithm, at several sizes in one run.

``make bench`` takes the real sizes and saves a JSON file; ``make bench BENCH=--benchmark-compare`` compares with
the file before. A group holds what does the same work, so its ratios can be read off one table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.tools import reference_core
from harness.tools.time import synthetic_features
from methods.clustering import (
    Encoding,
    MeanExpansion,
    Neighbours,
    NeighbourSets,
    SparseDistances,
    dbscan,
    encode,
    expand,
    expanded_sets,
    jaccard_clusters,
    jaccard_distances,
    kernels_for,
    nearest_neighbours,
)

K1, K2, EPS, MIN_SAMPLES = 30, 6, 0.6, 4
LARGEST_REFERENCE = 16_000
"""Samples up to which the public algorithm fits in memory and patience."""
STAGES = ("neighbours", "reciprocal", "encode", "expand", "jaccard", "cluster", "whole")


def drained() -> float:
    """Read the clock once the work handed to a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


pytestmark = pytest.mark.benchmark(timer=drained)


@dataclass(frozen=True)
class Stages:
    """What every stage starts from, on one device."""

    features: Tensor
    neighbours: Neighbours
    sets: NeighbourSets
    encoding: Encoding
    expanded: Encoding
    graph: SparseDistances

    @classmethod
    def of(cls, features: Tensor) -> Stages:
        kernels = kernels_for(features)
        neighbours = nearest_neighbours(features, K1)
        sets = expanded_sets(neighbours.index, kernels)
        encoding = encode(features, neighbours, sets, kernels)
        expanded = expand(encoding, neighbours.index, MeanExpansion(K2), kernels)
        return cls(features, neighbours, sets, encoding, expanded, jaccard_distances(expanded, EPS, kernels))

    def call(self, stage: str) -> Callable[[], Any]:
        kernels = kernels_for(self.features)
        return {
            "neighbours": lambda: nearest_neighbours(self.features, K1),
            "reciprocal": lambda: expanded_sets(self.neighbours.index, kernels),
            "encode": lambda: encode(self.features, self.neighbours, self.sets, kernels),
            "expand": lambda: expand(self.encoding, self.neighbours.index, MeanExpansion(K2), kernels),
            "jaccard": lambda: jaccard_distances(self.expanded, EPS, kernels),
            "cluster": lambda: dbscan(self.graph, EPS, MIN_SAMPLES),
            "whole": self.labels,
        }[stage]

    def labels(self) -> Tensor:
        found = jaccard_clusters(
            self.features, k1=K1, eps=EPS, min_samples=MIN_SAMPLES, expansion=MeanExpansion(K2)
        )
        return found.labels


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def stages(request: pytest.FixtureRequest, size: int, dim: int) -> Stages:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return Stages.of(synthetic_features(size, dim, 0).to(request.param))


@pytest.fixture(scope="module")
def rows(size: int, dim: int) -> Tensor:
    return synthetic_features(size, dim, 0)


def timed(benchmark: Any, call: Callable[[], Any], stage: str, size: int, rounds: int) -> Any:
    """Take times after one call that compiles, beside others that do the same work."""
    benchmark.group = f"{stage}, {size} samples"
    return benchmark.pedantic(call, rounds=rounds, iterations=1, warmup_rounds=rounds > 1)


@pytest.mark.parametrize("stage", STAGES)
def test_stage(benchmark: Any, stages: Stages, size: int, stage: str) -> None:
    found = timed(benchmark, stages.call(stage), stage, size, 3)
    assert len(found.index if stage == "neighbours" else found) == size


def test_float32_search(benchmark: Any, stages: Stages, size: int) -> None:
    """The search without the bfloat16 first pass: same lists, to the bit."""
    found = timed(
        benchmark,
        lambda: nearest_neighbours(stages.features, K1, backend="float32"),
        "neighbours",
        size,
        3,
    )
    assert torch.equal(found.index, stages.neighbours.index)


def test_faiss_search(benchmark: Any, rows: Tensor, size: int) -> None:
    pytest.importorskip("faiss")
    found = timed(benchmark, lambda: nearest_neighbours(rows, K1, backend="faiss"), "neighbours", size, 3)
    assert found.index.shape == (size, K1)


def test_public_algorithm(benchmark: Any, rows: Tensor, size: int) -> None:
    if size > LARGEST_REFERENCE:
        pytest.skip(f"the dense matrices of {size} samples are too large")
    features = rows.numpy()
    found = timed(
        benchmark,
        lambda: reference_core.reference_clusters(features, k1=K1, k2=K2, eps=EPS, min_samples=MIN_SAMPLES),
        "whole",
        size,
        1,
    )
    assert np.mean(found == Stages.of(rows).labels().numpy()) > 0.99
