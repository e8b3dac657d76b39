"""Runs in turn: one that fails, or that another process holds, does not keep the others from theirs."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from harness.errors import format_error, understood, user_errors
from harness.registry import load_method
from harness.runs.directory import RunDirectory
from harness.runs.task import Task
from harness.sweep.requests import Failure
from harness.training.execute import execute
from harness.training.forecast import Work
from harness.training.progress import Reporter
from harness.training.schedule import epochs_of


@dataclass(frozen=True)
class Outcome:
    """How a run of several ended: its directory if it is finished, else why not."""

    task: Task
    directory: RunDirectory | None = None
    failure: Failure | None = None

    @property
    def state(self) -> str:
        """One or two words for the table of runs."""
        if self.failure is None:
            return "finished"
        return "held" if self.failure.code == 3 else "failed"


def describe_task(task: Task) -> str:
    """Name a task in a line of progress."""
    spec = task.spec
    return f"{spec.label}, split {spec.split}, seed {spec.seed} (run {spec.id})"


def run_each(tasks: Sequence[Task], reporter: Reporter) -> list[Outcome]:
    """Execute tasks one after the other, and say how each of them ended.

    The error of a single task is raised, as nothing else waits for its turn.
    """
    if len(tasks) == 1:
        return [Outcome(tasks[0], execute(tasks[0], reporter))]
    outcomes = []
    reporter.forecast.works += [work for task in tasks if (work := work_of(task))]
    for i, task in enumerate(tasks):
        reporter.place = i + 1, len(tasks)
        reporter.line(f"[{i + 1}/{len(tasks)}] {describe_task(task)} on {task.spec.dataset}")
        try:
            outcomes.append(Outcome(task, execute(task, reporter)))
        except Exception as error:
            failure = failure_of(task, error, reporter)
            outcomes.append(Outcome(task, failure=failure))
            reporter.line(str(failure))
        reporter.forecast.finish(task.spec.id)
    return outcomes


def work_of(task: Task) -> Work | None:
    """Return the epochs of a task; None if it is finished, or cannot say them (which its own turn will tell)."""
    if task.directory.complete and not task.execution.force:
        return None
    cls = load_method(task.spec.method)
    try:
        epochs = epochs_of(cls.stages(cls.Config(**task.spec.config)))
    except Exception:
        return None
    return Work.of(task.spec.id, task.spec.method, epochs)


def failure_of(task: Task, error: Exception, reporter: Reporter) -> Failure:
    """Return what a run's error comes to; that of a bug, perhaps in a plug-in, leaves its traceback in the output."""
    known = understood(error)
    if isinstance(known, user_errors()):
        return Failure(describe_task(task), *format_error(known))
    reporter.line(traceback.format_exc())
    return Failure(describe_task(task), f"{error}" or type(error).__name__, 1)


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Return how every run of a request ended."""
    table = Table(title="runs", title_justify="left")
    for name in ("run", "method", "data set", "split", "seed", "state"):
        table.add_column(name, justify="right" if name in ("split", "seed") else "left", overflow="fold")
    for one in outcomes:
        spec = one.task.spec
        cells = (spec.id, spec.label, spec.dataset, str(spec.split), str(spec.seed), one.state)
        table.add_row(*map(Text, cells))
    return table
