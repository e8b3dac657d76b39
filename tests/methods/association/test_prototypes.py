"""Density prototypes and the labels that they give, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.association.prototypes import density_prototypes, nearest_prototypes
from tests.methods.association.cases import labelled, tensor
from tests.reference import association as reference


@given(labelled(most=14), st.integers(1, 6), st.sampled_from([-0.25, 0.25, 0.75]))
@settings(max_examples=60, deadline=None)
def test_prototypes_and_labels(case: tuple[np.ndarray, np.ndarray], size: int, cut: float) -> None:
    rows, labels = case[0], without_gaps(case[1])
    rows = rows * np.linspace(0.5, 1, len(rows))[:, None]
    prototypes = density_prototypes(tensor(rows), tensor(labels), size, cut, block=3)
    expected = reference.density_prototypes(rows, labels, size, cut).reshape(-1, rows.shape[1])
    np.testing.assert_allclose(prototypes, expected, atol=1e-6)
    found = nearest_prototypes(tensor(rows), tensor(labels), prototypes, block=4).numpy()
    # equal cosines of different prototypes are told apart by rounding alone
    for f, y, k in zip(rows, labels, found, strict=True):
        scores = [reference.cosine(f, p) for p in expected]
        assert k == y if y < 0 else scores[k] == pytest.approx(max(scores), abs=1e-6)


def without_gaps(labels: np.ndarray) -> np.ndarray:
    known = np.unique(labels[labels >= 0])
    return np.where(labels < 0, -1, np.searchsorted(known, labels)).astype(np.int64)


def test_equally_dense_images_go_by_their_order() -> None:
    rows = torch.eye(6)[:, :6] * 0.1 + torch.tensor([1.0, 0, 0, 0, 0, 0])
    labels = torch.zeros(6, dtype=torch.int64)
    torch.testing.assert_close(density_prototypes(rows, labels, 2), rows[:2].mean(0, keepdim=True))


def test_labels_move_to_the_nearest_prototype_and_noise_stays() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [0.9, 0.1], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 1, 1, -1])
    prototypes = density_prototypes(features, labels, 2)
    found = nearest_prototypes(features, labels, prototypes)
    assert found.tolist() == [0, 0, 1, 1, 0, -1]
    assert found.tolist() == reference.nearest_prototypes(
        features.numpy(), labels.numpy(), prototypes.numpy()
    )


def test_noise_alone() -> None:
    features, labels = torch.eye(3), torch.full((3,), -1)
    prototypes = density_prototypes(features, labels, 2)
    assert prototypes.shape == (0, 3)
    assert torch.equal(nearest_prototypes(features, labels, prototypes), labels)
