"""Runs that are damaged, edited, unfinished, alone, or share nothing: a clear message, never a wrong table."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results.checksums import COMPLETE
from results.schema import METRICS
from results.store import read_frame
from tests.results.cases import finish, write_scored_run

Command = Callable[..., subprocess.CompletedProcess[str]]
READERS = (
    ("table", "runs"),
    ("table", "runs", "--layout", "paper"),
    ("table", "runs", "--format", "parquet", "--out", "frames"),
    ("report", "runs"),
    ("compare", "--all", "--runs", "runs"),
    ("figure", "cmc", "runs", "--out", "f.svg"),
    ("figure", "ranked", "runs", "--out", "f.svg"),
    ("bundle", "runs"),
    ("leaderboard", "runs"),
)


def one_run(method: str = "dmic", seed: int = 0, split: int = 1) -> Path:
    return write_scored_run(Path("runs"), method, seed, split=split)


def all_refuse(reidbench: Command, *words: str) -> None:
    """Assert that every command that reads runs says these words and leaves nothing behind."""
    for command in READERS:
        done = reidbench(*command)
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        for word in words:
            assert word in done.stderr, (command, done.stderr)
        assert sorted(path.name for path in Path().iterdir()) == ["runs"], command


def test_an_empty_selection(reidbench: Command) -> None:
    Path("runs").mkdir()
    all_refuse(reidbench, "no finished run found, 0 unfinished")


def test_unfinished_runs_alone(reidbench: Command) -> None:
    (one_run() / COMPLETE).unlink()
    all_refuse(reidbench, "no finished run found, 1 unfinished")


@pytest.mark.parametrize("name", ["metrics.csv", "manifest.json", "history.csv", "profile.csv"])
def test_a_file_that_was_edited_or_is_gone(reidbench: Command, name: str) -> None:
    path = one_run() / name
    path.write_text(path.read_text() + "\n")
    all_refuse(reidbench, f"{name}: it has changed since the run finished")
    path.unlink()
    # a folder without a manifest is no run
    gone = "no finished run found" if name == "manifest.json" else f"{name}: it is missing"
    all_refuse(reidbench, gone)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda rows: rows.assign(value=np.nan), "column 'value'"),
        (lambda rows: rows.assign(value=101.0), "column 'value'"),
        (lambda rows: rows.drop(columns="seed"), "seed"),
        (lambda rows: rows.iloc[:0], ""),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "has a row twice"),
        (lambda rows: rows.assign(run="other"), "has rows of other runs"),
        (lambda rows: rows.assign(method="pgm"), "the manifest says dmic"),
    ],
)
def test_rows_that_no_run_writes(
    reidbench: Command, damage: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    path = one_run()
    damage(read_frame(path / "metrics.csv", METRICS)).to_csv(path / "metrics.csv", index=False)
    finish(path)  # with digests of its own
    for command in READERS[:1] + READERS[3:5]:
        done = reidbench(*command)
        assert done.returncode == 2, (command, done.stdout)
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_ranks_that_are_damaged(reidbench: Command) -> None:
    one_run("adca")
    path = one_run()
    (path / "ranks.npz").write_bytes((path / "ranks.npz").read_bytes()[:-40])
    finish(path)
    for command in READERS[4:6]:
        done = reidbench(*command)
        assert done.returncode == 2, command
        assert "ranks.npz" in done.stderr
        assert "Traceback" not in done.stderr


def test_one_method_and_one_seed_are_said_to_be(reidbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.report.drawings", lambda *_: [])
    one_run()
    done = reidbench("compare", "--all", "--runs", "runs")
    assert done.returncode == 2
    assert "one method alone" in done.stderr
    one_run("pgm")
    done = reidbench("compare", "--all", "--runs", "runs")
    assert "training variance unknown, there is one seed" in done.stdout
    assert "nan" not in done.stdout.lower()
    done = reidbench("table", "runs")
    assert "nan" not in done.stdout.lower()
    assert "one value" in done.stdout or "±" not in done.stdout.splitlines()[2]
    assert reidbench("report", "runs").returncode == 0
    text = Path("report.html").read_text()
    assert "One seed alone: how much another training would differ is unknown, for dmic, pgm" in text
    assert "1 of 10 trials" in text
    assert ">nan" not in text


def test_methods_that_share_no_seed_or_no_trial(reidbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.report.drawings", lambda *_: [])
    one_run("dmic", seed=0)
    one_run("pgm", seed=1)
    done = reidbench("compare", "dmic", "pgm", "--runs", "runs")
    assert done.returncode == 2
    assert "no seed" in done.stderr or "share" in done.stderr
    done = reidbench("report", "runs")
    assert done.returncode == 0, done.stderr
    assert "Differences were not tested" in Path("report.html").read_text()


def test_a_table_goes_to_a_file(reidbench: Command) -> None:
    for method in ("dmic", "adca"):
        one_run(method)
    words = ("table", "runs", "--layout", "paper", "--format", "latex", "--where", "label=adca")
    done = reidbench(*words, "--out", "table.tex")
    assert done.returncode == 0, done.stderr
    assert Path("table.tex").read_text(encoding="utf-8") == reidbench(*words).stdout


def test_conditions_hold_for_parquet(reidbench: Command) -> None:
    pytest.importorskip("pyarrow")
    for method in ("dmic", "adca"):
        one_run(method)
    refused = reidbench("table", "runs", "--format", "parquet")
    assert refused.returncode == 2
    assert "into the folder --out" in refused.stderr
    words = ("--format", "parquet", "--where", "label=adca", "--out", "f")
    assert reidbench("table", "runs", *words).returncode == 0
    assert pd.read_parquet("f/runs.parquet")["method"].tolist() == ["adca"]
