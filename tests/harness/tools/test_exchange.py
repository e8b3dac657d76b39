"""``reidbench diff`` and ``leaderboard``: what two runs differ in, and pages of what others sent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.tools.diff import diff
from results.checksums import COMPLETE
from results.leaderboard import pages
from results.schema import HISTORY, METRICS, ResultsError
from results.store import find_runs, read_run, write_frame
from tests.results.cases import finish, regdb_rows, sysu_rows, write_run, write_scored_run

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return two equal runs in two places."""
    rows = regdb_rows()
    return write_run(tmp_path / "a", rows), write_run(tmp_path / "b", rows)


def change(run: Path, **entries: Any) -> None:
    """Change entries of a manifest by their places, as ``spec__seed``."""
    manifest = json.loads((run / "manifest.json").read_text())
    for place, value in entries.items():
        *above, last = place.split("__")
        inside = manifest
        for key in above:
            inside = inside[key]
        inside[last] = value
    (run / "manifest.json").write_text(json.dumps(manifest))
    finish(run)


def test_equal_runs_differ_in_nothing(reidbench: Command, pair: tuple[Path, Path]) -> None:
    done = reidbench("diff", *pair)
    assert done.returncode == 0, done.stderr
    assert "no difference" in done.stdout


def test_what_runs_are_made_of_is_compared(pair: tuple[Path, Path]) -> None:
    a, b = pair
    change(
        b,
        spec__config={"eps": 0.5, "first": {"k1": 3}},
        spec__data_digest="e",
        spec__weights="v",
        spec__sources="xyz",
        environment__packages={"torch": "2.16"},
        environment__commit="fff",
        device="cuda:0",
    )
    found = diff(a, b)
    assert found.results == ()
    assert found.inputs == (
        "data: d | e",
        "weights: w | v",
        "source code of the method: abc | xyz",
        "config eps: 0.6 | 0.5",
        "config first.k1: not said | 3",
        "environment commit: 0123abc | fff",
        "environment device: None | cuda:0",
        "environment torch: 2.15 | 2.16",
    )


def test_the_first_epoch_and_column_that_part_are_named(reidbench: Command, pair: tuple[Path, Path]) -> None:
    a, b = pair
    run = read_run(b)
    history = run.history.copy()
    history.loc[[4, 7], "eps"] += 0.1
    history.loc[4, "loss_intra"] = np.nan
    write_frame(history, b / "history.csv", HISTORY)
    rows = run.metrics.copy()
    rows.loc[[3, 8], "value"] += [0.5, 2.0]
    write_frame(rows, b / "metrics.csv", METRICS)
    finish(b)
    done = reidbench("diff", a, b)
    assert done.returncode == 1
    assert "made of the same" in done.stdout
    assert "history.csv: equal in 4 lines, then epoch 4, stage intra, phase train: " in done.stdout
    first = history.iloc[4]
    assert f"eps {first['eps'] - 0.1:.2f} | {first['eps']:.2f}" in re.sub(r"(\.\d\d)\d+", r"\1", done.stdout)
    assert "loss_intra 0.6 | nan" in done.stdout
    assert "metrics.csv: 2 of 36 scores differ, by 2 at most; the first is checkpoint last" in done.stdout
    shorter = history.iloc[:4].drop(columns="k2")
    write_frame(shorter, b / "history.csv", HISTORY)
    finish(b)
    said = "\n".join(diff(a, b).results)
    assert "history.csv: only one has k2" in said
    assert "equal as far as both go; 10 | 4 lines" in said


def test_what_cannot_be_compared_is_refused(
    reidbench: Command, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = pair
    (b / COMPLETE).unlink()
    for words, said in (
        ((a, tmp_path), "holds 2 runs"),
        ((a, b), "is not a finished run"),
        ((a, tmp_path / "none"), "is no folder and no bundle"),
    ):
        done = reidbench("diff", *words)
        assert done.returncode == 2
        assert said in done.stderr


def valid(path: Path) -> Path:
    """Give a made-up run the specification and the id that belong together."""
    from harness.runs.run_spec import RunSpec

    manifest = json.loads((path / "manifest.json").read_text())
    defaults = {"method": "m", "data": "synthetic", "training_version": 1}
    spec = RunSpec.model_validate(defaults | manifest["spec"] | {"sources": str(path)})
    manifest |= {"spec": spec.model_dump(), "run": spec.id}
    (path / "manifest.json").write_text(json.dumps(manifest))
    write_frame(read_rows(path).assign(run=spec.id), path / "metrics.csv", METRICS)
    return finish(path.rename(path.with_name(spec.id)))


def read_rows(path: Path) -> pd.DataFrame:
    from results.store import read_frame

    return read_frame(path / "metrics.csv", METRICS)


def test_a_leaderboard_has_a_table_a_protocol_and_every_manifest(reidbench: Command, tmp_path: Path) -> None:
    for method, shift in (("dmic", 0.5), ("<i>mine", 0.0)):
        valid(write_scored_run(tmp_path / "runs", method, shift=shift))
    valid(write_scored_run(tmp_path / "runs", "dmic", sysu=True))
    done = reidbench("bundle", "runs", "--out", "b.zip")
    assert done.returncode == 0, done.stderr
    done = reidbench("leaderboard", "b.zip", "--out", "site")
    assert done.returncode == 0, done.stderr
    assert "3 runs, every score computed anew" in done.stdout
    page = Path("site/index.html").read_text()
    assert "<script" not in page
    assert "<i>" not in page
    assert page.count("<table>") == 2
    links = re.findall(r'href="([^"#]+)"', page)
    assert all((Path("site") / link).is_file() for link in links)
    runs = find_runs([Path("b.zip")]).runs
    assert {f"manifests/{run.id}.json" for run in runs} <= set(links)
    regdb = page[page.index('<section id="regdb-synthetic"') :]
    values = re.findall(r'<th scope="row">([^<]*)</th>.*?number">[^<]*</td>', regdb, re.S)
    assert values[0] == "dmic"  # the best mAP first
    assert reidbench("leaderboard", "b.zip", "--out", "site").returncode == 0  # again, over itself
    assert Path("site/index.html").read_text() == page
    done = reidbench("leaderboard", "b.zip", "--out", "runs")
    assert done.returncode == 2
    assert "is there and no leaderboard" in done.stderr


def test_a_leaderboard_takes_no_edited_run_and_no_strange_id(reidbench: Command, tmp_path: Path) -> None:
    path = valid(write_scored_run(tmp_path / "runs", "dmic"))
    rows = read_rows(path)
    write_frame(rows.assign(value=rows["value"] / 2), path / "metrics.csv", METRICS)
    finish(path)
    done = reidbench("leaderboard", "runs", "--out", "site")
    assert done.returncode == 2
    assert "metrics.csv says" in done.stderr
    assert not Path("site").exists()
    other = write_run(tmp_path / "other", sysu_rows(run="..x"))
    with pytest.raises(ResultsError, match="not the id of a run"):
        pages([read_run(other)])


def test_the_same_runs_give_the_same_pages(tmp_path: Path) -> None:
    for method in ("a", "b"):
        write_scored_run(tmp_path, method)
    runs = find_runs([tmp_path]).runs
    assert pages(runs) == pages(runs[::-1])
    shutil.rmtree(tmp_path)
