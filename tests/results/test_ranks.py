"""Metric rows computed anew from ranked lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.checksums import COMPLETE
from results.ranks import KEPT, false_rows, precision_of
from results.schema import METRICS, ResultsError
from results.store import Run, find_runs, read_run, write_frame
from tests.results.cases import finish, write_scored_run

PLACE = "last/regdb/visible-to-thermal/1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_scored_run(tmp_path_factory.mktemp("runs"), "dmic"))


def first_fault(run: Run, **changes: Any) -> str:
    """Return the first fault with some arrays of one trial exchanged."""
    ranks = run.ranks() | {f"{PLACE}/{name}": array for name, array in changes.items()}
    return next(false_rows(run.metrics, ranks), "")


def test_rows_of_a_run_are_what_its_lists_give(run: Run) -> None:
    assert not list(false_rows(run.metrics, run.ranks()))


def test_average_precision_follows_from_the_ranks_of_matches() -> None:
    precision = precision_of(np.array([1, 4, 2]), np.array([0, 2, 2, 3]))
    np.testing.assert_allclose(precision, [(1 + 2 / 4) / 2, np.nan, 0.5])
    assert np.isnan(precision_of(np.array([], dtype=int), np.array([0, 0]))).all()


@pytest.mark.parametrize("metric", ["rank-1", "rank-20", "mAP", "mINP"])
def test_every_metric_is_checked_in_every_row(run: Run, metric: str) -> None:
    for row in run.metrics.index[run.metrics["metric"] == metric]:
        value = float(run.metrics.loc[row, "value"])
        rows = run.metrics.assign(value=run.metrics["value"].where(run.metrics.index != row, value - 1e-6))
        place = "/".join(str(rows.loc[row, name]) for name in ("checkpoint", "protocol", "setting", "trial"))
        (fault,) = false_rows(rows, run.ranks())
        assert fault.startswith(f"{place}: metrics.csv says {metric} {value - 1e-6!r}, ranks.npz gives ")


def test_rows_that_are_missing_or_count_otherwise_are_named(run: Run) -> None:
    ranks = run.ranks()
    without = run.metrics[run.metrics["metric"] != "mINP"]
    assert next(false_rows(without, ranks)) == f"{PLACE}: metrics.csv has no mINP"
    assert "n_valid is 31, ranks.npz gives 32" in next(false_rows(run.metrics.assign(n_valid=31), ranks))
    others = run.metrics[run.metrics["checkpoint"] != "last"]
    assert next(false_rows(others, ranks)) == f"{PLACE}: ranks.npz has it, metrics.csv has no rows of it"
    for name in KEPT:
        lacking = {key: array for key, array in ranks.items() if key != f"{PLACE}/{name}"}
        assert next(false_rows(run.metrics, lacking)) == f"{PLACE}: ranks.npz has no {name}"


def test_lists_that_contradict_themselves_are_named(run: Run) -> None:
    kept = {name: run.ranks()[f"{PLACE}/{name}"] for name in KEPT}
    precision = kept["average_precision"].copy()
    precision[3] = 1 - precision[3] / 2
    assert "average_precision of query 3" in first_fault(run, average_precision=precision)
    assert "first_rank does not fit" in first_fault(run, first_rank=kept["first_rank"] + 1)
    assert "first_rank does not fit" in first_fault(run, first_rank=kept["first_rank"] * 0)
    assert "not ascending" in first_fault(run, hits=kept["hits"] - kept["hits"].min())
    assert "not ascending ranks from 1 to 1000" in first_fault(run, hits=kept["hits"] + 1000)
    assert "do not cut up" in first_fault(run, hit_offsets=kept["hit_offsets"] + 1)
    assert "of 31 and 32 queries" in first_fault(run, query_camera=kept["query_camera"][1:])
    assert "not integers" in first_fault(run, hits=kept["hits"].astype(float))
    assert "not one-dimensional" in first_fault(run, hits=kept["hits"][None])


def test_an_edited_row_does_not_survive_without_digests_either(tmp_path: Path) -> None:
    """With digests, the file's own says so; without, the row is computed anew."""
    path = write_scored_run(tmp_path, "dmic")
    rows = read_run(path).metrics
    edited = rows.assign(value=rows["value"].where(pd.Series(rows.index != 4), rows["value"] + 1))
    write_frame(edited, path / "metrics.csv", METRICS)
    with pytest.raises(ResultsError, match=r"metrics\.csv: it has changed since the run finished"):
        find_runs([tmp_path])
    (path / COMPLETE).write_text("")
    with pytest.warns(UserWarning, match="before digests"), pytest.raises(ResultsError, match="says mAP"):
        find_runs([tmp_path])
    finish(path)  # who also writes new digests is found by `verify --quick`
    assert len(find_runs([tmp_path]).runs) == 1
