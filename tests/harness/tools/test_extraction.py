"""Features of finished runs: they score as the run did, and cluster as its next epoch would have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from harness.cli.app import main
from harness.errors import HarnessError
from harness.tools.extraction import extract
from harness.training.diagnostics import cluster_quality
from harness.training.progress import Reporter
from protocols.regdb import RegDB
from results.errors import ResultsError
from results.store import read_run
from tests.conftest import tiny_settings

QUIET = Reporter(Console(quiet=True))
SIZES = ("k1=8", "k2=4", "eps=0.6", "min_samples=2", "labels_per_batch=3", "instances=2", "iterations=2")


@pytest.fixture(scope="module")
def runs(tiny_regdb: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train one epoch, and the same epoch with another one after it."""
    folder = tmp_path_factory.mktemp("runs")
    words = ("run", "cluster-contrast", "--protocol", "regdb", "--trials", "1", "--data", str(tiny_regdb))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for epochs in (1, 2):
            sets = tiny_settings(*SIZES, f"epochs={epochs}")
            with pytest.raises(SystemExit, match="0"):
                main([*words, *sets, "--device", "cpu", "--out", str(epochs)])
    one, two = (next((folder / str(epochs)).rglob("COMPLETE")).parent for epochs in (1, 2))
    return one, two


def test_test_features_score_as_the_run_did(
    runs: tuple[Path, Path], tiny_regdb: Path, tmp_path: Path
) -> None:
    found = extract(runs[0], "test", QUIET, data=str(tiny_regdb), images=tmp_path)
    row = {path: i for i, path in enumerate(found.images.images.paths)}
    rows = read_run(runs[0]).metrics.query("checkpoint == 'last' and metric == 'mAP'")
    trials = RegDB().trials(tiny_regdb, 1, allow_partial=True)
    assert len(trials) == len(rows) == 2
    for trial in trials:
        sides = [trial.query, trial.gallery]
        query, gallery = (found.features[[row[p] for p in side.images.paths]].astype(float) for side in sides)
        scores = RegDB().score(
            -query @ gallery.T,
            *(side.identity for side in sides),
            *(side.images.camera for side in sides),
        )
        (value,) = rows[rows["setting"] == trial.setting]["value"]
        assert 100 * scores.mAP == pytest.approx(value, abs=1e-9)
    assert not found.labels


def test_labels_are_those_of_the_next_epoch(
    runs: tuple[Path, Path], tiny_regdb: Path, tmp_path: Path
) -> None:
    found = extract(runs[0], "training", QUIET, data=str(tiny_regdb), images=tmp_path)
    history = read_run(runs[1]).history
    assert found.labels
    for space, labels in found.labels.items():
        inside = labels != -2
        quality = cluster_quality(labels[inside], found.images.identity[inside])
        assert quality["clusters"] > 1
        for name in ("clusters", "noise", "ari"):
            assert quality[name] == pytest.approx(history[f"{name}_{space}"].iloc[1], abs=1e-12), (
                space,
                name,
            )


def test_the_file_is_whole_repeats_and_says_what_identities_are(
    runs: tuple[Path, Path], tiny_regdb: Path, tmp_path: Path
) -> None:
    found, again = (
        extract(runs[0], "training", QUIET, data=str(tiny_regdb), images=tmp_path) for _ in range(2)
    )
    assert found.content() == again.content()
    (tmp_path / "f.npz").write_bytes(found.content())
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert {"features", "paths", "modality", "camera", "identity", "about"} < set(file.files)
        assert json.loads(str(file["about"]))["identity"].startswith("never used in training")
        assert (tiny_regdb / str(file["paths"][0])).is_file()
        np.testing.assert_allclose(np.linalg.norm(file["features"], axis=1), 1, atol=1e-5)


def test_what_is_no_finished_run_is_refused(
    runs: tuple[Path, Path], tiny_regdb: Path, tmp_path: Path
) -> None:
    data = str(tiny_regdb)
    with pytest.raises(HarnessError, match="--part val: expected training or test"):
        extract(runs[0], "val", QUIET, data=data)
    with pytest.raises(HarnessError, match="no such folder"):
        extract(tmp_path / "none", "test", QUIET, data=data)
    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    with (copy / "checkpoints" / "last.ckpt").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ResultsError, match=r"last\.ckpt: it has changed since the run finished"):
        extract(copy, "test", QUIET, data=data)
    (copy / "COMPLETE").unlink()
    with pytest.raises(HarnessError, match="is no finished run"):
        extract(copy, "test", QUIET, data=data)
