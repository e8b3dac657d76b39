"""Tidy frames: every row knows its run, and Parquet gives them back."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pandas as pd
import pytest

from results import load
from results.errors import ResultsError
from results.frames import write_parquet
from tests.results.cases import regdb_rows, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for method, seed in itertools.product(("adca", "dmic"), (0, 1)):
        config = {"eps": 0.5 if method == "adca" else [0.5, 0.6], "first": {"k1": 30}}
        write_run(root, regdb_rows(method, seed), spec={"config": config})
    return root


def test_every_row_says_of_which_run_it_is(folder: Path) -> None:
    frames = load(folder)
    assert frames.runs["run"].tolist() == ["adca-0-1", "adca-1-1", "dmic-0-1", "dmic-1-1"]
    assert frames.runs["config_first.k1"].tolist() == [30] * 4
    assert frames.runs["torch"].tolist() == ["2.15"] * 4
    for frame in frames[1:]:
        counts = frame.groupby(["run", "method", "seed"]).size()
        assert counts.index.tolist() == [
            ("adca-0-1", "adca", 0),
            ("adca-1-1", "adca", 1),
            ("dmic-0-1", "dmic", 0),
            ("dmic-1-1", "dmic", 1),
        ]
        assert counts.nunique() == 1
    best = frames.history.groupby("method")["test_mAP"].max()
    assert best["dmic"] == 30 + 1.5 * 9


def test_parquet_gives_the_frames_back(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frames = load(folder)
    files = write_parquet(frames, tmp_path / "out")
    assert [path.name for path in files] == [
        "runs.parquet",
        "metrics.parquet",
        "history.parquet",
        "profile.parquet",
    ]
    pd.testing.assert_frame_equal(pd.read_parquet(files[2]), frames.history, check_dtype=False)
    assert pd.read_parquet(files[0])["config_eps"].tolist() == ["0.5", "0.5", "[0.5, 0.6]", "[0.5, 0.6]"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResultsError, match="pip install 'reidbench\\[parquet\\]'"):
        write_parquet(frames, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no finished run found"):
        load(tmp_path)
