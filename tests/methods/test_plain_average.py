"""Features averaged with their mirrors' and left shorter than one, as the public codes cluster them (quirk Q2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from harness.registry import load_method
from methods.base import Epoch, EpochPlan, FeatureBank, Method
from methods.clustering import Expansion, MeanExpansion, ModalityMean, jaccard_clusters
from methods.ecul import ECULConfig
from methods.errors import MethodError
from methods.parts.contrast import cluster_plainly
from tests.methods.contrast_cases import SMALL, TWO_STAGES, person_bank, stub_network, training_data

__all__ = ["stub_network"]
FIELDS = {
    "adca": TWO_STAGES,
    "pgm": TWO_STAGES,
    "gur": {**SMALL, "unification_from": 0, "unification_top_k": 3, "smoothing_from": 0},
    "pca": {**TWO_STAGES, "joint_k1": 10, "joint_k2": 6},
}


def averaged(bank: FeatureBank) -> FeatureBank:
    """The bank averaged with one that differs by a little: rows of different lengths below one."""
    noise = torch.randn(bank.features.shape, generator=torch.Generator().manual_seed(9))
    mirrored = normalize(bank.features + torch.linspace(0.05, 0.1, len(bank))[:, None] * noise)
    return replace(bank, features=(bank.features + mirrored) / 2)


def public(name: str, bank: FeatureBank, **changes: object) -> Method:
    cls = load_method(name)
    values = {**cls.presets["public"]["*"], **FIELDS[name], **changes}
    return cls(cls.Config(**values), training_data(bank.modality, bank.camera))


def plans(method: Method, bank: FeatureBank) -> list[EpochPlan]:
    """Begin every phase of the last epoch of every stage."""
    found, number = [], 0
    for stage in method.stages(method.config):
        number += stage.epochs
        epoch = Epoch(number - 1, stage, 0)
        found += [method.begin_epoch(replace(epoch, phase=phase), bank) for phase in method.phases(epoch)]
    return found


@pytest.mark.parametrize("name", [*FIELDS])
def test_public_presets_cluster_plain_averages(name: str) -> None:
    bank = averaged(person_bank())
    assert bank.features.norm(dim=1).max() < 0.999
    method = public(name, bank)
    assert not method.renormalise_flip
    for plan in plans(method, bank):
        assert not plan.skipped
        for labels in plan.labels.values():
            assert int(labels.max()) == 5
        for memory in method.memories.values():  # type: ignore[attr-defined]
            if name != "adca":
                torch.testing.assert_close(memory.centroids.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("name", [*FIELDS])
def test_plain_averages_are_refused_where_unit_rows_are_promised(name: str) -> None:
    bank = averaged(person_bank())
    method = public(name, bank, renormalise_flip=True)
    with pytest.raises(MethodError, match="unit length"):
        plans(method, bank)


@pytest.mark.parametrize("kind", ["plain", "modality-mean"])
def test_unit_rows_give_the_clusters_of_the_core(kind: str) -> None:
    bank = person_bank(noise=0.15)
    expansion: Expansion = MeanExpansion(4) if kind == "plain" else ModalityMean(4, bank.modality)
    found, expected = (
        jaccard_clusters(bank.features, k1=8, eps=0.6, min_samples=2, expansion=expansion, unit=unit)
        for unit in (False, True)
    )
    assert expected.n_clusters > 1
    assert torch.equal(found.labels, expected.labels)
    assert (found.n_clusters, found.nearest, found.farthest) == pytest.approx(
        (expected.n_clusters, expected.nearest, expected.farthest), abs=1e-5
    )


def test_neighbours_of_plain_averages_are_the_nearest_not_the_most_similar() -> None:
    bank = person_bank(visible=1, infrared=1, images=2)
    direction, other = torch.eye(2)
    # short rows along one direction: the long row is most similar to both, their twin is nearest
    rows = torch.stack([0.6 * direction, 0.6 * direction + 0.01 * other, direction, direction + 0.01 * other])
    bank = replace(bank, features=rows)
    method = public("adca", bank, k1=2, k2=1, eps=0.9)
    assert cluster_plainly(method.config, bank, 0.9).labels.tolist() == [0, 0, 1, 1]


def test_ecul_keeps_unit_rows() -> None:
    with pytest.raises(ValidationError, match="renormalise_flip"):
        ECULConfig(renormalise_flip=False)
