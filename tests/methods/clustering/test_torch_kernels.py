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
    CameraAware,
    Graph,
    Plain,
    Sets,
    camera_aware_graph,
    dbscan,
    encode,
    expanded_sets,
    jaccard_distances,
    jaccard_graph,
    nearest_neighbours,
)
from methods.clustering.encoding import mix
from methods.clustering.jaccard import least_shared
from methods.clustering.kernels import numba_kernels as compiled
from methods.clustering.kernels import torch_kernels as portable
from methods.clustering.reciprocal import half_of
from tests.methods.clustering import cases

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


@QUICK
@given(cases.features(), st.integers(1, 12), st.sampled_from([torch.int64, torch.int32]))
def test_every_stage(features: Tensor, k: int, integer: torch.dtype) -> None:
    neighbours = nearest_neighbours(features, k)
    lists = neighbours.index.to(integer)
    rank = compiled.reverse_rank(np.ascontiguousarray(lists.numpy(), dtype=np.int32))
    assert portable.reverse_rank(lists).tolist() == rank.tolist()
    sets = expanded_sets(lists)
    others = Sets(*portable.expanded_sets(lists, half_of(k)))
    assert torch.equal(others.start, sets.start)
    assert [sorted(other) for other in map(Tensor.tolist, others)] == [
        sorted(mine) for mine in map(Tensor.tolist, sets)
    ]

    encoding = encode(features, neighbours, sets)
    weight = portable.softmax_weights(features, torch.arange(len(features)), sets.start, sets.member)
    assert (weight - encoding.weight).abs().max() <= 1, "exp may differ in its last bit"

    near, weights = lists[:, : max(1, k // 2)], torch.full((len(lists), max(1, k // 2)), 1 / max(1, k // 2))
    mixed = mix(encoding, near, weights.double())
    share = torch.round(weights.double() * compiled.ONE).int()
    parts = portable.mix_rows(encoding.start, encoding.column, encoding.weight, near, share)
    matrix = mixed.matrix()
    other = type(mixed)(*parts).matrix()
    assert (matrix != other).nnz == 0

    radius = 0.7
    graph = jaccard_distances(mixed, radius)
    start, column, shared = portable.overlaps(mixed.start, mixed.column, mixed.weight, least_shared(radius))
    assert torch.equal(start, graph.start)
    assert torch.equal(column, graph.neighbour)
    assert compiled.distance_of(shared.numpy()).tolist() == graph.distance.tolist()
    backwards = torch.arange(len(features)).flip(0)
    named = jaccard_distances(mixed, radius, backwards)
    called = portable.renamed(start, column, shared, backwards)
    assert torch.equal(called[0], named.start)
    assert torch.equal(called[1], named.neighbour)
    assert compiled.distance_of(called[2].numpy()).tolist() == named.distance.tolist()

    near_enough = graph.below(0.5)
    core = near_enough.start.diff() >= 3
    labels = portable.density_labels(near_enough.row, near_enough.neighbour, core)
    assert torch.equal(labels, dbscan(graph, 0.5, 3))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = cases.blobs(200, 8, 10, 0.4, 0)
    neighbours = nearest_neighbours(features, 10)
    whole = portable.expanded_sets(neighbours.index, 6)
    order = torch.arange(len(features))
    weight = portable.softmax_weights(features, order, *whole)
    overlaps = portable.overlaps(*whole, weight, 1000)
    monkeypatch.setattr(portable, "BLOCK", 3000)
    assert all(map(torch.equal, portable.expanded_sets(neighbours.index, 6), whole))
    assert torch.equal(portable.softmax_weights(features, order, *whole), weight)
    assert all(map(torch.equal, portable.overlaps(*whole, weight, 1000), overlaps))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    features, camera = cases.blobs(2000, 64, 100, 0.4, 0), cases.groups(2000, 4, 0)

    def graphs(device: str) -> list[Graph]:
        there = features.to(device)
        aware = CameraAware(camera.to(device))
        plain = jaccard_graph(there, k1=20, radius=LARGEST_RADIUS, expansion=Plain(6))[0]
        return [plain, camera_aware_graph(there, aware, radius=0.7)[0]]

    for ours, theirs in zip(graphs("cuda"), graphs("cpu"), strict=True):
        assert torch.equal(ours.neighbour.cpu(), theirs.neighbour)
        torch.testing.assert_close(ours.distance.cpu(), theirs.distance, rtol=0, atol=1e-6)
        assert torch.equal(dbscan(ours, 0.5, 4).cpu(), dbscan(theirs, 0.5, 4))
