"""MMM: three stages, matching, passes and draws of the third, its loss by hand, and inputs that cannot be matched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from methods.base import INFRARED, NOISE, TRAIN, VISIBLE, Batch, Epoch, EpochPlan, FeatureBank, Part
from methods.errors import MethodError
from methods.mmm import CONFIDENCE, MATCHED, MMM, PROTOTYPES, WARM_UP, MMMConfig
from methods.parts.alignment import mean_discrepancy
from methods.parts.fixed_labels import FixedLabels, padded_passes
from methods.parts.heads import Classifier, Predictions
from methods.parts.samplers import common_label_batches
from tests.methods.contrast_cases import (
    CROSS,
    DUAL,
    TWO_STAGES,
    draw_batch,
    person_bank,
    stub_network,
    training_data,
)
from tests.methods.episodes import take_step
from tests.reference import multi_memory as reference

__all__ = ["stub_network"]
SMALL = {
    **TWO_STAGES,
    **{"joint_k1": 10, "joint_k2": 6, "epochs_warm_up": 1, "epochs_matched": 2},
    **{"matched_labels": 3, "matched_instances": 2, "padding": 4},
}
STAGE = MMM.stages(MMMConfig(**SMALL))[-1]
START = Epoch(5, STAGE, 0)


def later(phase: Any = TRAIN, in_stage: int = 1) -> Epoch:
    return Epoch(5 + in_stage, STAGE, in_stage, phase)


def mmm(bank: FeatureBank, **changes: object) -> MMM:
    return MMM(MMMConfig(**SMALL | changes), training_data(bank.modality))


def started(bank: FeatureBank, **changes: object) -> tuple[MMM, EpochPlan]:
    """A method in the first epoch of stage III."""
    method = mmm(bank, **changes)
    method.optimisers(STAGE)
    plan = method.begin_epoch(START, bank)
    assert not plan.skipped
    return method, plan


def nothing(bank: FeatureBank) -> FeatureBank:
    return replace(bank, features=torch.empty(len(bank), 0))


def batch_of(method: MMM, plan: EpochPlan, iteration: int = 0) -> Batch:
    """The batch that a plan of stage III draws, on random images."""
    generator, parts = torch.Generator().manual_seed(iteration), {}
    for stream in plan.streams:
        position = stream.batch_indices[iteration]
        rows, labels = stream.sample_index[position], stream.pseudo_label[position]
        views = 2 if stream.name == "visible" else 1
        images = torch.randn(views * len(rows), 3, 8, 4, generator=generator)
        modality = method.data.modality[rows].repeat(views)
        view = torch.arange(views).repeat_interleave(len(rows))
        space = stream.label_space
        parts[stream.name] = Part(
            images, modality, modality + 1, labels.repeat(views), rows.repeat(views), view, space
        )
    return Batch(plan.steps[0].name, iteration, parts)


def look(method: MMM, plan: EpochPlan, epoch: Epoch) -> list[tuple[Batch, Predictions]]:
    """Make a pass, as the engine does; return what was seen."""
    found = []
    for i in range(plan.iterations):
        batch = batch_of(method, plan, i)
        with torch.no_grad():
            seen = method.forward(batch)
            method.update(seen, batch, epoch)
        found.append((batch, seen))
    return found


def test_stages_and_phases_of_the_published_code() -> None:
    stages = MMM.stages(MMMConfig())
    assert [(stage.name, stage.epochs) for stage in stages] == [("dual", 50), ("cross", 50), ("matched", 100)]
    assert {stage.initial for stage in stages} == {"last"}
    method = mmm(person_bank())
    phases = [[phase.name for phase in method.phases(Epoch(0, STAGE, e))] for e in (0, 1)]
    assert phases == [["train"], ["confidence", "train", "prototypes"]]
    assert [phase.name for phase in method.phases(DUAL)] == ["train"]


def test_learning_rates_and_what_a_stage_decides() -> None:
    method = mmm(person_bank(), flip_test=False, bn_chunks=2)
    assert method.optimisers(DUAL.stage)["model"].optimiser.param_groups[0]["lr"] == 3.5e-4
    assert (method.flip_test, method.backbone.bn_chunks) == (True, 2)
    made = method.optimisers(STAGE)["model"]
    assert (method.flip_test, method.backbone.bn_chunks) == (False, 1)
    head, body = made.optimiser.param_groups
    assert head["initial_lr"] == pytest.approx(0.1)
    assert body["initial_lr"] == pytest.approx(0.01)
    assert method.classifier.weight in set(head["params"])
    rates = []
    for _ in range(45):
        rates.append(head["lr"])
        made.optimiser.step()
        made.schedule.step()
    assert [rates[e] for e in (0, 4, 9, 10, 19, 20, 39, 40)] == pytest.approx(
        [0.01, 0.05, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    )


@pytest.mark.parametrize(("epoch", "steps"), [(DUAL, ["dual"]), (CROSS, ["dual", "joint"])])
def test_contrast_of_the_first_stages(epoch: Epoch, steps: list[str]) -> None:
    bank = person_bank()
    method = mmm(bank)
    plan = method.begin_epoch(epoch, bank)
    assert [step.name for step in plan.steps] == steps
    for step in plan.steps:
        drawn = draw_batch(method, plan, step)
        before = {name: method.memories[name].centroids.clone() for name in step.streams}
        _, terms = take_step(method, drawn, epoch)
        assert set(terms) == {f"cluster_{name}" for name in step.streams}
        assert all(not torch.equal(method.memories[n].centroids, rows) for n, rows in before.items())
    assert all(p.grad is None for p in method.classifier.parameters())


def test_joint_rows_are_means_of_modality_means() -> None:
    bank = person_bank(visible=6, infrared=5, images=5)
    method = mmm(bank)
    plan = method.begin_epoch(CROSS, bank)
    joint, rows = plan.labels["joint"], method.memories["joint-visible"].centroids
    assert method.memories["joint-infrared"].centroids is rows
    label = int(joint[bank.modality == INFRARED].max())
    halves = [bank.features[(joint == label) & (bank.modality == m)].mean(0) for m in (VISIBLE, INFRARED)]
    torch.testing.assert_close(rows[label], torch.nn.functional.normalize(sum(halves) / 2, dim=0))


def test_matching_gives_people_their_infrared_labels_once() -> None:
    bank = person_bank(visible=8, infrared=6)
    method, plan = started(bank)
    person = torch.cat([torch.arange(8), torch.arange(6)]).repeat_interleave(5)
    labels = method.fixed.labels
    assert torch.equal(plan.labels["joint"], labels)
    infrared = bank.modality == INFRARED
    of_person = {int(p): int(y) for p, y in zip(person[infrared], labels[infrared], strict=True)}
    assert len(set(of_person.values())) == 6
    known = ~infrared & (person < 6)
    assert labels[known].tolist() == [of_person[int(p)] for p in person[known]]
    assert set(labels[~infrared & (person >= 6)].tolist()) <= set(of_person.values())
    assert plan.record["visible_clusters"] == 8
    assert plan.record["infrared_clusters"] == plan.record["partners"] == 6
    assert plan.record["images_dropped"] == 0
    assert not method.uses_features(later())
    again = method.begin_epoch(later(in_stage=0), nothing(bank))
    assert torch.equal(again.labels["joint"], labels)
    assert method.classifier.weight.shape == (6, method.backbone.dimension)


def test_stage_three_starts_from_the_first_weights_and_its_optimiser_moves_the_new_classifier() -> None:
    bank = person_bank()
    method = mmm(bank)
    first = {key: value.clone() for key, value in method.backbone.state_dict().items()}
    with torch.no_grad():
        method.backbone.weight.mul_(2)
    optimiser = method.optimisers(STAGE)["model"].optimiser
    plan = method.begin_epoch(START, bank)
    assert all(torch.equal(value, first[key]) for key, value in method.backbone.state_dict().items())
    before = method.classifier.weight.detach().clone()
    assert before.abs().max() < 0.01
    assert not method.prototypes.rows.any()
    batch = batch_of(method, plan)
    terms = method.loss(method.forward(batch), batch, START)
    assert set(terms) == {"identity"}
    terms["identity"].backward()
    optimiser.step()
    assert not torch.equal(method.classifier.weight, before)


def test_a_classifier_keeps_its_place_in_an_optimiser() -> None:
    classifier = Classifier(3)
    optimiser = torch.optim.SGD(classifier.parameters(), 1.0)
    for classes in (2, 5):
        classifier.resize(classes, seed=1)
        before = classifier.weight.detach().clone()
        optimiser.zero_grad()
        classifier(torch.ones(1, 3)).sum().backward()
        optimiser.step()
        torch.testing.assert_close(classifier.weight, before - 1)


def test_an_epoch_looks_trains_and_looks_again_on_what_was_trained() -> None:
    bank = person_bank()
    method, _ = started(bank)
    epoch = later(CONFIDENCE)
    plan = method.begin_epoch(epoch, nothing(bank))
    assert [(step.name, step.optimiser) for step in plan.steps] == [("confidence", None)]
    assert plan.iterations == (30 + 4) // 6
    last: dict[tuple[int, int], Tensor] = {}
    for batch, seen in look(method, plan, epoch):
        part = batch.of("joint")
        cost = torch.nn.functional.cross_entropy(seen.logits, part.pseudo_label, reduction="none")
        for i in range(len(part)):
            kind = 2 if part.modality[i] == INFRARED else int(part.view[i])
            last[kind, int(part.sample_index[i])] = cost[i]
    for (kind, image), cost in last.items():
        assert method.losses.costs[kind, image] == cost
    assert int((~method.losses.costs.isnan()).sum()) == len(last)

    trained = method.begin_epoch(later(), nothing(bank))
    assert trained.iterations == 30 // 6 + 1
    assert 0 <= trained.record["confidence_visible"] <= 1
    assert trained.steps[0].optimiser == "model"
    for i in range(trained.iterations):
        labels = [part.pseudo_label[:6] for part in batch_of(method, trained, i).parts.values()]
        assert torch.equal(*labels)
        assert len(labels[0].unique()) == 3
    epoch = later(PROTOTYPES)
    again = method.begin_epoch(epoch, nothing(bank))
    for one, two in zip(trained.streams, again.streams, strict=True):
        assert torch.equal(one.batch_indices, two.batch_indices)
    sums: dict[tuple[int, int], list[Tensor]] = {}
    for batch, seen in look(method, again, epoch):
        part = batch.of("joint")
        for i in range(len(part)):
            kind = 2 if part.modality[i] == INFRARED else int(part.view[i])
            weight = method.confidence[kind, part.sample_index[i]]
            sums.setdefault((kind, int(part.pseudo_label[i])), []).append(weight * seen.pooled[i])
    for (kind, label), rows in sums.items():
        torch.testing.assert_close(method.prototypes.rows[kind, label], torch.stack(rows).mean(0))


@pytest.mark.parametrize("skip", [False, True])
def test_loss_of_stage_three_by_hand(skip: bool) -> None:
    bank = person_bank()
    method, _ = started(bank, skip_unset_prototypes=skip)
    generator = torch.Generator().manual_seed(3)
    method.confidence = torch.rand(3, len(bank), generator=generator)
    rows = method.prototypes.rows
    rows[:, 1:] = torch.randn(rows[:, 1:].shape, generator=generator)
    plan = method.fixed.plan("train", method.draw(method.fixed, later(), "train"), (3, 2), {})
    batch = batch_of(method, plan)
    seen = method.forward(batch)
    terms = method.loss(seen, batch, later())
    part = batch.of("joint")
    y, x = part.pseudo_label, seen.pooled.detach()
    kind = [0] * 6 + [1] * 6 + [2] * 6
    w = torch.tensor([method.confidence[k, int(i)] for k, i in zip(kind, part.sample_index, strict=True)])
    log_p = seen.logits.detach().log_softmax(1)
    identity = sum(-w[i] * log_p[i, y[i]] for i in range(18)) / 18
    intra = 0.0
    for i in range(18):
        if skip and not rows[kind[i], y[i]].any():
            continue
        away = w[i] * (x[i] - rows[kind[i], y[i]]).abs().mean()
        intra += float(away) * (0.5 if kind[i] < 2 else 1)
    v, a, r = (each.numpy() for each in x.chunk(3))
    names = y[:6].tolist()
    inter = 2 * (reference.discrepancy(v, r, names) + reference.discrepancy(a, r, names))
    hard = 0.0
    for i in range(18):
        d = (x[i] - x).square().sum(1).clamp(min=1e-12).sqrt()
        hard += max(0.0, float(d[y == y[i]].max() - d[y != y[i]].min()) + 0.2)
    expected = {
        **{"identity": float(identity), "triplet": hard / 18},
        **{"intra": 0.5 * intra / 6, "inter": 0.05 * inter / len(set(names))},
    }
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_batches_of_one_label_have_no_negatives() -> None:
    bank = person_bank(visible=6, infrared=1, images=8)
    method, plan = started(bank, min_samples=2)
    assert plan.record["partners"] == 1
    method.begin_epoch(later(CONFIDENCE), nothing(bank))
    plan = method.begin_epoch(later(), nothing(bank))
    assert plan.record["confidence_visible"] == 1  # no loss was seen
    batch = batch_of(method, plan)
    _, terms = take_step(method, batch, later())
    assert float(terms["triplet"].detach()) == 0


def test_what_cannot_be_matched_is_skipped_with_the_reason() -> None:
    bank = person_bank()
    noise = mmm(bank, min_samples=40)
    why = noise.begin_epoch(START, bank).skipped
    assert why.startswith("no visible cluster and no infrared cluster, with eps")
    assert noise.fixed is None
    assert noise.uses_features(later())
    assert not noise.state()
    few = mmm(bank, matched_instances=9).begin_epoch(START, bank).skipped
    assert few.startswith("no label has 9 images of each modality")
    one = person_bank(visible=5, infrared=1, images=8)
    assert "no infrared cluster to match with" in mmm(one, match_all=False).begin_epoch(START, one).skipped
    assert mmm(one).begin_epoch(DUAL, one).skipped.startswith("fewer than two clusters (infrared: 1)")


def test_noise_leaves_stage_three() -> None:
    bank = person_bank(images=8)
    features = bank.features.clone()
    features[3] = -features[3]
    method, plan = started(replace(bank, features=features))
    assert method.fixed.labels[3] == NOISE
    noise = torch.nonzero(method.fixed.labels == NOISE).flatten()
    assert plan.record["images_dropped"] == len(noise)
    assert all(not torch.isin(stream.sample_index, noise).any() for stream in plan.streams)


def test_state_goes_to_another_process() -> None:
    bank = person_bank()
    method, _ = started(bank)
    method.prototypes.rows.fill_(2)
    other = mmm(bank)
    other.load_state(method.state())
    assert torch.equal(other.fixed.labels, method.fixed.labels)
    assert torch.equal(other.prototypes.rows, method.prototypes.rows)
    assert not other.uses_features(later())
    fresh = mmm(bank)
    fresh.load_state({})
    assert fresh.fixed is None


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_common_labels_at_the_same_places(seed: int, classes: int, instances: int) -> None:
    generator = np.random.default_rng(seed)
    sides = [generator.integers(-1, 6, 20) for _ in range(2)]
    counts = [[int((side == k).sum()) for k in range(6)] for side in sides]
    enough = {k for k in range(6) if min(counts[0][k], counts[1][k]) >= instances}
    if not enough:
        with pytest.raises(MethodError, match="no label has"):
            common_label_batches(*sides, classes, instances, 3, generator)
        return
    drawn = common_label_batches(*sides, classes, instances, 5, generator)
    visible, infrared = np.split(drawn, 2, axis=1)
    assert visible.shape[1] == instances * (classes if len(set(sides[0]) - {-1}) >= classes else len(enough))
    assert np.array_equal(sides[0][visible], sides[1][infrared])
    assert set(sides[0][visible].ravel()) <= enough
    if len(enough) == len(set(sides[0]) - {-1}):
        assert all(len(set(row)) * instances == len(row) for row in sides[0][visible])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 30), st.integers(0, 30), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_passes_visit_all_and_the_first_again(v: int, r: int, more_v: int, more_r: int, size: int) -> None:
    drawn = padded_passes(v, r, (more_v, more_r), size, np.random.default_rng(0))
    visible, infrared = np.split(drawn, 2, axis=1)
    size = min(size, v + more_v)
    assert visible.shape == infrared.shape == ((v + more_v) // size, size)
    lists = [np.bincount(np.arange(n + more) % n, minlength=n) for n, more in ((v, more_v), (r, more_r))]
    assert (np.bincount(visible.ravel(), minlength=v) <= lists[0]).all()
    assert visible.size > v + more_v - size
    times = np.bincount(infrared.ravel(), minlength=r)
    if infrared.size <= r + more_r:
        assert (times <= lists[1]).all()
    else:
        assert (times >= lists[1]).all()
    assert len(padded_passes(v, r, (more_v, more_r), size, np.random.default_rng(0), 1)) == 1


def test_padding_of_the_two_data_sets() -> None:
    labels = torch.zeros(50, dtype=torch.int64)
    fixed = FixedLabels(labels, torch.arange(50) // 30)
    generator = np.random.default_rng(0)
    to_visible = fixed.passes(14, "to-visible", (2, 2), 100, generator)
    alike = fixed.passes(20, "alike", (2, 2), 100, generator)
    assert (len(to_visible), len(alike)) == (11, 12)
    assert np.bincount(to_visible[:, 4:].ravel()).max() <= 3


@pytest.mark.parametrize("label_count", [1, 2])
def test_discrepancy_equals_the_loops_and_its_partner_may_be_constant(label_count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6) % label_count
    x, y = (torch.randn(6, 5, generator=generator).requires_grad_() for _ in range(2))
    found = mean_discrepancy(x, y, labels)
    expected = reference.discrepancy(x.detach().numpy(), y.detach().numpy(), labels.tolist())
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    whole = torch.autograd.grad(found, x)[0]
    torch.testing.assert_close(torch.autograd.grad(mean_discrepancy(x, y.detach(), labels), x)[0], whole)


def test_rows_that_are_all_alike_have_no_discrepancy() -> None:
    x = torch.full((4, 300), 0.1).requires_grad_()
    y = torch.cat(
        [torch.full((2, 300), 0.1), torch.randn(2, 300, generator=torch.Generator().manual_seed(0))]
    )
    found = mean_discrepancy(x, y, torch.tensor([0, 0, 1, 1]))
    alone = mean_discrepancy(x[2:], y[2:], torch.tensor([1, 1]))
    torch.testing.assert_close(found, alone)
    found.backward()
    assert bool(x.grad.isfinite().all())
    assert not x.grad[:2].any()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="joint_k2"):
        MMMConfig(joint_k1=10, joint_k2=11)
    with pytest.raises(ValidationError, match="matching"):
        MMMConfig(matching="best")


@pytest.mark.parametrize("preset", [*MMM.presets])
def test_presets_are_valid(preset: str) -> None:
    for dataset in ("sysu-mm01", "regdb"):
        values = {**MMM.presets[preset].get("*", {}), **MMM.presets[preset].get(dataset, {})}
        assert MMMConfig(**values).model_dump().items() >= values.items()


def test_public_sets_every_quirk_that_is_mended_by_default() -> None:
    public = MMMConfig(**MMM.presets["public"]["*"])
    changed = {key for key, value in public.model_dump().items() if value != getattr(MMMConfig(), key)}
    assert changed == {
        *("stage_init", "bn_chunks", "memory_gradient", "renormalise_flip"),
        *("match_all", "unvisited", "flip_test"),
    }
    assert {MATCHED, WARM_UP} == {"matched", "warm-up"}
