"""Losses against plain loops, and the facts that fix their signs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.parts.alignment import prediction_alignment, reverse_gradient
from methods.parts.losses import (
    batch_hard_triplet,
    enhanced_squared_difference,
    weighted_regularized_triplet,
)
from tests.reference import losses as reference

LOSSES = [batch_hard_triplet, weighted_regularized_triplet, enhanced_squared_difference]

seeds = st.integers(0, 2**32 - 1)


def batch(seed: int, labels: list[int], scale: float) -> tuple[Tensor, Tensor]:
    x = np.random.default_rng(seed).standard_normal((len(labels), 4)) * scale
    return torch.from_numpy(x), torch.tensor(labels)


def central_difference(loss, x: Tensor) -> tuple[Tensor, Tensor]:
    """Slope along a fixed random direction, and the direction."""
    direction = torch.from_numpy(np.random.default_rng(9).choice([-1.0, 1.0], size=tuple(x.shape)))
    return (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6, direction


batches = given(
    seed=seeds,
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=10),
    scale=st.sampled_from([0.1, 1.0, 20.0]),
)


@settings(max_examples=50, deadline=None)
@batches
def test_triplet_equals_the_loops(seed: int, labels: list[int], scale: float) -> None:
    """One label only and single samples included."""
    x, y = batch(seed, labels, scale)
    expected = reference.batch_hard_triplet(x.numpy(), y.numpy(), 0.3)
    assert float(batch_hard_triplet(x, y)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("loss", "slow"),
    [
        (weighted_regularized_triplet, reference.weighted_regularized_triplet),
        (enhanced_squared_difference, reference.enhanced_squared_difference),
    ],
)
@settings(max_examples=50, deadline=None)
@batches
def test_weighted_losses_equal_the_loops(loss, slow, seed: int, labels: list[int], scale: float) -> None:
    x, y = batch(seed, labels, scale)
    # the distance of a sample to itself is rounding noise of size sqrt(eps) |x| in matrix form, 1e-6 in loops
    assert float(loss(x, y)) == pytest.approx(slow(x.numpy(), y.numpy()), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_finite_and_those_of_the_value(loss) -> None:
    x, y = batch(4, [0, 0, 1, 1, 2, 2], 1.0)
    x = x.requires_grad_()
    loss(x, y).backward()
    slope, direction = central_difference(lambda v: loss(v, y), x.detach())
    assert float((x.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_gradients_without_positives_or_negatives_are_finite(loss, labels: list[int]) -> None:
    x, y = batch(4, labels, 50.0)
    x = torch.cat([x, x[:1]]).float().requires_grad_()
    loss(x, torch.cat([y, y[:1]])).backward()
    assert torch.isfinite(x.grad).all()


def test_epsilon_shrinks_the_negative_term_at_large_distances() -> None:
    """Quirk Q39: with distances well above -log(1e-6) the negative weights add up to almost nothing."""
    x = torch.tensor([[0.0], [0.0], [40.0], [40.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1])
    assert float(weighted_regularized_triplet(x, y)) == pytest.approx(np.log(2), abs=1e-6)


def difference_of(*positions: float) -> tuple[float, bool]:
    """Enhanced squared difference of two pairs on a line, and whether every anchor is satisfied; all or none are."""
    x, y = torch.tensor(positions, dtype=torch.float64)[:, None], torch.tensor([0, 0, 1, 1])
    satisfied = {p <= n for p, n in reference.weighted(x.numpy(), y.numpy())}
    assert len(satisfied) == 1
    return float(enhanced_squared_difference(x, y)), satisfied.pop()


def test_squared_difference_falls_with_the_margin_and_grows_with_the_violation() -> None:
    narrow, wide = difference_of(0, 0.1, 1, 1.1), difference_of(0, 0.1, 3, 3.1)
    assert narrow[1]
    assert wide[1]
    assert wide[0] < narrow[0] < np.log(2)
    slight, severe = difference_of(0, 2, 0.1, 2.1), difference_of(0, 3, 0.1, 3.1)
    assert not slight[1]
    assert not severe[1]
    assert np.log(2) < slight[0] < severe[0]


def test_squared_difference_is_finite_at_any_distance() -> None:
    assert np.isfinite(difference_of(0, 1000, 0.1, 1000.1)[0])


@settings(max_examples=50, deadline=None)
@given(seed=seeds, sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6)))
def test_prediction_alignment_equals_the_loops(seed: int, sizes: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(seed)
    visible, infrared = (generator.standard_normal((n, sizes[2])) * 3 for n in sizes[:2])
    found = prediction_alignment(torch.from_numpy(visible), torch.from_numpy(infrared), (0.1, 0.5))
    assert float(found) == pytest.approx(
        reference.prediction_alignment(visible, infrared, (0.1, 0.5)), abs=1e-9
    )


def test_prediction_alignment_differentiates_both_sides() -> None:
    generator = np.random.default_rng(2)
    visible, infrared = (
        torch.from_numpy(generator.standard_normal((4, 5))).requires_grad_() for _ in range(2)
    )
    assert torch.autograd.gradcheck(prediction_alignment, (visible, infrared))
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        gradients = torch.autograd.grad(prediction_alignment(visible, infrared, weights), (visible, infrared))
        assert all(float(g.abs().max()) > 1e-4 for g in gradients)


def test_gradient_reversal() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    (y * torch.tensor([4.0, 8.0])).sum().backward()
    assert x.grad.tolist() == [-1.0, -2.0]


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_float32(loss) -> None:
    x, y = batch(1, [0, 0, 1, 1], 3.0)
    low = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(low, y)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(low.float(), y))
