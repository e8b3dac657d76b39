"""N-ULC: blended labels, weighted terms, alternating direction, order of updates, whose neighbours are asked."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.base import Batch, Epoch, FeatureBank
from methods.clustering import nearest_neighbours
from methods.nulc import NULC, NULCConfig, weighted_cross_entropy
from methods.parts.contrast import cluster_modalities_plainly
from methods.parts.two_stream import Seen
from tests.methods.contrast_cases import (
    CROSS_STAGE,
    DUAL,
    TWO_STAGES,
    cross_entropy,
    draw_batch,
    follow,
    person_bank,
    stub_network,
    training_data,
)
from tests.methods.episodes import take_step
from tests.reference import association as reference

__all__ = ["stub_network"]
EVEN, ODD = Epoch(2, CROSS_STAGE, 0), Epoch(3, CROSS_STAGE, 1)
SIDES = ("visible", "infrared")


def nulc(bank: FeatureBank, **changes: object) -> NULC:
    return NULC(NULCConfig(**TWO_STAGES | {"neighbours": 4} | changes), training_data(bank.modality))


def one_step(
    epoch: Epoch, bank: FeatureBank | None = None, **changes: object
) -> tuple[NULC, Batch, Seen, dict[str, Tensor], dict[str, Tensor]]:
    """Train one step; return the method, its batch, what it saw, the rows before and the terms."""
    bank = person_bank(visible=7, infrared=5, noise=0.1) if bank is None else bank
    method = nulc(bank, **changes)
    plan = method.begin_epoch(epoch, bank)
    batch = draw_batch(method, plan, plan.steps[0])
    rows = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    seen, terms = take_step(method, batch, epoch)
    return method, batch, seen, rows, terms


def expected_term(
    bank: FeatureBank, method: NULC, batch: Batch, seen: Seen, rows: dict[str, Tensor], sides: tuple[str, str]
) -> float:
    """A term of stage II, image by image."""
    source, target = sides
    c, at = method.config, {"visible": 0, "infrared": 1}
    plan = method.begin_epoch(EVEN, bank)
    features = {side: bank.of(at[side]).features.numpy() for side in SIDES}
    labels = {side: plan.labels[side][bank.modality == at[side]].numpy() for side in SIDES}
    own = labels[source]
    if source != target:
        own = np.array([int(method.partner[source][y]) if y >= 0 else -1 for y in own])
    soft, weights = reference.neighbour_labels(
        features[source], features[target], labels[target], own, c.neighbours, c.weight_sharpness
    )
    part, total = batch.parts[source], 0.0
    first = int((bank.modality < at[source]).sum())
    log_p = torch.log_softmax(seen.features[source].detach() @ rows[target].T / c.temperature, 1)
    for i, index in enumerate((part.sample_index - first).tolist()):
        blended = (1 - c.label_share) * torch.from_numpy(soft[index])
        blended[own[index]] += c.label_share
        total -= weights[index] * float(blended @ log_p[i].double())
    return total / len(part)


@pytest.mark.parametrize("epoch", [EVEN, ODD], ids=["even", "odd"])
def test_terms_of_stage_two(epoch: Epoch) -> None:
    bank = person_bank(visible=7, infrared=5, noise=0.12)
    method, batch, seen, rows, terms = one_step(epoch, bank)
    assert list(terms) == ["cluster_infrared", "cluster_visible", "cross"]
    for side in SIDES:
        expected = expected_term(bank, method, batch, seen, rows, (side, side))
        assert terms[f"cluster_{side}"].item() == pytest.approx(expected, rel=1e-4)
    across = ("infrared", "visible") if epoch is ODD else ("visible", "infrared")
    expected = 3 * expected_term(bank, method, batch, seen, rows, across)
    assert terms["cross"].item() == pytest.approx(expected, rel=1e-4)


def test_stage_one_is_plain_contrast() -> None:
    _, batch, seen, rows, terms = one_step(DUAL)
    assert set(terms) == {"cluster_visible", "cluster_infrared"}
    for name, part in batch.parts.items():
        expected = cross_entropy(seen.features[name], rows[name], part.pseudo_label)
        assert terms[f"cluster_{name}"].item() == pytest.approx(expected, rel=1e-5)


def test_hard_labels_without_weights_are_pgms_terms_and_read_no_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bank = person_bank(visible=7, infrared=5, noise=0.1)
    method = nulc(bank, label_share=1.0, weight_sharpness=0.0)
    plan = method.begin_epoch(EVEN, bank)
    method.soft = {k: replace(s, share=s.share * math.nan) for k, s in method.soft.items()}
    batch = draw_batch(method, plan, plan.steps[0])
    rows = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    seen, terms = take_step(method, batch, EVEN)
    for name, part in batch.parts.items():
        expected = cross_entropy(seen.features[name], rows[name], part.pseudo_label)
        assert terms[f"cluster_{name}"].item() == pytest.approx(expected, rel=1e-5)
    partner = method.partner["visible"][batch.parts["visible"].pseudo_label]
    expected = 3 * cross_entropy(seen.features["visible"], rows["infrared"], partner)
    assert terms["cross"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gradient", ["frozen", "in_backward"])
@pytest.mark.parametrize("epoch", [EVEN, ODD], ids=["even", "odd"])
def test_partners_rows_move_first_whatever_the_weights(epoch: Epoch, gradient: str) -> None:
    method, batch, seen, rows, _ = one_step(epoch, memory_gradient=gradient, weight_sharpness=1000.0)
    source, target = ("infrared", "visible") if epoch is ODD else ("visible", "infrared")
    features = {name: f.detach() for name, f in seen.features.items()}
    partner = method.partner[source][batch.parts[source].pseudo_label]
    crossed = follow(rows[target], features[source], partner, 0.2)
    expected = follow(crossed, features[target], batch.parts[target].pseudo_label, 0.2)
    torch.testing.assert_close(method.memories[target].centroids, expected)
    own = follow(rows[source], features[source], batch.parts[source].pseudo_label, 0.2)
    torch.testing.assert_close(method.memories[source].centroids, own)


def test_without_weight_the_cross_term_is_left_out_with_its_updates() -> None:
    method, batch, seen, rows, terms = one_step(EVEN, cross_weight=0.0)
    assert "cross" not in terms
    label = batch.parts["infrared"].pseudo_label
    own = follow(rows["infrared"], seen.features["infrared"].detach(), label, 0.2)
    torch.testing.assert_close(method.memories["infrared"].centroids, own)


def test_doubtful_batches_take_smaller_steps() -> None:
    logits, target = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), torch.eye(4, 3)
    whole = weighted_cross_entropy(logits, target, torch.ones(4))
    torch.testing.assert_close(weighted_cross_entropy(logits, target, torch.full((4,), 0.25)), whole / 4)


@pytest.mark.parametrize("neighbours", [3, 6, 9])
def test_lists_of_the_clustering_are_those_of_a_search(neighbours: int) -> None:
    bank = person_bank(noise=0.2)
    method = nulc(bank, neighbours=neighbours)
    for space in cluster_modalities_plainly(method.config, bank).values():
        lists = method.own_neighbours(space)
        assert torch.equal(lists, nearest_neighbours(space.bank.features, neighbours).index)
        assert torch.equal(lists, method.own_neighbours(replace(space, neighbours=None)))


def test_more_neighbours_than_images_are_all_images() -> None:
    bank = person_bank(visible=3, infrared=2, images=5)
    method = nulc(bank, neighbours=99)
    assert not method.begin_epoch(EVEN, bank).skipped
    soft = method.soft["visible", "infrared"]
    assert soft.share.shape == (15, 11)
    torch.testing.assert_close(soft.share.sum(1), torch.ones(15))


@pytest.mark.parametrize(("visible", "infrared"), [(9, 2), (2, 9), (7, 3), (4, 4)])
def test_far_more_clusters_on_one_side(visible: int, infrared: int) -> None:
    bank = person_bank(visible, infrared, noise=0.05)
    method, *_ = one_step(EVEN, bank)
    for source, n in (("visible", visible), ("infrared", infrared)):
        assert len(method.partner[source]) == n
        assert bool((method.partner[source] >= 0).all())


def test_too_few_clusters_skip_the_epoch() -> None:
    bank = person_bank(visible=1, images=8)
    assert "visible: 1" in nulc(bank).begin_epoch(EVEN, bank).skipped
    bank = person_bank(noise=1.0)
    assert "fewer than two clusters" in nulc(bank, min_samples=9).begin_epoch(DUAL, bank).skipped


def test_weights_are_in_the_record_and_infrared_images_go_without_jitter() -> None:
    bank = person_bank(noise=0.05)
    plan = nulc(bank).begin_epoch(EVEN, bank)
    kinds = {"visible_visible", "infrared_infrared", "visible_infrared", "infrared_visible"}
    assert {f"weight_{kind}" for kind in kinds} <= plan.record.keys()
    assert all(0 <= plan.record[f"weight_{kind}"] <= 1 for kind in kinds)
    streams = {stream.name: stream for stream in plan.streams}
    assert streams["visible"].visible_views == ("plain", "jitter-exchange")
    assert streams["infrared"].infrared_views == ("channel-adapt-gray",)


@pytest.mark.parametrize("preset", [*NULC.presets])
def test_presets_are_valid(preset: str) -> None:
    for dataset in ("sysu-mm01", "regdb"):
        values = {**NULC.presets[preset].get("*", {}), **NULC.presets[preset].get(dataset, {})}
        assert NULCConfig(**values).model_dump().items() >= values.items()


def test_features_are_made_unit_for_the_neighbours() -> None:
    bank = person_bank(noise=0.2)
    lengths = torch.linspace(0.8, 1, len(bank))[:, None]
    method = nulc(bank, renormalise_flip=False, neighbours=5)
    plan = method.begin_epoch(EVEN, replace(bank, features=bank.features * lengths))
    visible, infrared = (bank.of(m) for m in (0, 1))
    labels = plan.labels["infrared"][infrared.sample_index].numpy()
    own = np.full(len(visible), -1)
    soft, _ = reference.neighbour_labels(
        normalize(visible.features).numpy(), normalize(infrared.features).numpy(), labels, own, 5, 10.0
    )
    found = method.soft["visible", "infrared"].of(torch.arange(len(visible)), soft.shape[1])
    torch.testing.assert_close(found.double(), torch.from_numpy(soft), atol=1e-6, rtol=0)
