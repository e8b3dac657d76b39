"""Runs of two stages, from end to end: which epochs are the best, and what a stopped run keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from harness.errors import HarnessError
from harness.runs.plan import Request, plan
from harness.runs.task import Execution, Task
from harness.training import evaluation
from harness.training import execute as execution
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.execute import execute
from harness.training.loop import kept_weights
from harness.training.progress import Reporter
from harness.training.recorder import Recorder
from tests.conftest import TINY

SETTINGS = (
    *("epochs_intra=2", "epochs_joint=2", "iterations=1", "labels_per_batch=3", "instances=2"),
    *("k1=8", "k2_start=2", "k2_end=3", "joint_k2=4", "turning_epoch=1", "min_samples=2"),
    *("eps=0.55", "eps_low=0.5"),
)


@pytest.fixture
def two_stages(tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A run of two stages of two epochs each."""
    monkeypatch.chdir(tmp_path)
    request = Request("dmic", "regdb", data=str(tiny_regdb), trials="1", sets=(*TINY, *SETTINGS))
    (task,) = plan(request, Execution("cpu", out=tmp_path), print)
    return task


def run(task: Task) -> pd.DataFrame:
    return pd.read_csv(execute(task, Reporter(Console(quiet=True))).metrics)


def epochs(rows: pd.DataFrame) -> dict[str, set[int]]:
    return {str(rule): set(group["epoch"]) for rule, group in rows.groupby("checkpoint")}


def scores(*values: float) -> Callable[..., float]:
    given: Iterator[float] = iter(values)
    return lambda *_: next(given)


def test_a_first_stage_that_has_the_best_epoch_reports_it(
    two_stages: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "selection_score", scores(30.0, 20.0, 25.0, 10.0))
    assert epochs(run(two_stages)) == {"last": {3}, "best-on-test": {0}, "best-of-last-stage": {2}}


def test_both_best_epochs_survive_the_process(two_stages: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first epoch of the second stage, it goes on to the same rows."""
    train, stopped = execution.run_epoch, []

    def stop_before_the_last(setup: object, state: object, recorder: Recorder, epoch: object) -> None:
        if len(recorder.history) == 3 and not stopped:
            stopped.append(epoch)
            raise KeyboardInterrupt
        train(setup, state, recorder, epoch)  # type: ignore[arg-type]

    monkeypatch.setattr(execution, "run_epoch", stop_before_the_last)
    monkeypatch.setattr(evaluation, "selection_score", scores(30.0, 20.0, 25.0, 10.0))
    with pytest.raises(KeyboardInterrupt):
        run(two_stages)
    saved = load_checkpoint(two_stages.directory.last)
    assert (saved["best"]["epoch"], saved["best_of_stage"]["epoch"]) == (0, 2)
    assert epochs(run(two_stages)) == {"last": {3}, "best-on-test": {0}, "best-of-last-stage": {2}}


def test_under_the_headline_setting_the_best_is_never_below_the_last(two_stages: Task) -> None:
    rows = run(two_stages).query("metric == 'mAP'")
    headline = rows[rows["protocol"] + " " + rows["setting"] == rows["headline"]]
    mean = headline.groupby("checkpoint")["value"].mean()
    assert mean["best-on-test"] >= mean["best-of-last-stage"] >= mean["last"]


def test_a_stage_starts_from_no_weights_of_another_run(
    two_stages: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.ckpt"
    monkeypatch.setattr(type(two_stages.directory), "best", lambda *_: path)
    setup: Any = SimpleNamespace(task=two_stages)
    about = {"run": two_stages.spec.id, "stage": "intra"}
    save_checkpoint(path, {"modules": {"net": {}}, **about})
    assert kept_weights(setup, "intra") == {"net": {}}
    for other in ({"run": "0123456789ab"}, {"stage": "joint"}):
        save_checkpoint(path, {"modules": {}, **about, **other})
        with pytest.raises(HarnessError, match="begin the run anew"):
            kept_weights(setup, "intra")
