"""The search by projections: exact where it claims to be, and it says where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.clustering import Neighbours, nearest_neighbours, projection
from methods.clustering.kernels import numba_kernels, numba_search
from methods.clustering.neighbours import other_group_neighbours
from methods.clustering.projection import Projection, leading_directions, leading_projection, project
from tests.methods.clustering import cases
from tests.methods.clustering.test_search import by_product, nobody
from tests.reference import clustering as slow

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def few_directions(n: int, seed: int) -> Tensor:
    """Unit rows of 96 dimensions that lie near 8 of them, as a trained network's do."""
    g = torch.Generator().manual_seed(seed)
    place = torch.randn(n // 12, 8, generator=g)[torch.randint(n // 12, (n,), generator=g)]
    rows = (place + 0.5 * torch.randn(n, 8, generator=g)) @ torch.randn(8, 96, generator=g)
    return cases.unit((rows + 0.2 * torch.randn(n, 96, generator=g)).numpy())


def projected(
    features: Tensor, k: int, r: int, keep: int, group: Tensor | None = None
) -> tuple[Neighbours, Tensor]:
    """Search by `r` directions: lists, and the rows that are not proven."""
    group = nobody(len(features)) if group is None else group
    near = project(features, leading_directions(features, r))
    return numba_search.search_projected(features, k, group, near, keep)


@pytest.fixture
def no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bfloat16 units, on which few samples are worth a projection."""
    monkeypatch.setattr(numba_search, "has_bfloat16_units", lambda device: False)
    monkeypatch.setattr(projection, "MIN_SAMPLES_PER_DIMENSION", 1)
    monkeypatch.setattr(numba_search, "BLOCK", 256)


@pytest.mark.parametrize("r", [4, 12, 24])
def test_the_bound_covers_every_pair(r: int) -> None:
    features = few_directions(400, 0)
    near = project(features, leading_directions(features, r))
    length = torch.from_numpy(near.residual)
    error = ((near.rows @ near.rows.T).double() - features.double() @ features.double().T).abs()
    assert (error <= near.slack + length[:, None] * length).all()
    assert near.slack < 1e-4


def test_few_directions_give_the_neighbours_of_many_samples(no_bfloat16: None) -> None:
    features = few_directions(1300, 1)
    assert leading_projection(features, 10, 40, nobody(1300)) is not None
    found, expected = nearest_neighbours(features, 10), by_product(features, 10)
    assert torch.equal(found.index, expected.index)
    assert torch.equal(found.similarity, expected.similarity)


def test_pairs_of_one_group_stay_out(no_bfloat16: None) -> None:
    features, group = few_directions(700, 2), cases.groups(700, 3, 0)
    assert leading_projection(features, 10, 40, group.to(torch.int32)) is not None
    found = other_group_neighbours(features, 10, group, numba_kernels)
    similarity = slow.similarities(features.numpy())
    for i in range(0, 700, 50):
        among = [j for j in range(700) if group[i] != group[j]]
        assert found.index[i].tolist() == slow.ranked(similarity, i, among, 10)


@QUICK
@given(cases.features(), st.integers(1, 12), st.integers(1, 8), st.integers(1, 4))
def test_what_is_proven_is_right(features: Tensor, k: int, r: int, factor: int) -> None:
    """Any number of directions, ties and duplicates: a row is right, or said not to be."""
    k, r = min(k, len(features)), min(r, *features.shape)
    found, failed = projected(features, k, r, factor * k)
    proven = np.setdiff1d(np.arange(len(features)), failed.numpy())
    expected = by_product(features, k)
    assert torch.equal(found.index[proven], expected.index[proven])
    assert torch.equal(found.similarity[proven], expected.similarity[proven])


def test_directions_that_say_little_prove_nothing_and_are_not_taken() -> None:
    g = torch.Generator().manual_seed(3)
    features = cases.unit(torch.randn(900, 96, generator=g).numpy())
    assert len(projected(features, 10, 24, 40)[1]) > 800
    assert leading_projection(features, 10, 40, nobody(900)) is None


def test_a_residual_that_is_too_small_is_noticed() -> None:
    features = few_directions(600, 4)
    honest = project(features, leading_directions(features, 4))
    boast = Projection(honest.rows, 1e-6 * honest.residual, honest.slack)
    assert len(numba_search.search_projected(features, 10, nobody(600), boast, 40).unproven) > 500


def test_too_many_unproven_rows_are_searched_in_float32(
    no_bfloat16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "proves", lambda *_: True)
    g = torch.Generator().manual_seed(5)
    features = cases.unit(torch.randn(500, 64, generator=g).numpy())
    assert torch.equal(nearest_neighbours(features, 9).index, by_product(features, 9).index)
