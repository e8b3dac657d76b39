"""Reliability of clusters against set arithmetic, and the threshold's index rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.association.reliability import (
    Reliability,
    independence_threshold,
    label_distance,
    reliability,
    reliable_labels,
)
from tests.methods.association.cases import tensor
from tests.reference import association as reference


@st.composite
def labelings(draw: st.DrawFn) -> list[np.ndarray]:
    n = draw(st.integers(0, 14))
    each = st.lists(st.integers(-1, 3), min_size=n, max_size=n)
    return [np.array(draw(each), dtype=np.int64) for _ in range(3)]


@given(labelings(), st.sampled_from([None, 0.0, 0.3, 1.0]))
@settings(max_examples=50, deadline=None)
def test_equals_set_arithmetic(case: list[np.ndarray], threshold: float | None) -> None:
    found = reliability(*(tensor(each) for each in case))
    own = [reference.own_labels(each) for each in case]
    assert found.labels.tolist() == own[0]
    assert found.compactness.tolist() == reference.set_distance(own[0], own[1])
    assert found.independence.tolist() == reference.set_distance(own[0], own[2])
    limit, expected = reference.self_paced(*case, threshold)
    used = independence_threshold(found) if threshold is None else threshold
    assert reliable_labels(found, 0.0 if used is None else used).tolist() == expected
    assert used in (limit, None)


def test_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, -1])
    tight = torch.tensor([0, 0, -1, 1, 1, 1, -1])
    loose = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    found = reliability(labels, tight, loose)
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert found.compactness.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 0, 0, 0, 0])
    assert found.independence.tolist() == pytest.approx([0, 0, 0, 1 / 4, 1 / 4, 1 / 4, 3 / 4])
    assert independence_threshold(found) == pytest.approx(1 / 4)
    # at 0.25 the noise sample becomes another singleton; at 0 cluster 1 is taken apart as well
    assert reliable_labels(found, 0.25).tolist() == [0, 0, 3, 1, 1, 1, 4]
    assert reliable_labels(found, 0.0).tolist() == [0, 0, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("m", "entry"), [(1, 0), (2, 1), (3, 2), (5, 4), (10, 9), (15, 14), (20, 18), (40, 36)]
)
def test_threshold_index(m: int, entry: int) -> None:
    values = torch.linspace(0, 1, m, dtype=torch.float64).flip(0)
    # a singleton's value takes no part
    independence, size = torch.cat([values, values.new_tensor([-1.0])]), torch.tensor([2] * m + [1])
    unused = torch.empty(0)
    found = Reliability(unused, unused, unused, independence, independence, size)
    assert independence_threshold(found) == float(values.flip(0)[entry])


def test_all_noise() -> None:
    noise = torch.full((4,), -1)
    found = reliability(noise, noise, noise)
    assert independence_threshold(found) is None
    assert reliable_labels(found, 0.0).tolist() == [0, 1, 2, 3]


def test_distance_is_one_minus_jaccard_for_any_numbering() -> None:
    first, second = torch.tensor([7, 7, 7, 2]), torch.tensor([0, 0, 9, 9])
    assert label_distance(first, second).tolist() == pytest.approx([1 / 3, 1 / 3, 3 / 4, 1 / 2])
