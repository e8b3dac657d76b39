"""The stages against the pair-by-pair reference, and what must hold for any features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN
from torch import Tensor

from methods.clustering import (
    LARGEST_RADIUS,
    MIE,
    Capped,
    Expansion,
    MeanExpansion,
    ModalityMean,
    dbscan,
    encode,
    expand,
    expanded_sets,
    jaccard_clusters,
    jaccard_distances,
    jaccard_graph,
    nearest_neighbours,
    reciprocal_sets,
)
from methods.clustering.kernels import numba_kernels
from methods.clustering.labels import NOISE
from methods.clustering.reciprocal import half_of
from methods.errors import MethodError
from tests.methods.clustering import cases
from tests.reference import clustering as slow

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
KINDS = ("none", "plain", "modality-mean", "mie", "capped")


def expansion_of(kind: str, n: int, k1: int, k2: int, cameras: int = 4) -> tuple[Expansion, Tensor, Tensor]:
    camera = cases.groups(n, cameras, 1)
    modality = camera % 2
    made: dict[str, Expansion] = {
        "none": MeanExpansion(1),
        "plain": MeanExpansion(k2),
        "modality-mean": ModalityMean(k2, modality),
        "mie": MIE(k2, modality, camera),
        "capped": Capped(pool=k1, cap=2, modality=modality, camera=camera),
    }
    return made[kind], modality, camera


def slow_distances(
    features: Tensor, k1: int, k2: int, kind: str, modality: Tensor, camera: Tensor
) -> slow.Floats:
    similarity = slow.similarities(features.numpy())
    lists = slow.nearest(similarity, k1)
    rows = slow.encoding(similarity, slow.expanded(lists))
    kinds, cameras = modality.tolist(), camera.tolist()
    if kind == "plain":
        rows = slow.plain(rows, lists, k2)
    elif kind == "modality-mean":
        rows = slow.mie(rows, lists, k2, kinds, [0] * len(rows))
    elif kind == "mie":
        rows = slow.mie(rows, lists, k2, kinds, cameras)
    elif kind == "capped":
        rows = slow.mie(rows, lists, k1, kinds, cameras, cap=2)
    return slow.jaccard(rows)


@QUICK
@given(cases.features(most=40), st.sampled_from(KINDS), st.integers(2, 12), st.data())
def test_distances_and_labels_of_every_expansion(
    features: Tensor, kind: str, k1: int, data: st.DataObject
) -> None:
    k2 = data.draw(st.integers(1, k1))
    expansion, modality, camera = expansion_of(kind, len(features), k1, k2)
    expected = slow_distances(features, k1, k2, kind, modality, camera)
    graph, _ = jaccard_graph(features, k1=k1, radius=LARGEST_RADIUS, expansion=expansion)
    np.testing.assert_allclose(cases.dense(graph), expected, rtol=0, atol=1e-5)
    eps = data.draw(st.sampled_from([0.2, 0.35, 0.5, 0.65, 0.8]))
    assume((np.abs(expected - np.float32(eps)) > 1e-5).all())
    found = jaccard_clusters(features, k1=k1, eps=eps, min_samples=4, expansion=expansion)
    assert found.labels.tolist() == slow.density(expected, eps, 4)


@QUICK
@given(cases.features(), st.integers(1, 12))
def test_sets(features: Tensor, k1: int) -> None:
    lists = nearest_neighbours(features, k1).index
    reciprocal = [set(members.tolist()) for members in reciprocal_sets(lists, numba_kernels)]
    assert reciprocal == slow.reciprocal(lists.tolist())
    expanded = [members.tolist() for members in expanded_sets(lists, numba_kernels)]
    assert [set(members) for members in expanded] == slow.expanded(lists.tolist())
    assert all(len(members) == len(set(members)) for members in expanded)


@QUICK
@given(cases.features(), st.sampled_from(KINDS), st.integers(2, 12))
def test_encodings_are_row_stochastic_and_distances_a_similarity(
    features: Tensor, kind: str, k1: int
) -> None:
    """Symmetric, in [0, 1], 0 for a sample and itself and its exact copies in company."""
    neighbours = nearest_neighbours(features, k1)
    encoding = encode(features, neighbours, expanded_sets(neighbours.index, numba_kernels), numba_kernels)
    expansion = expansion_of(kind, len(features), k1, max(1, k1 // 2))[0]
    mixed = expand(encoding, neighbours.index, expansion, numba_kernels)
    total = mixed.matrix().sum(axis=1)
    np.testing.assert_allclose(total[~mixed.empty.numpy()], 1, atol=1e-6)
    distance = cases.dense(jaccard_distances(mixed, LARGEST_RADIUS, numba_kernels))
    np.testing.assert_array_equal(distance, distance.T)
    assert distance.min() >= 0
    assert distance.max() <= 1
    np.testing.assert_allclose(np.diag(distance)[~mixed.empty.numpy()], 0, atol=1e-6)


def test_lists_and_half_sets_have_the_published_lengths() -> None:
    lists = nearest_neighbours(cases.blobs(80, 8, 4, 0.5, 0), 30).index
    assert lists.shape == (80, 30)
    assert lists[:, 0].tolist() == list(range(80))
    assert (half_of(30), half_of(25), half_of(20), half_of(1)) == (16, 13, 11, 1)


def test_two_identical_points_are_at_distance_0() -> None:
    one = cases.blobs(20, 8, 4, 0.3, 3)
    features = torch.cat([one, one])
    graph, _ = jaccard_graph(features, k1=8, radius=LARGEST_RADIUS, expansion=MeanExpansion(4))
    assert np.diag(cases.dense(graph)[:20, 20:]).max() == 0


@QUICK
@given(cases.features(), st.integers(2, 12), st.integers(0, 9))
def test_mie_is_the_modality_mean_where_each_modality_has_one_camera(
    features: Tensor, k1: int, seed: int
) -> None:
    modality = cases.groups(len(features), 2, seed)
    k2 = max(1, k1 // 2)
    pair = (MIE(k2, modality, modality + 5), ModalityMean(k2, modality))
    a, b = (jaccard_graph(features, k1=k1, radius=LARGEST_RADIUS, expansion=e)[0] for e in pair)
    assert torch.equal(a.indices, b.indices)
    assert torch.equal(a.values, b.values)


def test_expansion_weights() -> None:
    """Rows sum to 1; one modality is the plain mean; MIE's weights by hand."""
    index = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]])
    nobody = torch.zeros(4, dtype=torch.bool)
    modality, camera = torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 2, 3])
    mie = MIE(4, modality, camera).weights(index, nobody)
    assert mie[0].tolist() == [1 / 8, 1 / 8, 1 / 4, 1 / 2]
    assert ModalityMean(4, modality).weights(index, nobody)[0].tolist() == pytest.approx(
        [1 / 6] * 3 + [1 / 2]
    )
    one = torch.zeros(4, dtype=torch.int64)
    assert ModalityMean(4, one).weights(index, nobody).tolist() == [[1 / 4] * 4] * 4
    capped = Capped(pool=4, cap=1, modality=modality, camera=camera).weights(index, nobody)
    assert capped[0].tolist() == [1 / 4, 0, 1 / 4, 1 / 2]
    assert torch.equal(mie.sum(1), torch.ones(4, dtype=torch.float64))
    empty = torch.tensor([False, False, True, False])
    left = MIE(4, modality, camera).weights(index, empty)
    assert left[0].tolist() == [1 / 4, 1 / 4, 0, 1 / 2]


