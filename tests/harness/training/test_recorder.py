"""The best epochs of a made-up history: which rows stay, and what tables say of them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.runs.configuration import EngineConfig
from harness.training.evaluation import Result, about_data_set, selection_score
from harness.training.recorder import Recorder
from protocols.regdb import RegDB
from results import comparison
from results.formats import GROUPS
from results.schema import CHECKPOINTS, HISTORY, METRIC_NAMES, METRICS, HistoryRow
from results.store import read_frame

PROTOCOL = RegDB()
HEADLINE, OTHER = "visible-to-thermal", "thermal-to-visible"
Scores = tuple[float, float]
"""Test mAP of the headline setting and of the other direction."""

evaluated = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda pair: (float(pair[0]), float(pair[1])))
stages = st.lists(st.lists(evaluated | st.none(), min_size=1, max_size=4), min_size=2, max_size=3)


def made_up_task(folder: Path) -> Any:
    """Return what a recorder reads of a task."""
    paths = {name: folder / name for name in ("history", "profile", "metrics", "ranks")}
    return SimpleNamespace(
        spec=SimpleNamespace(
            id="r", label="dmic", method="dmic", preset="demo", split=1, seed=0, data="synthetic", config={},
            engine=EngineConfig().model_dump(),
        ),
        protocols=(PROTOCOL,),
        directory=SimpleNamespace(**paths),
    )  # fmt: skip


def result_of(scores: Scores) -> Result:
    """Return an evaluation with these test mAPs."""
    about = {
        "protocol": "regdb",
        "protocol_version": PROTOCOL.version,
        "list_digest": "d",
        "trial": 1,
        "gallery_rule": "whole split",
        "unit": "percent",
        "n_query": 5,
        "n_gallery": 5,
        "n_valid": 5,
        **about_data_set(PROTOCOL.dataset),
    }
    rows = [
        {**about, "setting": setting, "metric": metric, "value": value}
        for setting, value in zip((HEADLINE, OTHER), scores, strict=True)
        for metric in METRIC_NAMES
    ]
    return Result(rows, selection_score(rows, PROTOCOL.dataset.headline), {"x": np.zeros(1)})


def record(task: Any, history: list[list[Scores | None]], resume_at: int) -> None:
    """Record epochs stage by stage; a new recorder takes over after `resume_at` epochs."""
    recorder = Recorder(task, torch.device("cpu"))
    epoch = 0
    for number, scores_of_epochs in enumerate(history):
        recorder.begin_stage()
        for scores in scores_of_epochs:
            recorder.history.append(
                HistoryRow(epoch=epoch, stage=str(number), phase="train", lr=0.1, skipped=0, measured={})
            )
            if scores is not None:
                recorder.score(epoch, result_of(scores))
            epoch += 1
            if epoch == resume_at:
                state, recorder = recorder.state(), Recorder(task, torch.device("cpu"))
                recorder.load_state(state, epoch)
    recorder.write_progress()
    last = history[-1][-1]
    assert last is not None
    recorder.write_results(epoch - 1, result_of(last))


def first_best(numbered: list[tuple[int, Scores | None]]) -> int:
    """Return the first epoch with the highest test mAP of the headline setting."""
    scored = {epoch: scores[0] for epoch, scores in numbered if scores is not None}
    return min(epoch for epoch, score in scored.items() if score == max(scored.values()))


@given(stages, evaluated, st.integers(0, 12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_best_epoch_is_that_of_all_stages(
    tmp_path: Path, history: list[list[Scores | None]], final: Scores, resume_at: int
) -> None:
    history[-1].append(final)
    task = made_up_task(tmp_path)
    record(task, history, resume_at)
    rows = read_frame(task.directory.metrics, METRICS)
    numbered = list(enumerate(scores for stage in history for scores in stage))
    epochs = {rule: set(group["epoch"]) for rule, group in rows.groupby("checkpoint")}
    assert epochs == {
        "last": {len(numbered) - 1},
        "best-on-test": {first_best(numbered)},
        "best-of-last-stage": {first_best(numbered[-len(history[-1]) :])},
    }
    table = comparison(rows, checkpoints=CHECKPOINTS)
    headline = table.mean[table.about["setting"] == HEADLINE].iloc[0]
    last, best, of_stage = (headline[GROUPS[rule], "mAP"] for rule in CHECKPOINTS)
    assert best >= of_stage >= last
    measured = read_frame(task.directory.history, HISTORY)
    if "test_mAP" in measured:
        assert measured["test_mAP"].max() == best


def test_the_other_direction_may_end_above_its_best_epoch(tmp_path: Path) -> None:
    """The case that captions explain: one direction picks the epoch, the other one follows."""
    task = made_up_task(tmp_path)
    record(task, [[(9.0, 1.0)], [(5.0, 2.0), (4.0, 8.0)]], resume_at=0)
    table = comparison(read_frame(task.directory.metrics, METRICS), checkpoints=CHECKPOINTS)
    means = table.mean.set_index(table.about["setting"].to_numpy())
    columns = [(GROUPS[rule], "mAP") for rule in CHECKPOINTS]
    assert means.loc[HEADLINE, columns].tolist() == [4.0, 9.0, 5.0]
    assert means.loc[OTHER, columns].tolist() == [8.0, 1.0, 2.0]


def test_an_epoch_whose_score_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    recorder = Recorder(made_up_task(tmp_path), torch.device("cpu"))
    recorder.begin_stage()
    for epoch, selection in enumerate((math.nan, 3.0, math.nan)):
        recorder.history.append(
            HistoryRow(epoch=epoch, stage="one", phase="train", lr=0.1, skipped=0, measured={})
        )
        recorder.score(epoch, Result([], selection, {}))
    assert recorder.best is not None
    assert recorder.best.epoch == 1
