"""What public code computed for features that we made: labels with their numbers, distances within 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.clustering import (
    LARGEST_RADIUS,
    MIE,
    Capped,
    Expansion,
    MeanExpansion,
    ModalityMean,
    jaccard_clusters,
    jaccard_graph,
)
from tests.methods.clustering.cases import dense

FOLDER = Path(__file__).parents[2] / "data" / "clustering"
NAMES = ("small_k", "easy", "regdb")
TAGS = (
    "",
    "_modality_mean",
    "_mie",
    "_mie_wide",
    "_mie_visible",
    "_mie_infrared",
    "_capped",
    "_capped_visible",
)


class Oracle:
    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays: dict[str, Any] = {key: file[key] for key in file.files}

    def number(self, key: str) -> int:
        return int(self.arrays[key])

    def rows(self, tag: str) -> Tensor:
        modality = torch.from_numpy(self.arrays["modality"].astype(np.int64))
        if tag.endswith("_visible"):
            return modality == 0
        return modality == 1 if tag.endswith("_infrared") else torch.ones_like(modality, dtype=torch.bool)

    def features(self, tag: str) -> Tensor:
        return torch.from_numpy(self.arrays["features"])[self.rows(tag)]

    def expansion(self, tag: str) -> Expansion:
        modality, camera = (
            torch.from_numpy(self.arrays[key].astype(np.int64))[self.rows(tag)]
            for key in ("modality", "camera")
        )
        if tag.startswith("_capped"):
            cap = self.number("cap")
            pool = 2 * cap if tag.endswith("_visible") else self.number("k1")
            return Capped(pool=pool, cap=cap, modality=modality, camera=camera)
        if tag == "":
            return MeanExpansion(self.number("k2"))
        if tag == "_modality_mean":
            return ModalityMean(self.number("k2_mie"), modality)
        k2 = self.number("k2_mie_wide" if tag == "_mie_wide" else "k2_mie")
        return MIE(k2, modality, camera)


ORACLES = {name: Oracle(name) for name in NAMES}


def cases(output: str) -> list[tuple[str, str]]:
    """(oracle, tag) of every output of this kind that was recorded."""
    return [(name, tag) for name, one in ORACLES.items() for tag in TAGS if output + tag in one.arrays]


@pytest.mark.parametrize(("name", "tag"), cases("labels"))
def test_labels_with_their_numbers(name: str, tag: str) -> None:
    oracle = ORACLES[name]
    found = jaccard_clusters(
        oracle.features(tag),
        k1=oracle.number("k1"),
        eps=float(oracle.arrays["eps"]),
        min_samples=oracle.number("min_samples"),
        expansion=oracle.expansion(tag),
    )
    np.testing.assert_array_equal(found.labels.numpy(), oracle.arrays[f"labels{tag}"])


@pytest.mark.parametrize(("name", "tag"), cases("jaccard"))
def test_distances(name: str, tag: str) -> None:
    oracle = ORACLES[name]
    graph, _ = jaccard_graph(
        oracle.features(tag), k1=oracle.number("k1"), radius=LARGEST_RADIUS, expansion=oracle.expansion(tag)
    )
    distance = dense(graph)
    np.testing.assert_array_equal(distance, distance.T)
    upper = distance[np.triu_indices(len(distance))]
    np.testing.assert_allclose(upper, oracle.arrays[f"jaccard{tag}"], rtol=0, atol=1e-5)
