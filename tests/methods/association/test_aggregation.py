"""Counting, voting, refinement and mutual neighbours against plain loops, with exact ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.association.aggregation import (
    PairCounts,
    aggregate_by_counts,
    aggregate_rows,
    pair_counts,
    propagate_labels,
    refine_rows,
    smooth_labels,
)
from methods.association.neighbours import mutual_neighbours, top_neighbours
from tests.methods.association.cases import GRID, grid_rows, labelled, rows_with_cosines, tensor
from tests.reference import association as reference

Labelled = tuple[np.ndarray, np.ndarray]
BLOCKS = st.sampled_from([1, 2, 3, 1024])
quick = settings(max_examples=50, deadline=None)


@given(labelled(), labelled(), st.sampled_from([-2.0, 0.0, 0.5, 2.0]), BLOCKS)
@quick
def test_counts_and_greedy_acceptance(v: Labelled, r: Labelled, threshold: float, block: int) -> None:
    counts, best = reference.pair_counts(v[0], r[0], v[1], r[1], threshold)
    found = pair_counts(tensor(v[0]), tensor(r[0]), tensor(v[1]), tensor(r[1]), threshold, block=block)
    assert np.array_equal(found.counts.numpy(), counts)
    assert np.array_equal(found.best.numpy(), best)
    assert aggregate_by_counts(found).tolist() == reference.aggregate(counts, best)


def hand_made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Visible clusters 0, 1, 2 (two images each) and noise; infrared 0, 1, 2 and noise.

    At 0.5: n(0, 0) = n(1, 0) = 2, the best pair of (1, 0) is closer; n(0, 1) = 1; cluster 2 has no pair.
    """
    cosines = np.array(
        [
            [0.6, 0.5, 0.0, 0.9],
            [0.7, 0.4, 0.0, 0.9],
            [0.8, 0.0, 0.1, 0.9],
            [0.5, 0.0, 0.2, 0.9],
            [0.4, 0.3, 0.49, 0.9],
            [0.1, 0.2, 0.3, 0.9],
            [0.9, 0.9, 0.9, 0.9],
        ]
    )
    visible, infrared = rows_with_cosines(cosines)
    return visible, infrared, torch.tensor([0, 0, 1, 1, 2, 2, -1]), torch.tensor([0, 1, 2, -1])


def test_adca_by_hand() -> None:
    visible, infrared, y_v, y_r = hand_made()
    pairs = pair_counts(visible, infrared, y_v, y_r)
    assert pairs.counts.tolist() == [[2, 1, 0], [2, 0, 0], [0, 0, 0]]
    partner = aggregate_by_counts(pairs)
    assert partner.tolist() == [1, 0, -1]
    c_v, c_r = torch.eye(3, 4), torch.eye(4)[1:]
    old_v, old_r = c_v.clone(), c_r.clone()
    moved = aggregate_rows(c_v, c_r, partner)
    assert torch.equal(c_r, old_r)
    assert torch.equal(c_v, old_v)
    torch.testing.assert_close(moved[:2], 0.1 * old_v[:2] + 0.9 * old_r[[1, 0]])
    assert torch.equal(moved[2], old_v[2])
    # rows 0 and partner 1 are orthogonal: the norm is left as it is
    assert float(moved[0].square().sum()) == pytest.approx(0.82)


def test_equal_counts_and_similarities_go_to_the_lower_numbers() -> None:
    pairs = PairCounts(torch.full((2, 3), 4), torch.full((2, 3), 0.7))
    assert aggregate_by_counts(pairs).tolist() == [0, 1]


def test_nothing_similar_changes_nothing() -> None:
    visible, infrared, y_v, y_r = hand_made()
    partner = aggregate_by_counts(pair_counts(visible, infrared, y_v, y_r, threshold=0.95))
    assert partner.tolist() == [-1, -1, -1]
    assert torch.equal(aggregate_rows(visible[:3], infrared, partner), visible[:3])


@given(grid_rows(), grid_rows(), st.integers(1, 12), BLOCKS)
@quick
def test_neighbours(queries: np.ndarray, keys: np.ndarray, k: int, block: int) -> None:
    similarity, index = top_neighbours(tensor(queries), tensor(keys), k, block=block)
    assert index.shape == (len(queries), min(k, len(keys)))
    assert index.tolist() == [reference.nearest(f, keys, k) for f in queries]
    assert torch.equal(similarity, (tensor(queries) @ tensor(keys).T).gather(1, index))


