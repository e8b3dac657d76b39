"""MPJL: schedules by hand, EFE's settings, first rows, SBMR against a plain loop, what outlives an epoch."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.runs.configuration import resolve
from methods.base import Epoch, EpochPlan
from methods.errors import MethodError
from methods.mpjl import FIRST, MPJL, SECOND, THIRD, MPJLConfig, eps_at, grown
from methods.parts.hierarchy import bank_position_of
from tests.methods.contrast_cases import DIMENSION, stub_network
from tests.methods.episodes import bank, batch, identity, pairwise, shuffled, take_step, train, training_data
from tests.reference import association as reference

__all__ = ["stub_network"]

SMALL: dict[str, Any] = {
    **{
        stage: {"epochs": 2, "k1": 6, "k1_growth": 1, "cap": 2, "cap_growth": 1}
        for stage in (FIRST, SECOND, THIRD)
    },
    "joint": {"k1": 10, "k1_growth": 1, "cap": 3, "cap_growth": 1},
    "span": 2,
    "eps_low": 0.6,
    "iterations": 2,
    "labels_per_batch": 3,
    "instances": 2,
    "min_samples": 2,
}
EPOCHS = {stage.name: Epoch(2 * i, stage, 0) for i, stage in enumerate(MPJL.stages(MPJLConfig(**SMALL)))}


def paper(dataset: str) -> MPJLConfig:
    config = resolve(MPJL, dataset, "paper", None, [])[0]
    assert isinstance(config, MPJLConfig)
    return config


def small(**changes: Any) -> MPJL:
    """Make a method of the small sizes; a group of settings changes only in what is named."""
    groups = {name: SMALL[name] | value for name, value in changes.items() if isinstance(value, dict)}
    return MPJL(MPJLConfig(**SMALL | changes | groups), training_data(cameras=2))


def at(method: MPJL, stage: str, noise: float = 0.05) -> EpochPlan:
    return method.begin_epoch(EPOCHS[stage], bank(noise=noise, cameras=2))


SYSU = {
    # name: values at epochs 0, 24, 48 of a stage: s, s * sqrt(g), s * g
    "first_k1": (20, 35, 60),
    "first_cap": (6, 10, 18),
    "second_k1": (30, 42, 60),
    "second_cap": (6, 10, 18),
    "third_k1": (30, 42, 60),
    "third_cap": (6, 10, 18),
    "joint_k1": (40, 69, 120),
    "joint_cap": (16, 16, 16),
}
REGDB = {
    # at epochs 0, 29, 59: s, s * g^(29/59), s * g
    "first_k1": (20, 28, 40),
    "first_cap": (3, 4, 6),
    "second_k1": (30, 37, 45),
    "second_cap": (3, 5, 9),
    "third_k1": (40, 49, 60),
    "third_cap": (8, 10, 12),
    "joint_k1": (60, 73, 90),
    "joint_cap": (10, 12, 15),
}


def count(config: MPJLConfig, name: str, epoch: int) -> int:
    """A neighbour count, called by its group of settings and its own name."""
    group, _, own = name.partition("_")
    settings = getattr(config, group)
    return grown(getattr(settings, own), getattr(settings, f"{own}_growth"), epoch, config.span)


@pytest.mark.parametrize("name", SYSU)
def test_neighbour_counts_by_hand(name: str) -> None:
    assert tuple(count(paper("sysu-mm01"), name, e) for e in (0, 24, 48)) == SYSU[name]
    assert tuple(count(paper("regdb"), name, e) for e in (0, 29, 59)) == REGDB[name]


def test_eps_by_hand() -> None:
    sysu, regdb = paper("sysu-mm01"), paper("regdb")
    assert eps_at(sysu, FIRST, 0) == pytest.approx(0.6)
    # 0.6 * 0.5^(24/50)
    assert eps_at(sysu, FIRST, 24) == pytest.approx(0.430187, abs=1e-6)
    # 0.3 * (2/3)^(29/60)
    assert eps_at(regdb, FIRST, 29) == pytest.approx(0.24661, abs=1e-5)
    for stage in (SECOND, THIRD):
        assert eps_at(sysu, stage, 5) == pytest.approx(0.6 / 2**0.5)
        assert eps_at(sysu, stage, 10) == pytest.approx(0.3)
        assert eps_at(sysu, stage, 30) == pytest.approx(0.3 * 2**0.5)
        assert eps_at(regdb, stage, 10) == pytest.approx(0.2)
        assert eps_at(regdb, stage, 11) == pytest.approx(0.2 * 1.5 ** (1 / 40))
        assert eps_at(regdb, stage, 59) == pytest.approx(0.329, abs=1e-3)


def test_schedule_lists_every_epoch_and_joint_counts_in_the_third_stage_only() -> None:
    for dataset, epochs in (("sysu-mm01", (25, 25, 50)), ("regdb", (30, 30, 60))):
        frame = pd.DataFrame(MPJL.schedule(paper(dataset)))
        assert tuple(frame.groupby("stage", sort=False).size()) == epochs
        assert bool(((frame.joint_k1 > 0) == (frame.stage == THIRD)).all())
        assert bool((2 * frame.cap <= frame.k1).all())


@pytest.mark.parametrize("stage", EPOCHS)
def test_an_epoch_finds_the_identities_and_trains(stage: str) -> None:
    method = small()
    plan = at(method, stage)
    assert set(plan.labels) == {"visible", "infrared"} | ({"joint"} if stage == THIRD else set())
    for labels in plan.labels.values():
        inside = labels > -2
        assert torch.equal(pairwise(labels[inside]), pairwise(identity()[inside]))
    terms = train(method, plan, EPOCHS[stage], iterations=2)
    assert ("cluster_joint" in terms) == (stage == THIRD)
    assert {"cluster_visible", "cluster_infrared", "instance_visible", "instance_infrared"} <= set(terms)


def test_joint_terms_weigh_seven_tenths() -> None:
    method = small()
    drawn = batch(method, at(method, THIRD))
    centroids = method.clusters["joint"].centroids.clone()
    seen, terms = take_step(method, drawn, EPOCHS[THIRD])
    joint = [f"joint-{modality}" for modality in ("visible", "infrared")]
    f = torch.cat([seen.features[name].detach() for name in joint])
    label = torch.cat([drawn.parts[name].pseudo_label for name in joint])
    expected = 0.7 * cross_entropy(f @ centroids.T / 0.05, label)
    assert float(terms["cluster_joint"].detach()) == pytest.approx(float(expected), rel=1e-5)


def nearest_member(row: Tensor, features: Tensor) -> float:
    return float((features - row).norm(dim=1).min())


def test_regdb_starts_every_row_from_a_mean_and_sysu_all_but_those_of_the_first_stage() -> None:
    kinds = {d: [getattr(paper(d), stage).rows for stage in EPOCHS] for d in ("sysu-mm01", "regdb")}
    assert kinds == {"sysu-mm01": ["random", "mean", "mean"], "regdb": ["mean", "mean", "mean"]}


def test_rows_start_from_members_then_from_means() -> None:
    method, features = small(first={"rows": "random"}, sbmr_threshold=1.0), bank(cameras=2)
    for stage in EPOCHS:
        plan = at(method, stage)
        rows, labels = method.clusters["visible"].centroids, plan.labels["visible"]
        for number, row in enumerate(rows):
            members = features.features[labels == number]
            is_member = nearest_member(row, members) < 1e-6
            assert is_member == (stage == FIRST)


def test_sbmr_is_the_loop_over_clusters_in_order_with_the_rows_before() -> None:
    # wide clusters, so that only some members pass the threshold
    method, plain = small(sbmr_threshold=0.2), small(sbmr_threshold=1.0)
    plan, features = at(method, THIRD, noise=0.1), bank(noise=0.1, cameras=2)
    at(plain, THIRD, noise=0.1)
    for mine, other in (("visible", "infrared"), ("infrared", "visible")):
        inside = plan.labels[mine] > -2
        before = plain.clusters[other].centroids.double().numpy()
        expected = reference.refine(
            features.features[inside].double().numpy(), plan.labels[mine][inside].numpy(), before, 0.2, 0.4
        )
        found = method.clusters[other].centroids
        assert torch.allclose(found.double(), torch.from_numpy(expected), atol=1e-5)
        assert not torch.allclose(found.double(), torch.from_numpy(before), atol=1e-3)


@pytest.mark.parametrize("stage", EPOCHS)
def test_sbmr_refines_rows_from_the_second_stage_on(stage: str) -> None:
    method, plain = small(sbmr_threshold=-1.0), small(sbmr_threshold=1.0)
    at(method, stage)
    at(plain, stage)
    same = torch.equal(method.clusters["visible"].centroids, plain.clusters["visible"].centroids)
    assert same == (stage == FIRST)


def test_the_third_stage_makes_two_forward_passes_and_one_step() -> None:
    method = small()
    plan = at(method, THIRD)
    assert len(plan.steps) == 1
    drawn, shown = batch(method, plan), []
    method.backbone.register_forward_hook(lambda _, images, __: shown.append(len(images[0])))
    seen = method.forward(drawn)
    assert shown == [12, 12]
    assert set(seen.features) == set(drawn.parts)


def test_a_joint_row_that_meets_infrared_ends_as_an_infrared_sample() -> None:
    method = small()
    drawn = batch(method, at(method, THIRD))
    for _ in range(3):
        seen, _ = take_step(method, drawn, EPOCHS[THIRD])
        part, f = drawn.parts["joint-infrared"], seen.features["joint-infrared"].detach()
        for label in part.pseudo_label.unique():
            last = int((part.pseudo_label == label).nonzero()[-1])
            torch.testing.assert_close(method.clusters["joint"].centroids[label], f[last])


def test_public_rows_move_in_the_backward_pass_and_are_counted_without_noise() -> None:
    """Quirks Q6 and Q40: the visible joint loss is differentiated first and moves rows that infrared ones see."""
    method = small(memory_gradient="in_backward", instance_index="position")
    drawn = batch(method, at(method, THIRD))
    before = method.instances["joint"].rows.clone()
    seen = method.forward(drawn)
    terms = method.loss(seen, drawn, EPOCHS[THIRD])
    assert torch.equal(method.instances["joint"].rows, before)
    torch.stack(list(terms.values())).sum().backward()
    after = method.instances["joint"].rows.clone()
    assert not torch.equal(after, before)
    method.update(seen, drawn, EPOCHS[THIRD])
    assert torch.equal(method.instances["joint"].rows, after)


def test_positions_without_noise() -> None:
    features = bank(cameras=2)
    labels = torch.zeros(60, dtype=torch.int64)
    labels[[1, 4, 31]] = -1
    found = bank_position_of(features, labels, 60)
    assert found[[0, 2, 3, 5]].tolist() == [0, 1, 2, 3]
    assert found[[30, 32]].tolist() == [30, 31]
    assert found[[1, 4, 31]].tolist() == [-1, -1, -1]


def test_instance_memories_go_on_in_another_process_and_restart_with_the_stage() -> None:
    method = small()
    train(method, at(method, FIRST), EPOCHS[FIRST])
    other = small()
    other.load_state({k: v.clone() for k, v in method.state().items()})
    second = Epoch(1, EPOCHS[FIRST].stage, 1)
    for m in (method, other):
        m.begin_epoch(second, bank(seed=3, cameras=2))
    assert torch.equal(method.instances["infrared"].rows, other.instances["infrared"].rows)
    assert not torch.equal(method.instances["infrared"].rows, bank(seed=3, cameras=2).features[30:])
    at(method, SECOND)
    assert torch.equal(method.instances["infrared"].rows, bank(cameras=2).features[30:])


def test_a_stage_that_starts_with_a_skipped_epoch_still_gets_its_memories() -> None:
    method = small()
    at(method, SECOND)
    features = bank(cameras=2)
    tight = small(eps=1e-6, turning_epoch=1, eps_low=0.6)
    tight.load_state(method.state())
    assert tight.begin_epoch(EPOCHS[THIRD], shuffled(features)).skipped
    later = Epoch(6, EPOCHS[THIRD].stage, 2)
    train(tight, tight.begin_epoch(later, features), later)
    assert tight.instances["joint"].rows.shape == (60, DIMENSION)


def test_all_noise_and_one_cluster_skip_the_epoch() -> None:
    method = small(eps=1e-6)
    plan = method.begin_epoch(EPOCHS[FIRST], shuffled(bank(cameras=2)))
    assert plan.iterations == 0
    for word in ("eps", "k1 = 6", "cap = 2"):
        assert word in plan.skipped
    one = small(eps=1.0).begin_epoch(EPOCHS[FIRST], bank(cameras=2))
    assert "visible: 1" in one.skipped


@pytest.mark.parametrize(
    "wrong", [{"first": {"k1": 31}}, {"third": {"k1": 16, "k1_growth": 9}}, {"joint": {"k1": 61}}]
)
def test_lists_longer_than_the_data_are_refused_before_any_epoch(wrong: dict[str, dict[str, float]]) -> None:
    with pytest.raises(MethodError, match="k1 grows to"):
        small(**wrong)


@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_presets_are_valid_and_the_demo_fits_the_twins(dataset: str) -> None:
    demo = resolve(MPJL, dataset, "demo", None, [])[0]
    frame = pd.DataFrame(MPJL.schedule(demo))  # type: ignore[arg-type]
    assert len(frame) == 10
    assert frame.k1.max() <= 20
    assert frame.joint_k1.max() <= 40
    public = resolve(MPJL, dataset, "paper", "public", [])[0]
    assert (public.instance_index, public.memory_gradient, public.renormalise_flip) == (  # type: ignore[attr-defined]
        *("position", "in_backward"),
        False,
    )
    assert [stage.initial for stage in MPJL.stages(public)] == ["last", "best-of-stage", "best-of-stage"]  # type: ignore[arg-type]
