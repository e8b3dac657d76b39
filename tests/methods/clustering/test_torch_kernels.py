"""The tensor path (CUDA) gives the compiled path's (CPU) numbers, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.clustering import (
    LARGEST_RADIUS,
    MIE,
    CameraAware,
    Encoding,
    MeanExpansion,
    SparseDistances,
    camera_aware_graph,
    dbscan,
    encode,
    expanded_sets,
    graph_of,
    jaccard_distances,
    jaccard_graph,
    nearest_neighbours,
)
from methods.clustering.encoding import mix
from methods.clustering.kernels import Kernels, numba_kernels, numba_sets, torch_blocks, torch_kernels
from tests.methods.clustering import cases

BACK_ENDS: tuple[Kernels, ...] = (numba_kernels, torch_kernels)
QUICK = settings(max_examples=25, deadline=None, derandomize=True)


@QUICK
@given(cases.features(), st.integers(1, 12), st.sampled_from([torch.int64, torch.int32]))
def test_every_stage(features: Tensor, k: int, integer: torch.dtype) -> None:
    neighbours = nearest_neighbours(features, k)
    lists = neighbours.index.to(integer)
    rank = numba_sets.reverse_rank(np.ascontiguousarray(lists.numpy(), dtype=np.int32))
    assert torch_kernels.reverse_rank(lists).tolist() == rank.tolist()
    sets, others = (expanded_sets(lists, kernels) for kernels in BACK_ENDS)
    assert torch.equal(others.indptr, sets.indptr)
    assert [sorted(other) for other in map(Tensor.tolist, others)] == [
        sorted(members) for members in map(Tensor.tolist, sets)
    ]

    encoding, other = (encode(features, neighbours, sets, kernels) for kernels in BACK_ENDS)
    assert (other.values - encoding.values).abs().max() <= 1, "exp may differ in its last bit"

    near, weights = lists[:, : max(1, k // 2)], torch.full((len(lists), max(1, k // 2)), 1 / max(1, k // 2))
    mixed, other = (mix(encoding, near, weights.double(), kernels) for kernels in BACK_ENDS)
    assert (mixed.matrix() != other.matrix()).nnz == 0

    radius = 0.7
    for order in (None, torch.arange(len(features)).flip(0)):
        graph, other_graph = (jaccard_distances(mixed, radius, kernels, order) for kernels in BACK_ENDS)
        assert torch.equal(other_graph.indptr, graph.indptr)
        assert torch.equal(other_graph.indices, graph.indices)
        assert torch.equal(other_graph.values, graph.values)

    near_enough = graph.below(0.5)
    core = near_enough.sizes >= 3
    assert torch.equal(torch_kernels.density_labels(near_enough, core), dbscan(graph, 0.5, 3))


def test_a_whole_clustering_is_the_same_on_either_back_end() -> None:
    features, camera = cases.blobs(300, 16, 20, 0.4, 1), cases.groups(300, 4, 1)
    neighbours = nearest_neighbours(features, 12)
    for expansion in (MeanExpansion(1), MeanExpansion(4), MIE(6, camera % 2, camera)):
        one, other = (
            graph_of(features, neighbours, radius=0.8, expansion=expansion, kernels=kernels)
            for kernels in BACK_ENDS
        )
        assert torch.equal(one.indices, other.indices)
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = cases.blobs(200, 8, 10, 0.4, 0)
    neighbours = nearest_neighbours(features, 10)
    order = torch.arange(len(features))

    def stages() -> list[Tensor]:
        sets = torch_kernels.expanded_sets(neighbours.index, 6)
        weight = torch_kernels.softmax_weights(features, order, neighbours, sets)
        shared = torch_kernels.overlaps(Encoding(sets.indptr, sets.indices, weight), 1000, order)
        return [sets.indptr, sets.indices, weight, shared.indptr, shared.indices, shared.values]

    whole = stages()
    monkeypatch.setattr(torch_blocks, "BLOCK", 3000)
    assert all(map(torch.equal, stages(), whole))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    features, camera = cases.blobs(2000, 64, 100, 0.4, 0), cases.groups(2000, 4, 0)

    def graphs(device: str) -> list[SparseDistances]:
        on_device = features.to(device)
        aware = CameraAware(camera.to(device))
        plain = jaccard_graph(on_device, k1=20, radius=LARGEST_RADIUS, expansion=MeanExpansion(6))[0]
        return [plain, camera_aware_graph(on_device, aware, radius=0.7)[0]]

    for ours, theirs in zip(graphs("cuda"), graphs("cpu"), strict=True):
        assert torch.equal(ours.indices.cpu(), theirs.indices)
        torch.testing.assert_close(ours.values.cpu(), theirs.values, rtol=0, atol=1e-6)
        assert torch.equal(dbscan(ours, 0.5, 4).cpu(), dbscan(theirs, 0.5, 4))
