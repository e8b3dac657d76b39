"""Memories of clusters, their matching, confidence and prototypes (MMM) against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from methods.association.confidence import LastLosses, best_split, fit_mixture, loss_confidence
from methods.association.multi_memory import (
    Memories,
    assigned_match,
    matched_labels,
    memory_distance,
    nearest_match,
    set_distance,
    split_memories,
)
from methods.association.weighted_prototypes import WeightedPrototypes
from methods.errors import MethodError
from tests.reference import multi_memory as reference

quick = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 10_000)


def real_centres(memories: Memories) -> list[np.ndarray]:
    return [rows[: int(count)].numpy() for rows, count in zip(memories.centres, memories.count, strict=True)]


def members(features: torch.Tensor, labels: torch.Tensor) -> list[np.ndarray]:
    return [features[labels == k].numpy() for k in range(int(labels.max()) + 1)]


@given(SEEDS, st.integers(1, 4), st.lists(st.integers(1, 6), min_size=1, max_size=3))
@quick
def test_the_split_is_the_best_there_is(seed: int, k: int, sizes: list[int]) -> None:
    generator = np.random.default_rng(seed)
    labels = np.append(np.repeat(np.arange(len(sizes)), sizes), [-1, -1])
    order = generator.permutation(len(labels))
    features = torch.from_numpy(generator.standard_normal((len(labels), 3))).float()[order]
    labels = torch.from_numpy(labels[order])
    found = split_memories(features, labels, k, starts=20)
    assert found.count.tolist() == [min(k, size) for size in sizes]
    for rows, centres in zip(members(features, labels), real_centres(found), strict=True):
        best = reference.least_inertia(rows, k)
        # k-means ends in the best split of several, which need not be the best of all
        assert best - 1e-5 <= reference.inertia(rows, centres) <= 1.5 * best + 1e-5


def test_the_split_is_as_good_as_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    sizes = [5, 40, 4, 100, 17, 30]
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    features = torch.from_numpy(generator.standard_normal((len(labels), 8))).float()
    found = split_memories(features, labels)
    for rows, centres in zip(members(features, labels), real_centres(found), strict=True):
        theirs = KMeans(4, n_init=10, random_state=0).fit(rows).inertia_
        assert reference.inertia(rows, centres) <= 1.1 * theirs + 1e-5


def test_blocks_and_neighbours_in_a_block_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 9, (200,), generator=generator)
    centres = 10 * torch.randn(9, 3, 6, generator=generator)
    features = centres[labels.clamp(min=0), torch.randint(3, (200,), generator=generator)]
    features = features + 0.01 * torch.randn(200, 6, generator=generator)
    whole = split_memories(features, labels, 3)
    for block in (1, 100, 300):
        torch.testing.assert_close(split_memories(features, labels, 3, block=block).centres, whole.centres)
    alone = split_memories(features[labels == 4], torch.zeros(int((labels == 4).sum()), dtype=torch.int64), 3)
    torch.testing.assert_close(alone.centres[0], whole.centres[4])


def test_dimensions_that_say_nothing_change_nothing() -> None:
    """Clusters with fewer members than dimensions are split by their inner products, others by their rows."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 30 + [1] * 9)
    features = torch.randn(39, 8, generator=generator)
    padded = torch.nn.functional.pad(features, (0, 40))
    expected = torch.nn.functional.pad(split_memories(features, labels).centres, (0, 40))
    torch.testing.assert_close(split_memories(padded, labels).centres, expected)


def test_small_clusters_and_equal_images() -> None:
    features = torch.tensor([[1.0, 0], [0, 1], [2, 2], [2, 2], [2, 2], [2, 2], [2, 2], [3, 0]])
    labels = torch.tensor([0, 0, 1, 1, 1, 1, 1, 2])
    found = split_memories(features, labels)
    assert found.count.tolist() == [2, 4, 1]
    assert {tuple(row) for row in found.centres[0, :2].tolist()} == {(1.0, 0.0), (0.0, 1.0)}
    torch.testing.assert_close(found.centres[1], torch.full((4, 2), 2.0))
    assert found.centres[2].tolist() == [[3.0, 0.0], [0, 0], [0, 0], [0, 0]]
    assert split_memories(features, torch.full((8,), -1)).centres.shape == (0, 4, 2)


@given(SEEDS, st.lists(st.integers(1, 3), max_size=5), st.lists(st.integers(1, 3), max_size=5))
@quick
def test_distances_partners_and_labels(seed: int, visible: list[int], infrared: list[int]) -> None:
    generator = np.random.default_rng(seed)

    def sets(counts: list[int]) -> Memories:
        centres = torch.from_numpy(generator.integers(-2, 3, (len(counts), 3, 2))).float()
        return Memories(centres, torch.tensor(counts, dtype=torch.int64))

    v, r = sets(visible), sets(infrared)
    found = set_distance(v, r, block=2)
    expected = reference.set_distance(real_centres(v), real_centres(r), 3)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    if not visible or not infrared:
        return
    distance = torch.from_numpy(expected.round(3))
    assert nearest_match(distance).tolist() == reference.nearest(distance.numpy())
    assigned = assigned_match(distance).numpy()
    small = min(distance.shape)
    cost = distance.numpy()
    if len(visible) <= len(infrared):
        assert len(set(assigned)) == small
        assert cost[np.arange(len(assigned)), assigned].sum() == pytest.approx(reference.assigned(cost))
    else:
        assert set(assigned) == set(range(len(infrared)))
        assert cost.min(1).sum() <= cost[np.arange(len(assigned)), assigned].sum() + 1e-9
    y = [generator.integers(-1, k, 12) for k in cost.shape]
    y = [np.append(labels, np.arange(k)) for labels, k in zip(y, cost.shape, strict=True)]
    ours = matched_labels(*map(torch.from_numpy, y), distance)
    assert ours[0].tolist() == [reference.nearest(cost)[k] if k >= 0 else -1 for k in y[0]]
    assert ours[1].tolist() == y[1].tolist()
    if len(infrared) > 1:
        public = matched_labels(*map(torch.from_numpy, y), distance, match_all=False)
        assert [labels.tolist() for labels in public] == [
            *map(list, reference.published_labels(y[0].tolist(), y[1].tolist(), cost))
        ]


