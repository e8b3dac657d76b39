"""Soft labels from neighbours against plain loops: ties, noise, nobody with a cluster, fewer candidates than asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from methods.association.neighbour_labels import neighbour_labels
from methods.association.neighbours import cross_neighbours
from tests.methods.association.cases import grid_rows, labelled, tensor
from tests.reference import association as reference


@given(labelled(), labelled(), st.integers(1, 6), st.sampled_from([0.0, 5.0, 10.0]))
@settings(max_examples=60, deadline=None)
def test_soft_labels_and_weights(
    one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray], m: int, sharpness: float
) -> None:
    (visible, y_v), (infrared, y_r) = one, two
    forth, back = cross_neighbours(tensor(visible), tensor(infrared), m)
    for near, queries, candidates, labels, own in (
        (forth, visible, infrared, y_r, np.minimum(y_v, reference.clusters(y_r) - 1)),
        (back, infrared, visible, y_v, np.minimum(y_r, reference.clusters(y_v) - 1)),
    ):
        soft, weights = reference.neighbour_labels(queries, candidates, labels, own, m, sharpness)
        found = neighbour_labels(near, tensor(labels), tensor(own), sharpness)
        dense = found.of(torch.arange(len(queries)), soft.shape[1])
        np.testing.assert_allclose(dense, soft, atol=1e-6)
        np.testing.assert_allclose(found.weight, weights, atol=2e-6)


@given(grid_rows(), grid_rows(), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_lists_across_modalities(visible: np.ndarray, infrared: np.ndarray, k: int) -> None:
    forth, back = cross_neighbours(tensor(visible), tensor(infrared), k)
    assert forth.shape == (len(visible), min(k, len(infrared)))
    assert back.shape == (len(infrared), min(k, len(visible)))
    for lists, queries, keys in ((forth, visible, infrared), (back, infrared, visible)):
        for row, f in zip(lists.tolist(), queries, strict=True):
            assert row == sorted(row, key=lambda j: (-float(f @ keys[j]), j))
            assert sorted(row) == reference.nearest(f, keys, k)


@pytest.mark.parametrize("sizes", [(2100, 40), (1500, 1300)])
def test_lists_of_several_blocks(sizes: tuple[int, int]) -> None:
    """Blocks that lie in one modality are passed over; the one across the border is not."""
    generator = torch.Generator().manual_seed(3)
    visible, infrared = (normalize(torch.randn(n, 16, generator=generator)) for n in sizes)
    forth, back = cross_neighbours(visible, infrared, 5)
    similarity = visible.double() @ infrared.double().T
    assert torch.equal(forth, similarity.topk(5, dim=1).indices)
    assert torch.equal(back, similarity.T.topk(5, dim=1).indices)


def test_intersection_over_union_not_counts() -> None:
    # of four neighbours two are in a cluster of two, two in one of six
    near, labels = torch.tensor([[0, 1, 2, 3]]), torch.tensor([0, 0, 1, 1, 1, 1, 1, 1])
    found = neighbour_labels(near, labels, torch.tensor([1]), 10.0)
    overlap = torch.tensor([2 / 4, 2 / 8])
    torch.testing.assert_close(found.of(torch.tensor([0]), 2)[0], overlap / overlap.sum())
    assert found.weight.item() == pytest.approx(np.exp(-10 * (2 / 3) ** 2))


def test_weights_of_full_half_and_no_agreement() -> None:
    near, labels = torch.tensor([[0, 1], [0, 2], [2, 3]]), torch.tensor([0, 0, 1, 1])
    weights = neighbour_labels(near, labels, torch.tensor([0, 0, 0]), 10.0).weight
    assert weights.tolist() == pytest.approx([1, np.exp(-2.5), np.exp(-10)])


def test_noise_alone_leaves_the_label() -> None:
    labels = torch.tensor([-1, -1, 0, 1])
    found = neighbour_labels(torch.tensor([[0, 1], [0, 1]]), labels, torch.tensor([1, -1]), 10.0)
    assert found.of(torch.arange(2), 2).tolist() == [[0, 1], [0, 0]]
    assert found.weight.tolist() == pytest.approx([np.exp(-10), 0])