@QUICK
@given(cases.features(), st.integers(2, 10), st.integers(1, 8), st.data())
def test_dbscan_equals_scikit_learn_on_the_same_distances(
    features: Tensor, k1: int, min_samples: int, data: st.DataObject
) -> None:
    """Also where eps is exactly one of the float32 distances, or the next number below."""
    graph, _ = jaccard_graph(features, k1=k1, radius=LARGEST_RADIUS, expansion=MeanExpansion(1))
    distance = cases.dense(graph)
    inside = distance[(distance > 0) & (distance < 1)]
    assume(len(inside) > 0)
    eps = np.float32(data.draw(st.sampled_from(sorted(set(inside.tolist())))))
    for radius in (eps, np.nextafter(eps, np.float32(0))):
        model = DBSCAN(eps=float(radius), min_samples=min_samples, metric="precomputed")
        expected = model.fit(distance).labels_
        assert dbscan(graph, float(radius), min_samples).tolist() == expected.tolist()
        assert slow.density(distance, float(radius), min_samples) == expected.tolist()


@QUICK
@given(cases.features(), st.integers(2, 10), st.floats(0.05, 0.95))
def test_a_smaller_radius_gives_the_part_of_the_graph_below_it(
    features: Tensor, k1: int, radius: float
) -> None:
    small, _ = jaccard_graph(features, k1=k1, radius=radius, expansion=MeanExpansion(2))
    large, _ = jaccard_graph(features, k1=k1, radius=LARGEST_RADIUS, expansion=MeanExpansion(2))
    part = large.below(radius)
    for name in ("indptr", "indices", "values"):
        assert torch.equal(getattr(small, name), getattr(part, name))


