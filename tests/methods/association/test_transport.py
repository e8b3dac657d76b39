"""Optimal transport: marginals, labels against the plain scaling, underflow, and degenerate predictions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.association.transport import _log_plan, sinkhorn_labels, transport_plan
from methods.errors import MethodError
from tests.reference import association as reference


def predictions(seed: int, n: int, k: int, sharpness: float = 1.0) -> torch.Tensor:
    logits = sharpness * np.random.default_rng(seed).standard_normal((n, k))
    return torch.from_numpy(logits).softmax(1)


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_labels_equal_the_plain_scaling(seed: int, n: int, k: int) -> None:
    p = predictions(seed, n, k, 0.3)
    plan = reference.sinkhorn(p.numpy(), 25, 0.1)
    ranked = np.sort(plan, axis=1)
    clear = ranked[:, -1] > ranked[:, -2] * (1 + 1e-9)
    found = _log_plan(25 * p.log(), 0.1, 10, 10_000).exp()
    np.testing.assert_allclose(found.numpy(), plan, rtol=1e-6, atol=1e-300)
    assert np.array_equal(sinkhorn_labels(p).numpy()[clear], plan.argmax(1)[clear])


@given(st.integers(0, 10_000), st.integers(2, 10), st.integers(2, 5), st.sampled_from([1.0, 10.0]))
@settings(max_examples=20, deadline=None)
def test_labels_equal_the_log_domain_reference(seed: int, n: int, k: int, sharpness: float) -> None:
    """Powers of such probabilities may underflow."""
    p = predictions(seed, n, k, sharpness)
    plan = reference.sinkhorn_log(p.numpy(), 25, 0.1)
    ranked = np.sort(plan, axis=1)
    clear = ranked[:, -1] > ranked[:, -2] + 1e-6
    assert np.array_equal(sinkhorn_labels(p).numpy()[clear], plan.argmax(1)[clear])


@pytest.mark.parametrize(("n", "k"), [(40, 4), (30, 30), (7, 12)])
def test_marginals_are_uniform_within_ten_per_cent(n: int, k: int) -> None:
    plan = _log_plan(25 * predictions(5, n, k).log(), 0.1, 10, 10_000).exp()
    assert float((plan.sum(0) * k - 1).abs().max()) <= 0.1
    assert float((plan.sum(1) * n - 1).abs().max()) <= 0.1


def test_the_stop_rule_is_tested_at_the_first_and_every_tenth_step() -> None:
    p = predictions(3, 20, 4, 0.5)
    plans = [_log_plan(25 * p.log(), 0.1, every, 10_000) for every in (1, 10)]
    np.testing.assert_allclose(plans[1].exp().numpy(), reference.sinkhorn(p.numpy(), 25, 0.1), rtol=1e-6)
    assert not torch.allclose(plans[0], plans[1], rtol=1e-9)


def test_probabilities_whose_power_underflows_still_decide() -> None:
    # the only mass of class 2 is 1e-20, to the 25th power below the smallest double
    p = torch.tensor([[0.9, 0.1, 1e-20], [0.1, 0.9, 1e-22], [0.6, 0.4, 1e-14]], dtype=torch.float64)
    assert sinkhorn_labels(p).tolist() == [0, 1, 2]


def test_a_class_that_nobody_can_take_is_left_out() -> None:
    p = torch.tensor([[0.0, 0.9, 0.1], [0.0, 0.2, 0.8]])
    assert sinkhorn_labels(p).tolist() == [1, 2]


def test_one_class() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sinkhorn_labels(torch.ones(4, 1)).tolist() == [0, 0, 0, 0]


def test_balance_beats_the_arg_max() -> None:
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert p.argmax(1).tolist() == [0, 0, 0, 0]
    assert sinkhorn_labels(p).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("row", [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2]])
def test_predictions_that_do_not_tell_samples_apart_are_not_accepted_silently(row: list[float]) -> None:
    with pytest.warns(RuntimeWarning, match="degenerate"):
        labels = sinkhorn_labels(torch.tensor([row] * 5))
    assert labels.tolist() == [0] * 5


def test_running_out_of_steps_is_said() -> None:
    with pytest.warns(RuntimeWarning, match="not converged after 2 steps"):
        sinkhorn_labels(predictions(1, 30, 5), max_steps=2)


def test_no_samples() -> None:
    assert sinkhorn_labels(torch.empty(0, 3)).shape == (0,)


@pytest.mark.parametrize("row", [[0.0, 0.0], [-0.1, 1.1], [torch.nan, 1.0]])
def test_rows_that_are_no_probabilities_are_refused(row: list[float]) -> None:
    with pytest.raises(MethodError, match="row 1 of the class probabilities"):
        sinkhorn_labels(torch.tensor([[0.5, 0.5], row]))


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 7), st.sampled_from([5.0, 0.3]))
@settings(max_examples=30, deadline=None)
def test_plan_between_clusters_equals_plain_loops(
    seed: int, rows: int, columns: int, flatness: float
) -> None:
    cost = np.exp(-np.random.default_rng(seed).uniform(-1, 1, (rows, columns)))
    mass, rounds = reference.transport_plan(cost, flatness, 1e-5)
    found = transport_plan(torch.from_numpy(cost), flatness, 1e-5)
    assert found.rounds == rounds
    np.testing.assert_allclose(found.mass, mass, rtol=1e-9)
    np.testing.assert_allclose(found.mass.sum(1), 1 / rows, rtol=1e-9)
    np.testing.assert_allclose(found.mass.sum(0), 1 / columns, atol=1e-5)


def test_rounds_of_a_plan_end() -> None:
    cost = torch.from_numpy(np.random.default_rng(1).uniform(0, 9, (5, 4)))
    assert transport_plan(cost, 0.1, 0.0, max_rounds=7).rounds == 7
