"""ECUL (a reconstruction): the two steps of the memories, the instance term by a loop, EMCC's limits, resuming."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from harness.runs.configuration import resolve
from methods.base import Epoch, EpochPlan, Stage
from methods.clustering import MIE, jaccard_clusters
from methods.ecul import ECUL, ECULConfig, NeighbourMemory
from methods.errors import MethodError
from methods.parts.memories import compute_centroids
from methods.parts.spaces import label_space
from tests.methods.contrast_cases import TWO_STAGES, stub_network
from tests.methods.episodes import bank, batch, identity, pairwise, shuffled, take_step, train, training_data
from tests.reference import association as reference

__all__ = ["stub_network"]

SMALL = {
    **TWO_STAGES,
    "epochs_cross": 4,
    "k3": 4,
    "joint_k1": 12,
    "joint_k2": 3,
    "joint_k3": 8,
}
CROSS_STAGE = Stage("cross", 4, 2)
DUAL = Epoch(0, Stage("dual", 2, 2), 0)
CROSS, LATE = Epoch(2, CROSS_STAGE, 0), Epoch(4, CROSS_STAGE, 2)


def small(**changes: object) -> ECUL:
    return ECUL(ECULConfig(**SMALL | changes), training_data(cameras=2))


def begun(method: ECUL, epoch: Epoch, noise: float = 0.05) -> EpochPlan:
    return method.begin_epoch(epoch, bank(noise=noise, cameras=2))


def test_sources_say_reconstructed() -> None:
    for name in ("k3", "switch", "early_update", "instance_weight", "joint_k1"):
        extra = ECULConfig.model_fields[name].json_schema_extra
        assert isinstance(extra, dict)
        assert extra["source"] == "reconstructed"
    assert "reconstruction" in ECUL.reference.venue
    assert sum("reconstructed" in source for source in ECUL.reference.parts.values()) >= 4


@pytest.mark.parametrize(("epochs", "early"), [(1, 1), (2, 1), (3, 2), (50, 25)])
def test_memories_switch_in_the_middle_of_a_stage(epochs: int, early: int) -> None:
    method, features = small(epochs_dual=epochs), bank(cameras=2)
    stage, space = method.stages(method.config)[0], label_space(features, identity(), len(features))
    memories = [
        method.start_memory(space, Epoch(e, stage, e), torch.Generator().manual_seed(e))
        for e in range(epochs)
    ]
    rules = [memory.momentum == method.config.early_momentum for memory in memories]
    assert sum(rules) == early
    assert all(rules[:early])


@pytest.mark.parametrize("gradient", ["frozen", "in_backward"])
def test_gradients_see_the_same_centroids_in_both_steps(gradient: str) -> None:
    method = small(memory_gradient=gradient)
    for epoch in (DUAL, CROSS, LATE):
        begun(method, epoch)
        assert {memory.in_backward for memory in method.memories.values()} == {gradient == "in_backward"}


def test_first_step_starts_from_members_and_leaves_one_batch_sample() -> None:
    method = small()
    plan, features = begun(method, DUAL), bank(cameras=2).features
    labels = plan.labels["visible"]
    for number, row in enumerate(method.memories["visible"].centroids):
        assert float((features[labels == number] - row).norm(dim=1).min()) < 1e-6
    drawn = batch(method, plan)
    seen, _ = take_step(method, drawn, DUAL)
    labels = drawn.parts["visible"].pseudo_label
    for label in labels.unique():
        candidates = seen.features["visible"][labels == label].detach()
        row = method.memories["visible"].centroids[label]
        assert float((candidates - row).norm(dim=1).min()) < 1e-5


def test_second_step_starts_from_balanced_means_and_moves_by_the_batch_mean() -> None:
    method = small()
    plan, features = begun(method, LATE), bank(cameras=2)
    expected = compute_centroids(features.features, plan.labels["joint"], features.modality)
    assert torch.allclose(method.memories["joint-visible"].centroids, expected)
    memory = method.memories["visible"]
    before, drawn = memory.centroids.clone(), batch(method, plan)
    seen, _ = take_step(method, drawn, LATE)
    part, f = drawn.parts["visible"], seen.features["visible"].detach()
    for label in part.pseudo_label.unique():
        row = 0.1 * before[label] + 0.9 * f[part.pseudo_label == label].mean(0)
        assert torch.allclose(memory.centroids[label], row / row.norm(), atol=1e-5)


@pytest.mark.parametrize("epoch", [DUAL, CROSS, LATE])
def test_an_epoch_finds_the_identities_and_trains(epoch: Epoch) -> None:
    method = small()
    plan = begun(method, epoch)
    for labels in plan.labels.values():
        inside = labels > -2
        assert torch.equal(pairwise(labels[inside]), pairwise(identity()[inside]))
    terms = train(method, plan, epoch, iterations=2)
    joint = {"cluster_joint-visible", "cluster_joint-infrared", "instance"}
    assert set(terms) == {"cluster_visible", "cluster_infrared"} | (
        joint if epoch.stage.name == "cross" else set()
    )


def test_weights_weigh() -> None:
    plain, weighted = small(), small(intra_weight=2.0, joint_weight=3.0, instance_weight=5.0)
    plans = [begun(m, LATE) for m in (plain, weighted)]
    for step in (0, 1):
        drawn = [batch(m, plan, step) for m, plan in zip((plain, weighted), plans, strict=True)]
        one, many = (
            m.loss(m.forward(images), images, LATE)
            for m, images in zip((plain, weighted), drawn, strict=True)
        )
        for name in one:
            factor = 5 if name == "instance" else 3 if step else 2
            assert float(many[name].detach()) == pytest.approx(factor * float(one[name].detach()), rel=1e-5)


def test_positives_are_mutual_neighbours_that_share_a_joint_label() -> None:
    method, features = small(joint_k1=12, joint_k3=8), bank(noise=0.1, cameras=2)
    plan = method.begin_epoch(CROSS, features)
    joint, rows = plan.labels["joint"].numpy(), features.features.numpy()
    expected = reference.mutual(rows[:30], rows[30:], joint[:30], joint[30:], 12)
    assert method.instances is not None
    mask = method.instances.positives(torch.arange(60))
    assert expected
    assert mask.nonzero().tolist() == sorted(
        [[i, 30 + j] for i, j in expected] + [[30 + j, i] for i, j in expected]
    )
    assert plan.record["neighbour_pairs"] == len(expected)


def test_instance_term_by_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator))
    f = torch.nn.functional.normalize(torch.randn(4, 5, generator=generator))
    index = [4, 1, 5, 1]
    memory = NeighbourMemory(rows.clone(), torch.tensor([[0, 4], [1, 4], [1, 3]]), 0.05, 0.1)
    partners = {0: [4], 1: [3, 4], 3: [1], 4: [0, 1]}
    terms = []
    for features, i in zip(f, index, strict=True):
        scores = [math.exp(float(features @ row) / 0.05) for row in rows]
        if i in partners:
            terms.append(-math.log(sum(scores[j] for j in partners[i]) / sum(scores)))
    assert len(terms) == 3
    assert float(memory.loss(f, torch.tensor(index))) == pytest.approx(sum(terms) / 3, rel=1e-4)


def test_images_without_neighbours_cost_nothing() -> None:
    f = torch.eye(3).requires_grad_()
    memory = NeighbourMemory(torch.eye(3), torch.empty(0, 2, dtype=torch.int64), 0.05, 0.1)
    loss = memory.loss(f, torch.arange(3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert f.grad is not None
    assert not bool(f.grad.any())


def test_k3_equal_to_k2_is_mie() -> None:
    method, features = small(k2=3, k3=3), bank(noise=0.16, cameras=2).of(0)
    expected = jaccard_clusters(
        features.features,
        k1=6,
        eps=0.6,
        min_samples=2,
        expansion=MIE(3, features.modality, features.camera),
    ).labels
    assert torch.equal(method.cluster(features, 6, 3, 3).labels, expected)
    assert len(expected.unique()) > 2


def test_rows_of_images_outlive_the_process() -> None:
    method = small()
    assert method.state() == {}
    train(method, begun(method, CROSS), CROSS)
    other = small()
    other.load_state({key: value.clone() for key, value in method.state().items()})
    following = Epoch(3, CROSS_STAGE, 1)
    for m in (method, other):
        m.begin_epoch(following, bank(seed=3, cameras=2))
    assert method.instances is not None
    assert other.instances is not None
    assert torch.equal(method.instances.rows, other.instances.rows)
    assert not torch.equal(other.instances.rows, bank(seed=3, cameras=2).features)
    fresh = small()
    fresh.load_state(small().state())
    assert fresh.state() == {}


def test_all_noise_and_one_cluster_skip_the_epoch() -> None:
    plan = small(eps=1e-6, min_samples=5).begin_epoch(CROSS, shuffled(bank(cameras=2)))
    assert plan.iterations == 0
    assert "eps" in plan.skipped
    assert "visible: 1" in begun(small(eps=1.0), CROSS).skipped


def test_clusters_of_one_modality_leave_the_first_step_alone() -> None:
    features = bank(cameras=2)
    # infrared looks unlike visible: joint clusters never hold both
    features.features[30:] = features.features[30:].roll(7, 1).neg()
    method = small(joint_k1=6, joint_k3=5)
    plan = method.begin_epoch(CROSS, features)
    assert plan.record["shared_clusters"] == 0
    assert [step.name for step in plan.steps] == ["dual"]
    train(method, plan, CROSS)


def test_longer_lists_than_the_data_are_refused() -> None:
    with pytest.raises(MethodError, match="61"):
        begun(small(joint_k1=61), CROSS)


@pytest.mark.parametrize("wrong", [{"k3": 5}, {"k2": 13}, {"joint_k3": 41}, {"joint_k2": 33}])
def test_expansions_that_do_not_nest_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="must hold"):
        ECULConfig(**wrong)


@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_presets_are_valid(dataset: str) -> None:
    paper, demo = (resolve(ECUL, dataset, preset, None, [])[0] for preset in ("paper", "demo"))
    assert isinstance(paper, ECULConfig)
    assert isinstance(demo, ECULConfig)
    assert (paper.eps, paper.joint_k1) == ((0.6, 40) if dataset == "sysu-mm01" else (0.3, 38))
    assert demo.epochs_dual + demo.epochs_cross == 10