@given(grid_rows(), labelled(), st.integers(1, 12), BLOCKS)
@quick
def test_propagation(queries: np.ndarray, keys: Labelled, k: int, block: int) -> None:
    found = propagate_labels(tensor(queries), tensor(keys[0]), tensor(keys[1]), k, block=block)
    assert found.tolist() == reference.propagate(queries, *keys, k)


@given(labelled(), st.integers(1, 12), BLOCKS)
@quick
def test_smoothing(case: Labelled, k: int, block: int) -> None:
    found = smooth_labels(tensor(case[0]), tensor(case[1]), k, block=block)
    assert found.tolist() == reference.smooth(*case, k)


def test_noise_that_wins_the_vote_drops_the_image() -> None:
    visible, infrared = rows_with_cosines(np.array([[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.9, 0.8]]))
    labels = torch.tensor([-1, -1, 0, 0])
    assert propagate_labels(visible, infrared, labels, 3).tolist() == [-1, 0]


def test_votes_are_weighted_and_only_the_nearest_vote() -> None:
    visible, infrared = rows_with_cosines(np.array([[1.0, 0.2, 0.1, 0.0, 0.0, 0.0]]))
    labels = torch.tensor([2, 1, 1, 0, 0, 0])
    # exp(1) > exp(0.2) + exp(0.1), and the three of class 0 would outvote both
    assert propagate_labels(visible, infrared, labels, 3).tolist() == [2]
    assert propagate_labels(visible, infrared, labels, 6).tolist() == [0]


def test_a_tie_goes_to_noise_then_to_the_lowest_class() -> None:
    visible, infrared = rows_with_cosines(np.full((1, 2), 0.5))
    assert propagate_labels(visible, infrared, torch.tensor([3, 1]), 2).tolist() == [1]
    assert propagate_labels(visible, infrared, torch.tensor([0, -1]), 2).tolist() == [-1]


def test_smoothing_includes_the_sample_itself() -> None:
    duplicates = tensor(GRID[[0, 0, 0, 0]])
    labels = torch.tensor([3, 2, 1, 0])
    assert smooth_labels(duplicates, labels, 1).tolist() == [3, 2, 1, 0]
    # the other place goes to the duplicate of lowest index
    assert smooth_labels(duplicates, labels, 2).tolist() == [2, 2, 1, 0]


@given(labelled(), labelled(), st.integers(1, 12), BLOCKS)
@quick
def test_mutual_neighbours(v: Labelled, r: Labelled, k: int, block: int) -> None:
    found = mutual_neighbours(tensor(v[0]), tensor(r[0]), tensor(v[1]), tensor(r[1]), k, block=block)
    assert found.tolist() == reference.mutual(v[0], r[0], v[1], r[1], k)
    assert found.shape[1:] == (2,)


@given(labelled(), grid_rows(0, 5), BLOCKS)
@quick
def test_refinement(case: Labelled, rows: np.ndarray, block: int) -> None:
    given_rows = tensor(rows)
    found = refine_rows(tensor(case[0]), tensor(case[1]), given_rows, block=block)
    expected = reference.refine(*case, rows, 0.5, 0.4)
    assert torch.allclose(found.double(), torch.from_numpy(expected), atol=1e-6)
    assert torch.equal(given_rows, tensor(rows))


def test_refinement_by_hand() -> None:
    rows = torch.eye(3)
    features = torch.tensor([[0.8, 0.6, 0.0], [0.6, 0.0, 0.8], [1.0, 0.0, 0.0], [0.36, 0.48, 0.8]])
    labels = torch.tensor([0, 0, 1, -1])
    # cluster 0: scores 0.2, 0.05, 0.15 -> row 0, both members close; cluster 1: row 0 again, after it
    first = 0.4 * rows[0] + 0.6 * features[:2].mean(0)
    expected = torch.stack([0.4 * first + 0.6 * features[2], rows[1], rows[2]])
    torch.testing.assert_close(refine_rows(features, labels, rows), expected)
