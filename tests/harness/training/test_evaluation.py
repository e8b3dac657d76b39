"""Scoring inside a run: same numbers from arrays and tensors, features that no number can be made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.inputs.store import ImageOpener
from harness.runs.configuration import EngineConfig
from harness.training.engine import Engine
from harness.training.evaluation import Evaluation, own_distances, refuse_features
from harness.training.progress import Reporter
from protocols.regdb import RegDB
from protocols.sysu_mm01 import SysuIndoor

SMALL = {"architecture": "resnet18", "height": 32, "width": 16, "weights": "none", "precision": "32"}
pytestmark = pytest.mark.filterwarnings("ignore::protocols.metrics.ShortGalleryWarning")


class Pixels(nn.Module):
    """Stands in for a backbone: the pixels themselves, coarsely, so that distances tie."""

    def forward(self, images: Tensor, _modality: Tensor) -> tuple[Tensor]:
        return (nn.functional.adaptive_avg_pool2d(images, (2, 1)).flatten(1).round() + 0.5,)


class OnDevice(Engine):
    """Hands over tensors, as on a GPU."""

    def negated_products(self, query: Tensor, gallery: Tensor) -> np.ndarray | Tensor:
        return torch.as_tensor(super().negated_products(query, gallery))


def opener(config: EngineConfig, caches: Path) -> ImageOpener:
    return ImageOpener(config.height, config.width, torch.device("cpu"), caches, config.cache_mib, print)


@pytest.fixture
def reporter() -> Reporter:
    from rich.console import Console

    return Reporter(Console(quiet=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dataset", ["regdb", "sysu"])
def test_tensors_give_the_rows_of_arrays(
    dataset: str, request: pytest.FixtureRequest, reporter: Reporter, tmp_path: Path
) -> None:
    root: Path = request.getfixturevalue(f"tiny_{dataset}")
    config = EngineConfig(**SMALL)
    protocols = [RegDB()] if dataset == "regdb" else [SysuIndoor()]
    evaluation = Evaluation(protocols, root, protocols[0].dataset.splits[0], opener(config, tmp_path), True)
    of_arrays, of_tensors = (
        evaluation.run(engine(config, "cpu", 0, reporter), Pixels()) for engine in (Engine, OnDevice)
    )
    assert of_arrays.rows == of_tensors.rows
    assert any(0 < row["value"] < 100 for row in of_arrays.rows)
    for key, ranks in of_arrays.ranks.items():
        np.testing.assert_array_equal(ranks, of_tensors.ranks[key])


def test_distances_are_float64_products_of_float32_features(reporter: Reporter) -> None:
    engine = Engine(EngineConfig(**SMALL), "cpu", 0, reporter)
    q, g = torch.randn(5, 64), torch.randn(7, 64)
    found = engine.negated_products(q, g)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, -(q.numpy().astype(float) @ g.numpy().astype(float).T), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 0.0])
def test_features_without_meaning_name_the_first_image(bad: float) -> None:
    features = torch.ones(4, 3)
    features[2:] = bad
    with pytest.raises(HarnessError, match=r"2 of 4 test features .*cam3/0001/0003\.jpg"):
        refuse_features(features, [f"cam3/0001/000{i}.jpg" for i in range(1, 5)], "test")


def test_features_with_some_zeros_are_fine() -> None:
    refuse_features(torch.eye(4), list("abcd"), "test")


@pytest.mark.filterwarnings("ignore")
def test_a_method_may_be_tested_without_mirrors(tiny_regdb: Path, reporter: Reporter, tmp_path: Path) -> None:
    class Left(nn.Module):
        """Sees the left column alone, so that mirrors tell."""

        def forward(self, images: Tensor, _modality: Tensor) -> tuple[Tensor]:
            return (images[..., 0].flatten(1) + 3,)

    mirrored, alone = (EngineConfig(**SMALL, flip=flip) for flip in (True, False))
    evaluation = Evaluation([RegDB()], tiny_regdb, 1, opener(mirrored, tmp_path), True)
    engines = [Engine(config, "cpu", 0, reporter) for config in (mirrored, alone)]
    without = evaluation.run(engines[0], Left(), flip=False)
    assert without.rows == evaluation.run(engines[1], Left()).rows
    assert without.rows != evaluation.run(engines[0], Left()).rows


class RegDBReranked(RegDB):
    """RegDB's trials, by how many of their nearest gallery images two images share."""

    id = "regdb-reranked"
    summary = "RegDB, re-ranked by shared neighbours"
    from_features = True
    division = "open"
    extra = True

    def distances(self, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        """Return one minus the Jaccard index of the two lists, the inner product breaking ties."""
        near = [np.argsort(-side @ gallery.T, axis=1, kind="stable")[:, :5] for side in (query, gallery)]
        q, g = (np.stack([np.isin(np.arange(len(gallery)), row) for row in rows]) for rows in near)
        shared = q.astype(float) @ g.T.astype(float)
        return 1 - shared / (10 - shared) - 1e-3 * (query @ gallery.T)


@pytest.mark.filterwarnings("ignore")
def test_a_protocol_may_ask_for_features(tiny_regdb: Path, reporter: Reporter, tmp_path: Path) -> None:
    config, protocol = EngineConfig(**SMALL), RegDBReranked()
    evaluation = Evaluation([RegDB(), protocol], tiny_regdb, 1, opener(config, tmp_path), True)
    made = Engine(config, "cpu", 0, reporter)
    found = evaluation.run(made, Pixels())
    rows = {(row["setting"], row["metric"]): row for row in found.rows if row["protocol"] == "regdb-reranked"}
    assert all(row["division"] == "open" for row in rows.values())
    assert all("division" not in row for row in found.rows if row["protocol"] == "regdb")
    assert found.selection == evaluation.run(made, Pixels()).selection
    features = dict(
        zip(evaluation.listed.images.paths, evaluation.extract(made, Pixels()).numpy(), strict=True)
    )
    for trial in protocol.trials(tiny_regdb, 1, allow_partial=True):
        query, gallery = (
            np.stack([features[path] for path in side.images.paths]) for side in (trial.query, trial.gallery)
        )
        hits = []
        for one, identity in zip(query, trial.query.identity, strict=True):
            nearest = np.argsort(protocol.distances(one[None], gallery)[0], kind="stable")[0]
            hits.append(trial.gallery.identity[nearest] == identity)
        assert rows[trial.setting, "rank-1"]["value"] == pytest.approx(100 * np.mean(hits))


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.full((3, 4), np.nan), np.zeros((3, 4), dtype=int)])
def test_distances_of_a_protocol_that_make_no_sense_name_it(
    wrong: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegDBReranked, "distances", lambda *_: wrong)
    with pytest.raises(HarnessError, match="regdb-reranked gives distances of shape"):
        own_distances(RegDBReranked(), torch.ones(3, 2), torch.ones(4, 2))
