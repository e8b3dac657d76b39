"""PCA: the adversary's schedule, steps and terms; joint clusters of both modalities; the shared memory."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import normalize

from methods.base import INFRARED, VISIBLE, Batch, Epoch, EpochPlan, FeatureBank, Stage
from methods.clustering import MeanExpansion, ModalityMean
from methods.clustering.labels import in_both_modalities
from methods.parts.two_stream import Seen
from methods.pca import (
    HIDDEN,
    PCA,
    Discriminator,
    PCAConfig,
    adversarial_weight,
    discriminator_loss,
    view_classes,
)
from tests.methods.contrast_cases import (
    CROSS,
    DIMENSION,
    DUAL,
    DUAL_STAGE,
    TWO_STAGES,
    cross_entropy,
    draw_batch,
    follow,
    person_bank,
    stub_network,
    training_data,
)
from tests.methods.episodes import take_step

__all__ = ["stub_network"]
JOINT = {"joint_k1": 10, "joint_k2": 6, "adversarial_from": 1}


def pca(bank: FeatureBank, **changes: object) -> PCA:
    return PCA(PCAConfig(**TWO_STAGES | JOINT | changes), training_data(bank.modality))


def batches(method: PCA, plan: EpochPlan, iteration: int = 0) -> dict[str, Batch]:
    """Return the batches of an iteration; steps on the same streams see the same images."""
    return {step.name: draw_batch(method, plan, step, iteration=iteration) for step in plan.steps}


def test_adversarial_weights_of_the_published_code() -> None:
    config = PCAConfig()
    dual, cross = PCA.stages(config)
    weights = [adversarial_weight(config, Epoch(e, dual, e)) for e in (0, 24, 25, 49)]
    assert weights == [0.0, 0.0, 1.0, 1.0]
    assert {adversarial_weight(config, Epoch(50 + e, cross, e)) for e in (0, 24, 25, 49)} == {0.1}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (DUAL, ["dual", "discriminate"]),
        (Epoch(1, DUAL_STAGE, 1), ["discriminate", "dual"]),
        (CROSS, ["discriminate", "dual", "joint"]),
    ],
)
def test_steps_of_an_iteration(epoch: Epoch, expected: list[str]) -> None:
    bank = person_bank()
    steps = pca(bank).begin_epoch(epoch, bank).steps
    assert [step.name for step in steps] == expected
    assert {step.name: step.optimiser for step in steps}["discriminate"] == "discriminator"


@pytest.mark.parametrize("epoch", [DUAL, CROSS], ids=["alone", "adversarial"])
def test_one_pass_of_the_network_serves_both_steps(epoch: Epoch, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = person_bank()
    method = pca(bank)
    plan = method.begin_epoch(epoch, bank)
    calls = []
    monkeypatch.setattr(
        method.backbone,
        "forward",
        lambda *args: calls.append(0) or type(method.backbone).forward(method.backbone, *args),
    )
    for iteration in range(3):
        drawn = batches(method, plan, iteration)
        seen: dict[str, Seen] = {}
        for step in plan.steps[:2]:
            seen[step.name], _ = take_step(method, drawn[step.name], epoch, seen.get(step.reuses))
    assert len(calls) == 3


def test_the_discriminator_learns_views_and_the_network_plays_augmented() -> None:
    bank = person_bank()
    method = pca(bank)
    plan = method.begin_epoch(CROSS, bank)
    drawn = batches(method, plan)
    seen = method.forward(drawn["discriminate"])
    learnt = method.loss(seen, drawn["discriminate"], CROSS)
    assert set(learnt) == {"discriminator"}
    learnt["discriminator"].backward()
    assert all(p.grad is None for p in method.backbone.parameters())
    assert all(p.grad is not None for p in method.modules["discriminator"].parameters())

    parts = list(drawn["dual"].parts.values())
    raw, _ = method.backbone(torch.cat([p.images for p in parts]), torch.cat([p.modality for p in parts]))
    scores = method.modules["discriminator"](raw).split(6)  # plain, augmented, infrared: one pass of all

    def mean_of(targets: tuple[int, int, int]) -> float:
        terms = [torch_cross_entropy(s, torch.full((6,), t)) for s, t in zip(scores, targets, strict=True)]
        return sum(term.item() for term in terms)

    assert learnt["discriminator"].item() == pytest.approx(mean_of((0, 2, 1)), rel=1e-4)
    played = method.loss(seen, drawn["dual"], CROSS)
    assert played["adversarial"].item() == pytest.approx(0.1 * mean_of((2, 2, 2)), rel=1e-4)
    played["adversarial"].backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in method.backbone.parameters() if p.grad is not None)


def test_the_discriminators_loss_moves() -> None:
    """One kind of views in a pass of its own would be centred away by batch norm; the loss would stay at 3 ln 3."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(3).repeat_interleave(16)
    features = torch.randn(48, 32, generator=generator) + 2 * torch.randn(3, 32, generator=generator)[kind]
    discriminator = Discriminator(32, seed=0)
    optimiser = torch.optim.SGD(discriminator.parameters(), 0.01, 0.9, nesterov=True)
    losses = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = discriminator_loss(discriminator, features, kind, torch.arange(3))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 2.8
    assert losses[-1] < 0.5 * 3 * math.log(3)


