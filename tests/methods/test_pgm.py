"""PGM: alternating direction, order and rule of memory updates, unequal numbers of clusters, views."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from methods.base import Batch, Epoch, FeatureBank
from methods.parts.two_stream import Seen
from methods.parts.update_rules import hardest
from methods.pgm import PGM, PGMConfig
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

__all__ = ["stub_network"]
EVEN, ODD = Epoch(2, CROSS_STAGE, 0), Epoch(3, CROSS_STAGE, 1)


def pgm(bank: FeatureBank, **changes: object) -> PGM:
    return PGM(PGMConfig(**TWO_STAGES | {"non_local": False} | changes), training_data(bank.modality))


def one_step(
    epoch: Epoch, **changes: object
) -> tuple[PGM, Batch, Seen, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Train one step; return the method, its batch, what it saw, the rows before and the terms."""
    bank = person_bank(visible=7, infrared=5)
    method = pgm(bank, **changes)
    plan = method.begin_epoch(epoch, bank)
    batch = draw_batch(method, plan, plan.steps[0])
    rows = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    seen, terms = take_step(method, batch, epoch)
    return method, batch, seen, rows, terms


def test_stage_one_has_no_cross_term() -> None:
    assert set(one_step(DUAL)[4]) == {"cluster_visible", "cluster_infrared"}


@pytest.mark.parametrize(
    ("epoch", "source", "target"),
    [
        (EVEN, "visible", "infrared"),
        (ODD, "infrared", "visible"),
        (Epoch(5, CROSS_STAGE, 2), "visible", "infrared"),
    ],
)
def test_the_direction_alternates_from_visible_to_infrared_rows(
    epoch: Epoch, source: str, target: str
) -> None:
    method, batch, seen, rows, terms = one_step(epoch)
    for name, part in batch.parts.items():
        own = cross_entropy(seen.features[name], rows[name], part.pseudo_label)
        assert terms[f"cluster_{name}"].item() == pytest.approx(own, rel=1e-5)
    partner = method.partner[source][batch.parts[source].pseudo_label]
    across = 0.25 * cross_entropy(seen.features[source], rows[target], partner)
    assert terms["cross"].item() == pytest.approx(across, rel=1e-5)


@pytest.mark.parametrize("gradient", ["frozen", "in_backward"])
@pytest.mark.parametrize("epoch", [EVEN, ODD], ids=["even", "odd"])
def test_the_cross_term_moves_rows_before_their_own_samples_do(epoch: Epoch, gradient: str) -> None:
    method, batch, seen, rows, _ = one_step(epoch, cross_update="sequential", memory_gradient=gradient)
    source, target = ("infrared", "visible") if epoch is ODD else ("visible", "infrared")
    features = {name: f.detach() for name, f in seen.features.items()}
    partner = method.partner[source][batch.parts[source].pseudo_label]
    crossed = follow(rows[target], features[source], partner, 0.2)
    expected = follow(crossed, features[target], batch.parts[target].pseudo_label, 0.2)
    torch.testing.assert_close(method.memories[target].centroids, expected)
    own = follow(rows[source], features[source], batch.parts[source].pseudo_label, 0.2)
    torch.testing.assert_close(method.memories[source].centroids, own)


def test_stage_two_moves_rows_by_the_hardest_sample() -> None:
    method, batch, seen, rows, _ = one_step(EVEN)
    label = batch.parts["visible"].pseudo_label
    touched, group = label.unique(return_inverse=True)
    expected = rows["visible"].clone()
    expected[touched] = hardest(expected[touched], seen.features["visible"].detach(), group, 0.2)
    torch.testing.assert_close(method.memories["visible"].centroids, expected)


def test_stage_one_moves_rows_by_every_sample() -> None:
    method, batch, seen, rows, _ = one_step(DUAL)
    for name, part in batch.parts.items():
        expected = follow(rows[name], seen.features[name].detach(), part.pseudo_label, 0.2)
        torch.testing.assert_close(method.memories[name].centroids, expected)


@pytest.mark.parametrize(
    ("visible", "infrared"), [(5, 5), (6, 5), (6, 3), (9, 3), (4, 7)], ids=lambda n: str(n)
)
def test_every_cluster_has_a_partner(visible: int, infrared: int) -> None:
    bank = person_bank(visible, infrared, noise=0.05)
    method = pgm(bank)
    plan = method.begin_epoch(EVEN, bank)
    rows = {name: memory.centroids for name, memory in method.memories.items()}
    assert (len(rows["visible"]), len(rows["infrared"])) == (visible, infrared)
    for name, other in (("visible", "infrared"), ("infrared", "visible")):
        assert len(method.partner[name]) == len(rows[name])
        assert bool(((method.partner[name] >= 0) & (method.partner[name] < len(rows[other]))).all())
    cost = torch.exp(-(rows["visible"] @ rows["infrared"].T))
    small = "visible" if visible < infrared else "infrared"
    cost = cost if small == "visible" else cost.T
    chosen = cost[torch.arange(len(cost)), method.partner[small]].sum()
    choices = torch.tensor(list(permutations(range(cost.shape[1]), len(cost))))
    best = cost[torch.arange(len(cost)), choices].sum(1).min()
    assert chosen.item() == pytest.approx(best.item(), rel=1e-5)
    assert plan.record["one_to_one"] == min(visible, infrared)


def test_leftover_clusters_go_to_the_larger_side_alone() -> None:
    bank = person_bank(visible=9, infrared=3)
    method = pgm(bank)
    method.begin_epoch(EVEN, bank)
    assert method.partner["visible"].bincount().tolist() == [3, 3, 3]
    back = method.partner["visible"][method.partner["infrared"]]
    assert back.tolist() == [0, 1, 2]


def test_without_weight_the_other_modality_moves_no_rows() -> None:
    method, batch, seen, rows, terms = one_step(EVEN, cross_weight=0.0, cross_update="sequential")
    assert "cross" not in terms
    own = follow(
        rows["infrared"], seen.features["infrared"].detach(), batch.parts["infrared"].pseudo_label, 0.2
    )
    torch.testing.assert_close(method.memories["infrared"].centroids, own)


@pytest.mark.parametrize(
    ("epoch", "jitter", "expected"),
    [
        (DUAL, True, "jitter-adapt-gray"),
        (DUAL, False, "channel-adapt-gray"),
        (EVEN, True, "channel-adapt-gray"),
    ],
)
def test_colour_jitter(epoch: Epoch, jitter: bool, expected: str) -> None:
    bank = person_bank()
    streams = {s.name: s for s in pgm(bank, infrared_jitter=jitter).begin_epoch(epoch, bank).streams}
    assert streams["visible"].visible_views == ("plain", "jitter-exchange")
    assert streams["infrared"].infrared_views == (expected,)


def test_one_cluster_or_noise_alone_skips_the_epoch() -> None:
    bank = person_bank(visible=1, images=8)
    assert "visible: 1" in pgm(bank).begin_epoch(EVEN, bank).skipped
    bank = person_bank(noise=1.0)
    assert pgm(bank, min_samples=9).begin_epoch(EVEN, bank).skipped


@pytest.mark.parametrize("preset", [*PGM.presets])
def test_presets_are_valid(preset: str) -> None:
    for dataset in ("sysu-mm01", "regdb"):
        values = {**PGM.presets[preset].get("*", {}), **PGM.presets[preset].get(dataset, {})}
        assert PGMConfig(**values).model_dump().items() >= values.items()