def test_far_more_clusters_on_one_side_and_single_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    many = torch.arange(30).repeat_interleave(4), torch.randn(120, 5, generator=generator)
    one = torch.zeros(4, dtype=torch.int64), torch.randn(4, 5, generator=generator)
    distance = memory_distance(many[::-1], one[::-1])
    assert distance.shape == (30, 1)
    assert matched_labels(many[0], one[0], distance)[0].unique().tolist() == [0]
    back = matched_labels(one[0], many[0], memory_distance(one[::-1], many[::-1]))[0].unique()
    assert len(back) == 1
    with pytest.raises(MethodError, match="no infrared cluster to match with"):
        matched_labels(many[0], one[0], distance, match_all=False)
    # with one visible cluster nothing is matched in the published way, and its number stays
    alone = matched_labels(one[0], many[0], torch.zeros(1, 30), match_all=False)
    assert alone[0].tolist() == [0, 0, 0, 0]


@given(st.lists(st.integers(0, 40), min_size=3, max_size=30), st.integers(0, 1))
@quick
def test_mixture_equals_the_loops(values: list[int], given_start: int) -> None:
    scaled = [0.0, 1.0, *(value / 40 for value in values)]
    split = best_split(torch.tensor(scaled, dtype=torch.float64))
    assert split in scaled
    assert split < 1
    # several splits may be equally good up to rounding
    assert reference.spread(scaled, split) == pytest.approx(reference.least_spread(scaled), rel=1e-12)
    start = sorted(scaled)[len(scaled) // 2] if given_start else split
    if start == 1.0:
        start = split
    found = fit_mixture(torch.tensor(scaled, dtype=torch.float64), start)
    posterior, steps = reference.lower_component(scaled, start)
    assert found.steps == steps
    np.testing.assert_allclose(found.lower.numpy(), posterior, atol=1e-6)


def test_images_without_a_loss_are_trusted_or_the_surest() -> None:
    costs = torch.tensor([[0.1, 0.2, 0.1, 5.0, 5.1, torch.nan], [0.3, 0.1, 0.2, 6.0, 6.1, torch.nan]])
    found = loss_confidence(costs)
    assert bool((found[:, :3] > 0.99).all())
    assert bool((found[:, 3:5] < 0.01).all())
    assert found[:, 5].tolist() == [1, 1]
    # -1 stands apart from losses that are close to one another
    public = loss_confidence(torch.cat([4 + costs / 20, costs[:, 5:]], 1), unvisited="minimum")
    assert bool((public[:, 5:] > 0.99).all())
    assert bool((public[:, :5] < 0.01).all())


def test_losses_that_are_all_the_same_are_trusted() -> None:
    same = torch.full((1, 7), 0.5)
    assert loss_confidence(same).tolist() == [[1.0] * 7]
    assert loss_confidence(torch.full((2, 3), torch.nan)).tolist() == [[1.0] * 3] * 2
    mixed = loss_confidence(torch.cat([same, torch.arange(7)[None].float()]))
    assert mixed[0].tolist() == [1.0] * 7
    assert mixed[1, 0] > 0.9
    assert mixed[1, 6] < 0.1


def test_the_last_loss_of_an_image_counts() -> None:
    losses = LastLosses(2, 4, torch.device("cpu"))
    losses.add(torch.tensor([0, 0, 1, 0]), torch.tensor([2, 3, 2, 2]), torch.tensor([1.0, 2, 3, 4]))
    losses.add(torch.tensor([0]), torch.tensor([3]), torch.tensor([7.0]))
    expected = torch.tensor([[torch.nan, torch.nan, 4, 7], [torch.nan, torch.nan, 3, torch.nan]])
    torch.testing.assert_close(losses.costs, expected, equal_nan=True)


def test_prototypes_are_sums_over_counts_and_stay_where_no_image_is() -> None:
    prototypes = WeightedPrototypes(torch.full((2, 3, 2), 9.0))
    x = torch.tensor([[1.0, 0], [0, 1], [2, 2], [4, 0]])
    prototypes.add(
        torch.tensor([0, 0, 1, 0]), torch.tensor([1, 1, 0, 2]), x, torch.tensor([1.0, 0.5, 0.1, 0])
    )
    prototypes.add(torch.tensor([0]), torch.tensor([1]), torch.tensor([[5.0, 5]]), torch.tensor([0.4]))
    assert prototypes.rows[0, 0].tolist() == [9, 9]
    torch.testing.assert_close(prototypes.rows[0, 1], torch.tensor([1.0, 0.5 / 3 + 2 / 3]))
    assert prototypes.rows[0, 2].tolist() == [0, 0]
    torch.testing.assert_close(prototypes.rows[1, 0], torch.tensor([0.2, 0.2]))
    prototypes.begin()
    prototypes.add(torch.tensor([1]), torch.tensor([0]), torch.ones(1, 2), torch.ones(1))
    assert prototypes.rows[1, 0].tolist() == [1, 1]
    torch.testing.assert_close(prototypes.rows[0, 1], torch.tensor([1.0, 0.5 / 3 + 2 / 3]))