def test_before_the_game_the_network_has_no_adversarial_term() -> None:
    bank = person_bank()
    method = pca(bank)
    plan = method.begin_epoch(DUAL, bank)
    batch = batches(method, plan)["dual"]
    assert set(method.loss(method.forward(batch), batch, DUAL)) == {"cluster_visible", "cluster_infrared"}


def test_groups_of_any_size_weigh_the_same() -> None:
    discriminator = Discriminator(DIMENSION, seed=0).eval()
    raw = torch.randn(12, DIMENSION, generator=torch.Generator().manual_seed(0))
    kind = torch.tensor([0] * 7 + [1] * 3 + [2] * 2)
    expected = sum(
        torch_cross_entropy(discriminator(raw[kind == k]), torch.full((n,), k)).item()
        for k, n in enumerate((7, 3, 2))
    )
    assert discriminator_loss(discriminator, raw, kind, torch.arange(3)).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_discriminator_has_the_published_shape_and_scale() -> None:
    linears = [m for m in Discriminator(2048, seed=3) if isinstance(m, torch.nn.Linear)]
    assert [m.out_features for m in linears] == [*HIDDEN, 3]
    widest = linears[0].weight.abs().max().item()
    assert 0.99 / math.sqrt(3 * 2048) < widest <= 1 / math.sqrt(3 * 2048)
    again, other = Discriminator(2048, seed=3), Discriminator(2048, seed=4)
    assert torch.equal(again[0].weight, linears[0].weight)
    assert not torch.equal(other[0].weight, linears[0].weight)


def test_joint_streams_hold_clusters_of_both_modalities_and_the_memory_all() -> None:
    bank = person_bank(visible=7, infrared=4)
    method = pca(bank, joint_k1=8)
    plan = method.begin_epoch(CROSS, bank)
    joint = plan.labels["joint"]
    both = set(joint[bank.modality == VISIBLE].tolist()) & set(joint[bank.modality == INFRARED].tolist())
    assert plan.record["shared_clusters"] == len(both) == 4
    streams = {stream.name: stream for stream in plan.streams}
    for name, modality in (("joint-visible", VISIBLE), ("joint-infrared", INFRARED)):
        assert set(streams[name].pseudo_label.tolist()) == both
        assert set(method.data.modality[streams[name].sample_index].tolist()) == {modality}
        assert torch.equal(joint[streams[name].sample_index], streams[name].pseudo_label)
    rows = method.memories["joint-visible"].centroids
    assert len(rows) == 7
    assert method.memories["joint-infrared"].centroids is rows
    label = min(both)
    of = [bank.features[(joint == label) & (bank.modality == m)].mean(0) for m in (VISIBLE, INFRARED)]
    torch.testing.assert_close(rows[label], normalize((of[0] + of[1]) / 2, dim=0))


def test_no_cluster_of_both_modalities_leaves_out_the_joint_step() -> None:
    bank = person_bank(gap=8.0)
    method = pca(bank, joint_k1=6, joint_k2=2)
    plan = method.begin_epoch(CROSS, bank)
    assert plan.record["shared_clusters"] == 0
    assert not plan.skipped
    assert "joint" not in {step.name for step in plan.steps}
    assert not in_both_modalities(torch.tensor([-1, -1]), torch.tensor([0, 1])).any()


