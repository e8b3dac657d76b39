"""Names of expansions: what they need, and that a user's choices are all there."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from harness.tools.cluster import ClusterConfig, ExpansionName
from methods.clustering import EXPANSIONS, MIE, CameraAware, Capped, MeanExpansion
from methods.clustering.registry import arrays_of, make_expansion, settings_of


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("none", ()),
        ("plain", ()),
        ("modality-mean", ("modality",)),
        ("mie", ("modality", "camera")),
        ("capped", ("modality", "camera")),
        ("camera-aware", ("camera",)),
    ],
)
def test_arrays_that_an_expansion_needs(name: str, arrays: tuple[str, ...]) -> None:
    assert arrays_of(name) == arrays


def test_what_an_expansion_does_not_read_is_left_aside() -> None:
    modality, camera = torch.zeros(3), torch.ones(3)
    values = {"k2": 4, "pool": 9, "cap": 2, "k1_intra": 3, "modality": modality, "camera": camera}
    assert make_expansion("plain", values) == MeanExpansion(4)
    mie = make_expansion("mie", values)
    assert isinstance(mie, MIE)
    assert (mie.k2, mie.modality, mie.camera) == (4, modality, camera)
    capped = make_expansion("capped", values)
    assert isinstance(capped, Capped)
    assert (capped.pool, capped.cap) == (9, 2)
    aware = make_expansion("camera-aware", values)
    assert isinstance(aware, CameraAware)
    assert (aware.k1_intra, aware.k1_inter) == (3, 20)


def test_the_command_offers_every_expansion_and_its_settings() -> None:
    assert {*get_args(ExpansionName)} == {*EXPANSIONS}
    for name in EXPANSIONS:
        assert settings_of(name) - {"fill_lists"} <= ClusterConfig.model_fields.keys()
