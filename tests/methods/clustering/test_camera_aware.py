"""CA-Jaccard against its pair-by-pair reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.clustering import LARGEST_RADIUS, CameraAware, camera_aware_clusters, camera_aware_graph
from methods.clustering.kernels import torch_kernels
from methods.errors import MethodError
from tests.methods.clustering import cases
from tests.reference import clustering as slow

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def same_as_slow(features: Tensor, aware: CameraAware) -> slow.Floats:
    """Compare distances and lists; return the slow distances."""
    k1, k2 = (aware.k1_intra, aware.k1_inter), (aware.k2_intra, aware.k2_inter)
    expected, intra, inter = slow.camera_aware(
        features.numpy(), aware.camera.tolist(), k1, k2, aware.fill_lists
    )
    graph, lists = camera_aware_graph(features, aware, radius=LARGEST_RADIUS)
    np.testing.assert_allclose(cases.dense(graph), expected, rtol=0, atol=1e-5)
    for i, (a, e) in enumerate(zip(intra, inter, strict=True)):
        assert [j for j in lists.index[i].tolist() if j >= 0] == a + e
    return expected


@QUICK
@given(cases.features(least=14, most=40), st.integers(1, 4), st.integers(0, 9), st.data())
def test_distances_and_labels(features: Tensor, cameras: int, seed: int, data: st.DataObject) -> None:
    k1 = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 9)))
    k2 = data.draw(st.tuples(st.integers(1, 2), st.integers(0, 2)))
    aware = CameraAware(cases.groups(len(features), cameras, seed), *k1, *k2, data.draw(st.booleans()))
    expected = same_as_slow(features, aware)
    eps = data.draw(st.sampled_from([0.3, 0.5, 0.7]))
    assume((np.abs(expected - np.float32(eps)) > 1e-5).all())
    found = camera_aware_clusters(features, aware, eps=eps, min_samples=3)
    assert found.labels.tolist() == slow.density(expected, eps, 3)


def test_sixty_points_with_the_published_settings() -> None:
    features = cases.blobs(60, 16, 6, 0.4, 0)
    same_as_slow(features, CameraAware(cases.groups(60, 3, 0)))
    same_as_slow(features, CameraAware(cases.groups(60, 3, 0), k2_intra=3, k2_inter=3))


def test_one_camera_has_no_inter_list() -> None:
    features = cases.blobs(60, 16, 6, 0.4, 1)
    same_as_slow(features, CameraAware(torch.full((60,), 4)))


def test_two_cameras() -> None:
    same_as_slow(cases.blobs(60, 16, 6, 0.4, 2), CameraAware(cases.groups(60, 2, 2)))


def test_a_camera_with_one_image_keeps_its_short_list() -> None:
    camera = cases.groups(60, 2, 3)
    camera[17] = 9
    features = cases.blobs(60, 16, 6, 0.4, 3)
    same_as_slow(features, CameraAware(camera))
    _, lists = camera_aware_graph(features, CameraAware(camera), radius=0.9)
    assert lists.index[17, :6].tolist() == [17, -1, -1, -1, -1, -1]


def test_filled_lists_go_on_with_the_nearest_of_the_wrong_side() -> None:
    camera = cases.groups(60, 2, 3)
    camera[17] = 9
    features = cases.blobs(60, 16, 6, 0.4, 3)
    aware = CameraAware(camera, fill_lists=True)
    distance = same_as_slow(features, aware)
    _, lists = camera_aware_graph(features, aware, radius=0.9)
    near = (features @ features[17]).argsort(descending=True).tolist()
    assert lists.index[17].tolist() == near[:6] + near[1:22]
    short, _, _ = slow.camera_aware(features.numpy(), camera.tolist(), (5, 20), (2, 4))
    assert (distance != short).any()


def test_filled_lists_of_one_camera_are_two_of_the_same() -> None:
    features = cases.blobs(60, 16, 6, 0.4, 1)
    aware = CameraAware(torch.full((60,), 4), fill_lists=True)
    same_as_slow(features, aware)
    _, lists = camera_aware_graph(features, aware, radius=0.9)
    assert torch.equal(lists.index[:, :6], lists.index[:, 6:12])


def test_short_lists_in_the_tensor_path() -> None:
    camera = cases.groups(80, 3, 4)
    camera[11] = 9
    _, lists = camera_aware_graph(cases.blobs(80, 16, 8, 0.4, 4), CameraAware(camera), radius=0.6)
    intra = lists.index[:, :6].contiguous()
    sets = torch_kernels.expanded_sets(intra, 0)
    expected = slow.reciprocal([[j for j in row if j >= 0] for row in intra.tolist()])
    assert [set(sets[i].tolist()) for i in range(80)] == expected


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"k1_intra": 0}, "k1_intra"),
        ({"k1_inter": 99}, "k1_inter"),
        ({"k2_intra": 7}, "k2_intra"),
        ({"k2_intra": 0, "k2_inter": 0}, "both 0"),
        ({"camera": torch.zeros(3)}, "camera"),
    ],
)
def test_refusals(changes: dict[str, object], word: str) -> None:
    values = {"camera": cases.groups(40, 2, 0)} | changes
    with pytest.raises(MethodError, match=word):
        camera_aware_graph(cases.blobs(40, 8, 4, 0.4, 0), CameraAware(**values), radius=0.5)  # type: ignore[arg-type]
