"""HDBSCAN, average linkage and Infomap on the sparse graph, and on graphs with little in them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from methods.clustering import (
    LARGEST_RADIUS,
    MeanExpansion,
    SparseDistances,
    jaccard_graph,
    nearest_neighbours,
    other_clusterers,
)
from methods.clustering.labels import NOISE
from methods.clustering.other_clusterers import agglomerative, hdbscan, infomap, neighbour_infomap
from methods.errors import MethodError
from tests.methods.clustering import cases

Clusterer = Callable[[SparseDistances, float, int], Tensor]
CLUSTERERS: dict[str, Clusterer] = {
    "hdbscan": lambda graph, _eps, size: hdbscan(graph, size),
    "agglomerative": agglomerative,
    "infomap": infomap,
}


@pytest.fixture(params=CLUSTERERS)
def clusterer(request: pytest.FixtureRequest) -> Clusterer:
    if request.param == "infomap":
        pytest.importorskip("infomap")
    return CLUSTERERS[request.param]


def graph_of(features: Tensor, k1: int = 8) -> SparseDistances:
    return jaccard_graph(features, k1=k1, radius=LARGEST_RADIUS, expansion=MeanExpansion(3))[0]


def numbered_by_first_member(labels: Tensor) -> bool:
    seen = list(dict.fromkeys(label for label in labels.tolist() if label != NOISE))
    return seen == list(range(len(seen)))


def test_clear_clusters_are_found_and_numbered(clusterer: Clusterer) -> None:
    rng = np.random.default_rng(0)
    identity = rng.integers(0, 5, 80)
    features = cases.unit(np.eye(8)[identity] + 0.02 * rng.normal(size=(80, 8)))
    labels = clusterer(graph_of(features, 12), 0.8, 4)
    assert adjusted_rand_score(identity, labels) > 0.9  # HDBSCAN splits one of the five
    assert numbered_by_first_member(labels)
    assert labels.dtype == torch.int64


def test_samples_that_share_nothing_are_noise(clusterer: Clusterer) -> None:
    assert clusterer(jaccard_alone(12), 0.6, 4).tolist() == [NOISE] * 12


def jaccard_alone(n: int) -> SparseDistances:
    """Every sample knows only itself."""
    own = torch.arange(n)
    return SparseDistances(torch.arange(n + 1), own.int(), torch.zeros(n), LARGEST_RADIUS)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_samples_than_a_cluster_needs(clusterer: Clusterer, n: int) -> None:
    assert clusterer(jaccard_alone(n), 0.6, 4).tolist() == [NOISE] * n


def test_pieces_and_strays(clusterer: Clusterer) -> None:
    """Two copies-only pieces, and three samples of their own."""
    rows = np.concatenate([np.repeat(np.eye(8)[:2], 6, axis=0), np.eye(8)[2:5]])
    labels = clusterer(
        jaccard_graph(cases.unit(rows), k1=6, radius=0.99, expansion=MeanExpansion(1))[0], 0.6, 4
    )
    assert labels.tolist() == [0] * 6 + [1] * 6 + [NOISE] * 3


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_hdbscan_equals_scikit_learn_on_dense_distances(size: int) -> None:
    features = cases.blobs(150, 16, 10, 0.35, 1)
    graph = graph_of(features, 12)
    model = HDBSCAN(min_cluster_size=max(2, size), min_samples=size, metric="precomputed", copy=True)
    expected = model.fit(cases.dense(graph).astype(np.float64)).labels_
    found = hdbscan(graph, size).numpy()
    assert adjusted_rand_score(expected, found) == 1
    np.testing.assert_array_equal(expected == NOISE, found == NOISE)


@pytest.mark.parametrize("eps", [0.3, 0.5, 0.7])
def test_average_linkage_equals_scipy_on_the_whole_matrix(eps: float) -> None:
    graph = graph_of(cases.blobs(120, 16, 10, 0.5, 2), 10)
    distance = cases.dense(graph).astype(np.float64)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    expected = fcluster(tree, np.nextafter(eps, 0), "distance")
    assert adjusted_rand_score(expected, agglomerative(graph, eps, 1)) == 1


def test_average_linkage_says_which_piece_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_clusterers, "LARGEST_COMPONENT", 10)
    one = graph_of(cases.blobs(30, 8, 1, 0.01, 0), 30)
    with pytest.raises(MethodError, match="30 samples"):
        agglomerative(one, 0.6, 4)


def test_infomap_beside_faiss_runs_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in a process that has loaded faiss, Infomap's result crashes it."""
    pytest.importorskip("infomap")
    features = cases.unit(np.random.default_rng(2).normal(size=(60, 6)))
    graph = graph_of(features)
    expected = infomap(graph, 0.8, 4)
    monkeypatch.setitem(sys.modules, "faiss", types.ModuleType("faiss"))
    assert torch.equal(infomap(graph, 0.8, 4), expected)


def test_infomap_is_repeatable_and_on_neighbours_too() -> None:
    pytest.importorskip("infomap")
    features = cases.unit(np.eye(8)[np.arange(60) % 6] + 0.02 * np.random.default_rng(0).normal(size=(60, 8)))
    graph = graph_of(features)
    assert torch.equal(infomap(graph, 0.7, 4), infomap(graph, 0.7, 4))
    labels = neighbour_infomap(nearest_neighbours(features, 10))
    assert adjusted_rand_score(np.arange(60) % 6, labels) == 1
    alone = neighbour_infomap(nearest_neighbours(cases.unit(np.eye(6)), 3))
    assert alone.tolist() == [NOISE] * 6


def test_infomap_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "infomap", None)
    with pytest.raises(MethodError, match="extra infomap"):
        infomap(jaccard_alone(5), 0.5, 4)


def test_min_samples_below_1_is_refused(clusterer: Clusterer) -> None:
    with pytest.raises(MethodError, match="min_samples"):
        clusterer(jaccard_alone(5), 0.5, 0)
