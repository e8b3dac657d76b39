"""What a run leaves behind: the history of its epochs, the best ones, stage times, and its tables of results."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.registry import load_method
from harness.runs.configuration import EngineConfig
from harness.runs.files import write_atomic
from harness.runs.task import Task
from harness.runs.weights import weights_name
from harness.training.evaluation import Result
from harness.training.stage_times import StageTimers
from results.schema import HISTORY, METRICS, PROFILE, Checkpoint, HistoryRow, MetricRow
from results.store import write_rows


@dataclass(frozen=True)
class Best:
    """The epoch with the best score on the test set, and what its evaluation says of every trial, metric and query."""

    epoch: int
    score: float
    rows: Sequence[Mapping[str, Any]]
    ranks: Mapping[str, npt.NDArray[Any]]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        ranks = {name: torch.from_numpy(array) for name, array in self.ranks.items()}
        return {"epoch": self.epoch, "score": self.score, "rows": list(self.rows), "ranks": ranks}


def better(best: Best | None, epoch: int, result: Result) -> Best | None:
    """Return the better of the best epoch so far and a new one; the earlier one if they are equal."""
    if np.isnan(result.selection) or (best and best.score >= result.selection):
        return best
    return Best(epoch, result.selection, result.rows, result.ranks)


def restored(state: Mapping[str, Any], versions: set[tuple[str, str]]) -> Best | None:
    """Return the best epoch that a checkpoint keeps; None if it was scored under other versions of its protocols.

    Nobody has kept that epoch's weights to score it again.
    """
    if not state or not {(row["protocol"], row["protocol_version"]) for row in state["rows"]} <= versions:
        return None
    ranks = {name: tensor.numpy() for name, tensor in state["ranks"].items()}
    return Best(state["epoch"], state["score"], state["rows"], ranks)


class Recorder:
    """Keeps the history of a run, its best epochs and its stage times, and writes its tables.

    Attributes
    ----------
    history : list of HistoryRow
    best, best_of_stage : Best or None
        Over all evaluated epochs, and over those of the stage in progress.
    timers : StageTimers
        Rows of ``profile.csv``.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task = task
        self.directory = task.directory
        self.history: list[HistoryRow] = []
        self.best: Best | None = None
        self.best_of_stage: Best | None = None
        self.timers = StageTimers(device)

    def begin_stage(self) -> None:
        """Start the best epoch of a stage anew."""
        self.best_of_stage = None

    def score(self, epoch: int, result: Result) -> bool:
        """Take the scores of an epoch into the history; say whether it is the best of its stage so far."""
        row = self.history[-1]
        self.history[-1] = replace(row, measured={**row.measured, "test_mAP": result.selection})
        self.best = better(self.best, epoch, result)
        self.best_of_stage = better(self.best_of_stage, epoch, result)
        return self.best_of_stage is not None and self.best_of_stage.epoch == epoch

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to go on."""
        return {
            "history": [asdict(row) for row in self.history],
            "best": self.best.state() if self.best else {},
            "best_of_stage": self.best_of_stage.state() if self.best_of_stage else {},
        }

    def load_state(self, state: Mapping[str, Any], epochs_done: int) -> None:
        """Restore what :meth:`state` gave, and the stage times of the epochs that were finished."""
        versions = {(protocol.id, protocol.version) for protocol in self.task.protocols}
        self.history = [HistoryRow(**row) for row in state["history"]]
        self.best = restored(state["best"], versions)
        self.best_of_stage = restored(state["best_of_stage"], versions)
        self.timers.resume(self.directory.profile, epochs_done)

    def write_progress(self) -> None:
        """Write the tables of the epochs so far."""
        write_rows(self.history, self.directory.history, HISTORY)
        self.write_profile()

    def write_profile(self) -> None:
        """Write the stage times so far."""
        write_rows(self.timers.rows(), self.directory.profile, PROFILE)

    def write_results(self, epoch: int, result: Result) -> None:
        """Write the ranks and the rows of the last epoch, and those of the best ones."""
        last = Best(epoch, result.selection, result.rows, result.ranks)
        trained = bool(self.history)
        kept: dict[Checkpoint, Best | None] = {
            "last": last,
            "best-on-test": self.best if trained else last,
            "best-of-last-stage": self.best_of_stage if trained else last,
        }
        ranks = {
            f"{rule}/{name}": array
            for rule, best in kept.items()
            if best
            for name, array in sorted(best.ranks.items())  # a checkpoint gives them back in another order
        }
        write_ranks(self.directory.ranks, ranks)
        rows = [row for rule, best in kept.items() if best for row in metric_rows(self.task, rule, best)]
        write_rows(rows, self.directory.metrics, METRICS)


def write_ranks(path: Path, ranks: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write ``ranks.npz`` whole; names are RULE/ARRAY."""
    content = io.BytesIO()
    np.savez_compressed(content, **ranks)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())


def metric_rows(task: Task, checkpoint: Checkpoint, best: Best) -> list[MetricRow]:
    """Make the rows of ``metrics.csv`` from those of an evaluation and what decides the run."""
    spec = task.spec
    engine, method = EngineConfig(**spec.engine), load_method(spec.method)
    about: dict[str, Any] = {
        "run": spec.id,
        "method": spec.label,
        "preset": spec.preset,
        "split": spec.split,
        "seed": spec.seed,
        "epoch": best.epoch,
        "data": spec.data,
        "checkpoint": checkpoint,
        "division": engine.division(
            spec.config.get("test_feature", method.test_feature),
            flip_test=spec.config.get("flip_test", method.flip_test),
        ),
        "supervision": method.supervision,
        "stage_init": spec.config.get("stage_init", "last"),
        "weights": weights_name(engine, method.stages(method.Config(**spec.config))),
    }
    return [
        MetricRow(**{**about, **row}) for row in best.rows
    ]  # a protocol may be of the open division itself
