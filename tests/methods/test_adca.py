"""ADCA: both stages' losses against their formula, aggregation inside an epoch, degenerate clusters."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from methods.adca import ADCA, ADCAConfig
from methods.base import Epoch, FeatureBank
from methods.parts.spaces import by_modality, label_space
from tests.methods.contrast_cases import (
    CROSS,
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


def adca(bank: FeatureBank, **changes: object) -> ADCA:
    return ADCA(ADCAConfig(**TWO_STAGES | changes), training_data(bank.modality))


def hand_made() -> tuple[FeatureBank, dict[str, torch.Tensor]]:
    """Three clusters and a noise sample in each modality, with these counts of similar pairs:

    visible 0: two with infrared 0 and two with infrared 1, of which infrared 1 has the most similar pair;
    visible 1: one with infrared 0; visible 2: nobody; both noise samples are alike each other and visible 2.
    """
    e = torch.eye(8)
    visible = torch.stack([e[0], e[1], e[2], e[2], e[3], e[3], e[7]])
    first = [0.6 * e[0] + 0.8 * e[4], 0.6 * e[1] + 0.55 * e[2] + 0.58 * e[4]]
    second = [0.9 * e[0] + 0.19**0.5 * e[5], 0.6 * e[1] + 0.8 * e[5]]
    infrared = normalize(torch.stack([*first, *second, e[6], e[6], e[3]]))
    labels = {
        "visible": torch.tensor([0, 0, 1, 1, 2, 2, -1]),
        "infrared": torch.tensor([0, 0, 1, 1, 2, 2, -1]),
    }
    modality = torch.arange(2).repeat_interleave(7)
    return FeatureBank(torch.cat([visible, infrared]), modality, modality + 1, torch.arange(14)), labels


def aggregated(monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[ADCA, dict[str, torch.Tensor]]:
    bank, labels = hand_made()
    method = adca(bank, **changes)
    spaces = {name: label_space(each, labels[name], len(bank)) for name, each in by_modality(bank).items()}
    monkeypatch.setattr("methods.adca.cluster_modalities_plainly", lambda config, bank: spaces)
    method.begin_epoch(DUAL, bank)
    before = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    plan = method.begin_epoch(CROSS, bank)
    assert plan.record["matched_clusters"] == 2
    return method, before


def test_the_most_similar_pair_decides_a_tie_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    method, before = aggregated(monkeypatch)
    moved, target = method.memories["visible"].centroids, before["infrared"]
    expected = before["visible"].clone()
    expected[0] = 0.1 * expected[0] + 0.9 * target[1]
    expected[1] = 0.1 * expected[1] + 0.9 * target[0]
    torch.testing.assert_close(moved, expected)
    assert torch.equal(method.memories["infrared"].centroids, target)
    cosine = before["visible"][0] @ target[1]
    assert float(moved[0].norm() ** 2) == pytest.approx(0.82 + 0.18 * float(cosine), rel=1e-5)


def test_rows_can_be_normalised_after_aggregation(monkeypatch: pytest.MonkeyPatch) -> None:
    method, _ = aggregated(monkeypatch, renormalise_cma=True)
    torch.testing.assert_close(method.memories["visible"].centroids.norm(dim=1), torch.ones(3))


def test_no_similar_pair_leaves_the_memories_alone() -> None:
    bank = person_bank(gap=3.0)
    method = adca(bank, cma_threshold=0.999)
    plan = method.begin_epoch(CROSS, bank)
    rows = method.memories["visible"].centroids.clone()
    assert plan.record["matched_clusters"] == 0
    method.begin_epoch(DUAL, bank)
    assert torch.equal(method.memories["visible"].centroids, rows)


@pytest.mark.parametrize("epoch", [DUAL, CROSS], ids=["dual", "cross"])
def test_losses_are_the_specification_and_the_last_sample_of_a_label_stays(epoch: Epoch) -> None:
    bank = person_bank()
    method = adca(bank)
    plan = method.begin_epoch(epoch, bank)
    batch = draw_batch(method, plan, plan.steps[0])
    rows = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    seen, terms = take_step(method, batch, epoch)
    assert set(terms) == {"cluster_visible", "cluster_infrared"}
    for name, part in batch.parts.items():
        f, label = seen.features[name].detach(), part.pseudo_label
        assert terms[f"cluster_{name}"].item() == pytest.approx(cross_entropy(f, rows[name], label), rel=1e-5)
        torch.testing.assert_close(method.memories[name].centroids, follow(rows[name], f, label, 0.1))
    assert batch.parts["visible"].view.unique().tolist() == [0, 1]


@pytest.mark.parametrize(("visible", "infrared"), [(7, 3), (2, 6)])
def test_unequal_numbers_of_clusters(visible: int, infrared: int) -> None:
    bank = person_bank(visible, infrared)
    method = adca(bank, cma_threshold=0.3)
    plan = method.begin_epoch(CROSS, bank)
    assert len(method.memories["visible"].centroids) == visible
    assert len(method.memories["infrared"].centroids) == infrared
    assert plan.record["matched_clusters"] == min(visible, infrared)


def test_one_cluster_or_noise_alone_skips_the_epoch_and_says_why() -> None:
    bank = person_bank(visible=1, images=8)
    assert "visible: 1" in adca(bank).begin_epoch(CROSS, bank).skipped
    bank = person_bank(noise=1.0)
    assert "eps = 1e-06" in adca(bank, eps=1e-6, min_samples=9).begin_epoch(DUAL, bank).skipped


@pytest.mark.parametrize("preset", [*ADCA.presets])
def test_presets_are_valid(preset: str) -> None:
    for dataset in ("sysu-mm01", "regdb"):
        values = {**ADCA.presets[preset].get("*", {}), **ADCA.presets[preset].get(dataset, {})}
        assert ADCAConfig(**values).model_dump().items() >= values.items()