def joint_step(gradient: str) -> tuple[PCA, Batch, Seen, torch.Tensor, dict[str, torch.Tensor]]:
    bank = person_bank()
    method = pca(bank, memory_gradient=gradient, joint_weight=0.5)
    plan = method.begin_epoch(CROSS, bank)
    batch = draw_batch(method, plan, plan.steps[-1])
    rows = method.memories["joint-visible"].centroids.clone()
    seen = method.forward(batch)
    for f in seen.features.values():
        f.retain_grad()
    _, terms = take_step(method, batch, CROSS, seen)
    return method, batch, seen, rows, terms


@pytest.mark.parametrize("gradient", ["frozen", "in_backward"])
def test_visible_samples_move_the_joint_memory_first(gradient: str) -> None:
    method, batch, found, rows, terms = joint_step(gradient)
    seen = {name: f.detach() for name, f in found.features.items()}
    for name, part in batch.parts.items():
        expected = 0.5 * cross_entropy(seen[name], rows, part.pseudo_label)
        assert terms[f"cluster_{name}"].item() == pytest.approx(expected, rel=1e-5)
    after_visible = follow(rows, seen["joint-visible"], batch.parts["joint-visible"].pseudo_label, 0.1)
    after_both = follow(
        after_visible, seen["joint-infrared"], batch.parts["joint-infrared"].pseudo_label, 0.1
    )
    torch.testing.assert_close(method.memories["joint-visible"].centroids, after_both)
    assert not torch.allclose(after_visible, after_both)


@pytest.mark.parametrize("gradient", ["frozen", "in_backward"])
def test_gradients_see_the_rows_of_the_forward_pass_unless_asked_otherwise(gradient: str) -> None:
    _, batch, seen, rows, _ = joint_step(gradient)
    visible = seen.features["joint-visible"].detach()
    moved = follow(rows, visible, batch.parts["joint-visible"].pseudo_label, 0.1)
    behind = {"joint-visible": rows, "joint-infrared": rows if gradient == "frozen" else moved}
    for name, f in seen.features.items():
        label = batch.parts[name].pseudo_label
        wrong = torch.softmax(f.detach() @ rows.T / 0.05, 1) - torch.eye(len(rows))[label]
        torch.testing.assert_close(f.grad, 0.5 * wrong @ behind[name] / 0.05 / len(label))


def test_both_networks_are_trained_and_stored() -> None:
    method = pca(person_bank())
    assert set(method.modules) == {"backbone", "discriminator"}
    made = method.optimisers(Stage("dual", 4, 2))
    assert list(made) == ["model", "discriminator"]
    group = made["discriminator"].optimiser.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (
        0.01,
        0.9,
        True,
        5e-4,
    )


def test_view_classes_tell_the_augmented_view() -> None:
    bank = person_bank()
    method = pca(bank)
    batch = batches(method, method.begin_epoch(DUAL, bank))["dual"]
    assert view_classes(batch).tolist() == [0] * 6 + [2] * 6 + [1] * 6


def test_one_cluster_or_noise_alone_skips_the_epoch() -> None:
    bank = person_bank(infrared=1, images=8)
    assert "infrared: 1" in pca(bank).begin_epoch(CROSS, bank).skipped
    bank = person_bank(noise=1.0)
    assert pca(bank, min_samples=9).begin_epoch(DUAL, bank).skipped


def test_more_expansion_than_neighbours_is_refused() -> None:
    with pytest.raises(ValidationError, match="joint_k2"):
        PCAConfig(joint_k1=10, joint_k2=11)


@pytest.mark.parametrize("preset", [*PCA.presets])
def test_presets_are_valid(preset: str) -> None:
    for dataset in ("sysu-mm01", "regdb"):
        values = {**PCA.presets[preset].get("*", {}), **PCA.presets[preset].get(dataset, {})}
        assert PCAConfig(**values).model_dump().items() >= values.items()


def test_a_list_of_one_modality_gets_the_plain_mean_and_mixed_ones_a_vote_for_each() -> None:
    modality = torch.tensor([0, 0, 0, 1, 1])
    lists = torch.tensor([[0, 1, 2], [3, 4, 3], [0, 1, 3], [4, 0, 2]])
    weights = ModalityMean(3, modality).weights(lists, torch.zeros(5, dtype=torch.bool))
    third, half, quarter = 1 / 3, 1 / 2, 1 / 4
    expected = [[third] * 3, [third] * 3, [quarter, quarter, half], [half, quarter, quarter]]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))
    plain = MeanExpansion(3).weights(lists, torch.zeros(5, dtype=torch.bool))
    torch.testing.assert_close(weights[:2], plain[:2])
    torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=torch.float64))
