"""Memories: slow references, and the edges of the update rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from methods.clustering.labels import own_label_for_noise
from methods.errors import MethodError
from methods.parts.memories import (
    ClusterMemory,
    InstanceMemory,
    compute_centroids,
    random_members,
)
from methods.parts.update_rules import UPDATE_RULES, member_table
from tests.reference import memory as reference


def units(generator: np.random.Generator, *shape: int) -> Tensor:
    return normalize(torch.from_numpy(generator.standard_normal(shape)))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


seeds, momenta = st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.2, 0.9])


@settings(max_examples=50, deadline=None)
@given(
    seed=seeds,
    momentum=momenta,
    size=st.integers(1, 20),
    rule=st.sampled_from(["sequential", "hardest", "mean"]),
)
def test_updates_equal_the_loops(seed: int, momentum: float, size: int, rule: str) -> None:
    generator = np.random.default_rng(seed)
    rows, features = units(generator, 6, 5), units(generator, size, 5)
    labels = generator.integers(6, size=size)
    expected = getattr(reference, rule)(rows.numpy(), features.numpy(), labels, momentum)
    memory = ClusterMemory(rows, 0.05, momentum, rule)
    memory.update(features, torch.from_numpy(labels))
    np.testing.assert_allclose(memory.centroids.numpy(), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=seeds, momentum=momenta, size=st.integers(1, 20))
def test_random_update_is_sequential_in_shuffled_order(seed: int, momentum: float, size: int) -> None:
    generator = np.random.default_rng(seed)
    rows, features = units(generator, 4, 5), units(generator, size, 5)
    labels = torch.from_numpy(generator.integers(4, size=size))
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    expected = reference.sequential(rows.numpy(), features[order].numpy(), labels[order].numpy(), momentum)
    shuffle = torch.Generator().manual_seed(seed)
    memory = ClusterMemory(rows, 0.05, momentum, "random", generator=shuffle)
    memory.update(features, labels)
    np.testing.assert_allclose(memory.centroids.numpy(), expected, atol=1e-12)


def test_random_update_draws_every_sample_equally_often() -> None:
    features = torch.eye(4)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.zeros(4)
    for _ in range(2000):
        memory = ClusterMemory(torch.ones(1, 4) / 2, 0.05, 0.0, "random", generator=generator)
        memory.update(features, torch.zeros(4, dtype=torch.int64))
        drawn += memory.centroids[0]
    # 5 standard deviations of a binomial count around 500
    assert (drawn - 500).abs().max() < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_random_update_needs_a_generator() -> None:
    memory = ClusterMemory(torch.eye(2), 0.05, 0.0, "random")
    with pytest.raises(MethodError, match="generator"):
        memory.update(torch.eye(2), torch.tensor([0, 1]))


def test_sequential_leaves_practically_the_last_sample() -> None:
    generator = np.random.default_rng(3)
    centre = units(generator, 1, 64)
    features = normalize(centre + 0.07 * torch.from_numpy(generator.standard_normal((16, 64))))
    assert float((features @ features.T).min()) > 0.5
    memory = ClusterMemory(units(generator, 1, 64), 0.05, 0.1, "sequential")
    memory.update(features, torch.zeros(16, dtype=torch.int64))
    assert float(memory.centroids[0] @ features[-1]) > 0.99


def test_hardest_takes_the_first_of_two_equal_similarities() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0]])
    features = torch.tensor([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    memory = ClusterMemory(rows, 0.05, 0.0, "hardest")
    memory.update(features, torch.zeros(3, dtype=torch.int64))
    assert memory.centroids.tolist() == [[0.0, 1.0, 0.0]]


def test_updates_leave_absent_rows_alone() -> None:
    generator = np.random.default_rng(0)
    for rule in UPDATE_RULES:
        rows = units(generator, 5, 4)
        before = rows.clone()
        memory = ClusterMemory(rows, 0.05, 0.1, rule, generator=torch.Generator())
        memory.update(units(generator, 6, 4), torch.tensor([1, 3, 3, 1, 1, 3]))
        kept = torch.tensor([0, 2, 4])
        assert torch.equal(memory.centroids[kept], before[kept])
        assert not torch.equal(memory.centroids, before)
        assert torch.allclose(memory.centroids.norm(dim=1), torch.ones(5, dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, size=st.integers(1, 12))
def test_cluster_loss_and_gradient_equal_the_loops(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    rows, features = units(generator, 7, 6).float(), units(generator, size, 6).float().requires_grad_()
    labels = generator.integers(7, size=size)
    loss = ClusterMemory(rows, 0.05, 0.1).loss(features, torch.from_numpy(labels))
    loss.backward()
    given_rows, given_features = rows.double().numpy(), features.detach().double().numpy()
    expected = reference.cluster_loss(given_rows, given_features, labels, 0.05)
    gradient = reference.cluster_gradient(given_rows, given_features, labels, 0.05)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(features.grad.numpy(), gradient, atol=2e-5)


@settings(max_examples=50, deadline=None)
@given(
    seed=seeds,
    labels=st.lists(st.sampled_from([-1, -1, 0, 1, 3]), min_size=1, max_size=15),
    reduce=st.sampled_from(["sum", "mean"]),
)
def test_instance_loss_equals_the_loops(seed: int, labels: list[int], reduce: str) -> None:
    """Noise classes, gaps in the numbering, noise only, one sample."""
    generator = np.random.default_rng(seed)
    label = np.array(labels)
    rows, features = units(generator, len(labels), 6).float(), units(generator, 4, 6).float()
    index = generator.integers(len(labels), size=4)
    memory = InstanceMemory(rows, torch.from_numpy(label), 0.05, 0.1, reduce)
    found = float(memory.loss(features, torch.from_numpy(index)))
    expected = reference.instance_loss(
        rows.double().numpy(), label, features.double().numpy(), index, 0.05, reduce
    )
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, momentum=momenta, index=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_instance_rows_move_in_batch_order(seed: int, momentum: float, index: list[int]) -> None:
    generator = np.random.default_rng(seed)
    rows, features = units(generator, 5, 4), units(generator, len(index), 4)
    expected = reference.sequential(rows.numpy(), features.numpy(), np.array(index), momentum)
    memory = InstanceMemory(rows, torch.zeros(5, dtype=torch.int64), 0.05, momentum)
    memory.update(features, torch.tensor(index))
    np.testing.assert_allclose(rows.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("in_backward", [False, True])
def test_gradients_of_two_losses_of_one_memory(in_backward: bool) -> None:
    """The loss of g is computed later, so that autograd reaches it first (quirk Q6)."""
    generator = np.random.default_rng(5)
    before = units(generator, 4, 8).float()
    f, g = (units(generator, 6, 8).float().requires_grad_() for _ in range(2))
    y, z = (torch.from_numpy(generator.integers(4, size=6)) for _ in range(2))
    memory = ClusterMemory(before.clone(), 0.05, 0.1, in_backward=in_backward)
    (memory.loss(f, y) + memory.loss(g, z)).backward()
    memory.update(g, z)
    memory.update(f, y)

    rows, a, b = (t.detach().double().numpy() for t in (before, f, g))
    moved = reference.sequential(rows, b, z.numpy(), 0.1)
    np.testing.assert_allclose(g.grad, reference.cluster_gradient(rows, b, z.numpy(), 0.05), atol=1e-5)
    frozen = reference.cluster_gradient(rows, a, y.numpy(), 0.05)
    if in_backward:
        # softmax of the forward pass, rows of the moment of the backward pass
        p = np.exp(a @ rows.T / 0.05)
        p /= p.sum(1, keepdims=True)
        p[np.arange(6), y] -= 1
        expected = p @ moved / 0.05 / 6
        assert np.abs(expected - frozen).max() > 1e-2
    else:
        expected = frozen
    np.testing.assert_allclose(f.grad, expected, atol=1e-5)
    after = reference.sequential(moved, a, y.numpy(), 0.1)
    np.testing.assert_allclose(memory.centroids, after, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    seed=seeds,
    labels=st.lists(st.sampled_from([-1, 0, 1, 2]), max_size=15).map(lambda v: [*v, 0, 1, 2]),
    balanced=st.booleans(),
)
def test_centroids_equal_the_loops(seed: int, labels: list[int], balanced: bool) -> None:
    generator = np.random.default_rng(seed)
    features, label = units(generator, len(labels), 5), np.array(labels)
    modality = generator.integers(2, size=len(labels)) if balanced else None
    found = compute_centroids(
        features, torch.from_numpy(label), None if modality is None else torch.from_numpy(modality)
    )
    expected = reference.compute_centroids(features.numpy(), label, modality)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_modality_counts_once_in_a_balanced_mean() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = torch.zeros(4, dtype=torch.int64)
    balanced = compute_centroids(features, labels, torch.tensor([0, 0, 0, 1]))
    assert torch.allclose(balanced, torch.full((1, 2), 0.5**0.5))
    assert torch.allclose(compute_centroids(features, labels), normalize(torch.tensor([[3.0, 1.0]])))


def test_random_members_are_uniform_members() -> None:
    features = torch.eye(6)
    labels = torch.tensor([1, 0, -1, 1, 0, 1])
    generator = torch.Generator().manual_seed(1)
    drawn = sum(random_members(features, labels, generator) for _ in range(1200))
    assert drawn.shape == (2, 6)
    expected = torch.tensor([[0, 600, 0, 0, 600, 0], [400, 0, 0, 400, 0, 400]])
    assert ((drawn > 0) == (expected > 0)).all()
    assert (drawn - expected).abs().max() < 5 * (1200 * 0.25) ** 0.5


@pytest.mark.parametrize("labels", [[-1, -1], [0, 2], [1, 1]])
def test_a_cluster_without_members_is_refused(labels: list[int]) -> None:
    with pytest.raises(MethodError, match="no member"):
        compute_centroids(torch.eye(2), torch.tensor(labels))
    with pytest.raises(MethodError, match="no member"):
        random_members(torch.eye(2), torch.tensor(labels), torch.Generator())


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(MethodError, match="'newest'"):
        ClusterMemory(torch.eye(2), 0.05, 0.1, "newest")
    with pytest.raises(MethodError, match="'max'"):
        InstanceMemory(torch.eye(2), torch.tensor([0, 1]), 0.05, 0.1, "max")


def test_noise_numbers_follow_the_clusters() -> None:
    assert own_label_for_noise(torch.tensor([-1, 3, 0, -1, 3])).tolist() == [4, 3, 0, 5, 3]
    assert own_label_for_noise(torch.tensor([-1, -1])).tolist() == [0, 1]


def test_member_table_lists_members_in_batch_order() -> None:
    assert member_table(torch.tensor([1, 0, 1, 1])).tolist() == [[1, -1, -1], [0, 2, 3]]


@pytest.mark.parametrize("kind", ["cluster", "sum", "mean"])
def test_losses_are_float32_under_autocast(kind: str) -> None:
    generator = np.random.default_rng(0)
    rows, features = units(generator, 8, 16).float(), units(generator, 4, 16).float()
    labels = torch.arange(4)
    memory = (
        ClusterMemory(rows, 0.05, 0.1)
        if kind == "cluster"
        else InstanceMemory(rows, torch.arange(8), 0.05, 0.1, kind)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = memory.loss(features, labels)
    assert torch.equal(low, memory.loss(features, labels))
    assert memory.loss(features.bfloat16(), labels).dtype == torch.float32


def test_rows_of_some_images_are_found_by_their_place_in_the_training_set() -> None:
    generator = np.random.default_rng(6)
    rows, features = units(generator, 3, 5).float(), units(generator, 2, 5).float()
    labels, row_of = torch.tensor([0, 0, 1]), torch.tensor([-1, 2, -1, 0, 1])
    plain = InstanceMemory(rows.clone(), labels, 0.05, 0.2)
    placed = InstanceMemory(rows.clone(), labels, 0.05, 0.2, row_of=row_of)
    images = torch.tensor([1, 3])
    assert torch.equal(placed.loss(features, images), plain.loss(features, row_of[images]))
    placed.update(features, images)
    plain.update(features, row_of[images])
    assert torch.equal(placed.rows, plain.rows)
    assert torch.equal(placed.rows[1], rows[1])


def test_other_classes_leave_the_rows() -> None:
    generator = np.random.default_rng(7)
    rows, features = units(generator, 4, 5).float(), units(generator, 2, 5).float()
    memory = InstanceMemory(rows, torch.full((4,), -1), 0.05, 0.2)
    memory.relabel(torch.tensor([0, 0, 3, -1]))
    fresh = InstanceMemory(rows.clone(), torch.tensor([0, 0, 3, -1]), 0.05, 0.2)
    assert memory.rows is rows
    index = torch.tensor([1, 3])
    assert torch.equal(memory.loss(features, index), fresh.loss(features, index))