def test_labels_do_not_depend_on_the_order_of_samples_where_nothing_ties() -> None:
    features = cases.blobs(200, 16, 12, 0.4, 0)
    order = torch.from_numpy(np.random.default_rng(1).permutation(200))
    settings_ = {"k1": 12, "eps": 0.5, "min_samples": 1, "expansion": MeanExpansion(3)}
    labels = jaccard_clusters(features, **settings_).labels[order]  # type: ignore[arg-type]
    shuffled = jaccard_clusters(features[order], **settings_).labels  # type: ignore[arg-type]
    assert torch.equal(labels[:, None] == labels, shuffled[:, None] == shuffled)


def test_all_noise_one_cluster_and_pieces() -> None:
    scattered = cases.unit(np.eye(12))
    found = jaccard_clusters(scattered, k1=1, eps=0.5, min_samples=2, expansion=MeanExpansion(1))
    assert found.labels.tolist() == [NOISE] * 12
    assert (found.n_clusters, found.n_noise) == (0, 12)
    one = cases.blobs(30, 8, 1, 0.01, 0)
    found = jaccard_clusters(one, k1=30, eps=0.6, min_samples=4, expansion=MeanExpansion(6))
    assert found.labels.tolist() == [0] * 30
    pieces = cases.unit(np.repeat(np.eye(3), 5, axis=0))
    found = jaccard_clusters(pieces, k1=5, eps=0.5, min_samples=4, expansion=MeanExpansion(5))
    assert found.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_eps_1_joins_everybody() -> None:
    pieces = cases.unit(np.repeat(np.eye(3), 5, axis=0))
    found = jaccard_clusters(pieces, k1=5, eps=1.0, min_samples=4, expansion=MeanExpansion(1))
    assert found.labels.tolist() == [0] * 15


def test_one_camera_makes_mie_the_plain_mean() -> None:
    features = cases.blobs(60, 8, 6, 0.4, 5)
    same = torch.zeros(60, dtype=torch.int64)
    graphs = [
        jaccard_graph(features, k1=10, radius=0.9, expansion=e)[0]
        for e in (MeanExpansion(4), MIE(4, same, same), ModalityMean(4, same))
    ]
    assert torch.equal(graphs[0].values, graphs[1].values)
    assert torch.equal(graphs[0].values, graphs[2].values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k1": 21}, ["k1 = 21", "20"]),
        ({"k1": 0}, ["k1 = 0"]),
        ({"expansion": MeanExpansion(7)}, ["k2 = 7", "k1 = 6"]),
        ({"expansion": MeanExpansion(0)}, ["k2 = 0"]),
        ({"eps": 0.0}, ["eps = 0"]),
        ({"eps": 1.5}, ["eps = 1.5"]),
        ({"min_samples": 0}, ["min_samples = 0"]),
        ({"expansion": ModalityMean(2, torch.zeros(3))}, ["modality", "(20,)"]),
        ({"expansion": Capped(4, 0, torch.zeros(20), torch.zeros(20))}, ["cap = 0"]),
    ],
)
def test_refusals(changes: dict[str, object], words: list[str]) -> None:
    values: dict[str, object] = {"k1": 6, "eps": 0.5, "min_samples": 4, "expansion": MeanExpansion(2)}
    with pytest.raises(MethodError) as caught:
        jaccard_clusters(cases.blobs(20, 8, 3, 0.3, 0), **(values | changes))  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 2.0])
def test_features_at_fault_are_named(bad: float) -> None:
    features = cases.blobs(20, 8, 3, 0.3, 0)
    features[7] *= bad
    with pytest.raises(MethodError, match="sample 7"):
        jaccard_clusters(features, k1=5, eps=0.5, min_samples=4, expansion=MeanExpansion(2))


def test_a_graph_is_not_asked_beyond_its_radius() -> None:
    graph, _ = jaccard_graph(cases.blobs(20, 8, 3, 0.3, 0), k1=5, radius=0.4, expansion=MeanExpansion(2))
    with pytest.raises(MethodError, match=r"0\.4"):
        dbscan(graph, 0.5, 4)
