"""Bipartite matching: the one-to-one part against all permutations, rounds of leftovers, degenerate sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.matching import match_by_transport, match_clusters
from methods.errors import MethodError
from tests.methods.association.cases import grid_rows, rows_with_cosines, tensor
from tests.reference import association as reference


def units(seed: int, n: int) -> Tensor:
    return normalize(torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 5)))).float()


def check(visible: Tensor, infrared: Tensor) -> None:
    """Every rule of a matching but the optimality of the later rounds."""
    found = match_clusters(visible, infrared)
    forth, back = found.visible_to_infrared, found.infrared_to_visible
    assert forth.shape == (len(visible),)
    assert back.shape == (len(infrared),)
    if not len(visible) or not len(infrared):
        assert (forth == -1).all()
        assert (back == -1).all()
        assert not found.one_to_one.any()
        return
    assert bool(((forth >= 0) & (forth < len(infrared))).all())
    assert bool(((back >= 0) & (back < len(visible))).all())
    small = min(len(visible), len(infrared))
    p = found.one_to_one.nonzero()[:, 0]
    assert len(p) == len(forth[p].unique()) == small
    cost = np.exp(-(visible.double() @ infrared.double().T).numpy())
    assert cost[p, forth[p]].sum() == pytest.approx(reference.least_assignment_cost(cost))
    used = np.bincount(forth if len(visible) >= len(infrared) else back, minlength=small)
    assert used.max() - used.min() <= 1  # a round serves nobody twice


@given(grid_rows(0, 6), grid_rows(0, 6), st.booleans())
@settings(max_examples=50, deadline=None)
def test_rules_hold_with_ties_and_empty_sides(one: np.ndarray, two: np.ndarray, swap: bool) -> None:
    check(*(tensor(each) for each in ((two, one) if swap else (one, two))))


@pytest.mark.parametrize("small", [1, 2, 3])
@pytest.mark.parametrize("excess", ["S", "S+1", "2S", "2S+3"])
@pytest.mark.parametrize("flipped", [False, True])
def test_all_clusters_are_mapped(small: int, excess: str, flipped: bool) -> None:
    large = {"S": small, "S+1": small + 1, "2S": 2 * small, "2S+3": 2 * small + 3}[excess]
    one, two = units(large, large), units(100 + small, small)
    check(*((two, one) if flipped else (one, two)))


@pytest.mark.parametrize("small", [4, 5, 6])
def test_one_to_one_part_is_optimal(small: int) -> None:
    for seed in range(5):
        check(units(seed, small), units(50 + seed, small))
        check(units(seed, small + 1), units(50 + seed, small))


def test_swapping_the_sides_swaps_the_maps() -> None:
    one, two = units(1, 7), units(2, 3)
    forth, back = match_clusters(one, two), match_clusters(two, one)
    assert torch.equal(forth.visible_to_infrared, back.infrared_to_visible)
    assert torch.equal(forth.infrared_to_visible, back.visible_to_infrared)


def test_cost_is_the_exponential_not_the_cosine() -> None:
    # cosines 0.95 - 0.75 = 0.2 against 0.05 + 0.1 = 0.15, yet exp(-0.95) + exp(0.75) > exp(-0.05) + exp(-0.1)
    rows = rows_with_cosines(np.array([[0.95, 0.05], [0.1, -0.75]]))
    assert match_clusters(*rows).visible_to_infrared.tolist() == [1, 0]


def test_leftovers_take_the_best_partner_round_after_round() -> None:
    cosines = np.array([[0.9, 0.0], [0.0, 0.9], [0.8, 0.1], [0.2, 0.7], [0.6, 0.5]])
    found = match_clusters(*rows_with_cosines(cosines))
    assert found.visible_to_infrared.tolist() == [0, 1, 0, 1, 0]
    assert found.infrared_to_visible.tolist() == [0, 1]
    assert found.one_to_one.tolist() == [True, True, False, False, False]


def test_rows_that_are_not_finite_are_refused() -> None:
    for match in (match_clusters, match_by_transport):
        with pytest.raises(MethodError, match="not finite"):
            match(torch.tensor([[torch.nan, 0.0]]), torch.eye(2))


@pytest.mark.parametrize(("n_v", "n_r"), [(1, 1), (1, 5), (5, 1), (12, 7), (40, 3), (3, 40)])
def test_transport_gives_everybody_a_partner(n_v: int, n_r: int) -> None:
    visible, infrared = units(3, n_v), units(4, n_r)
    found = match_by_transport(visible, infrared)
    mass, _ = reference.transport_plan(np.exp(-(visible.double() @ infrared.double().T).numpy()), 5.0, 1e-5)
    forth = mass.argmax(1) if n_v > 1 else [0]
    back = mass.argmax(0) if n_r > 1 else [0]
    assert found.visible_to_infrared.tolist() == list(forth)
    assert found.infrared_to_visible.tolist() == list(back)


@pytest.mark.parametrize(("n_v", "n_r"), [(0, 3), (3, 0), (0, 0)])
def test_transport_without_clusters_on_a_side(n_v: int, n_r: int) -> None:
    found = match_by_transport(units(0, 3)[:n_v], units(1, 3)[:n_r])
    assert found.visible_to_infrared.tolist() == [-1] * n_v
    assert found.infrared_to_visible.tolist() == [-1] * n_r


def test_transport_corrects_for_popular_clusters() -> None:
    # infrared cluster 0 is everybody's nearest; the plan sends visible cluster 1 to 1 all the same
    cosines = np.array([[0.9, 0.1], [0.8, 0.75], [0.9, 0.2]])
    assert match_by_transport(*rows_with_cosines(cosines)).visible_to_infrared.tolist()[1] == 1
