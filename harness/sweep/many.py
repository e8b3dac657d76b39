"""Runs in turn: those of one method, or of every registered one (``reidbench run all``)."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.errors import HarnessError, format_error, understood, user_errors
from harness.registry import load_method, load_protocols, methods, nearest
from harness.runs.configuration import EngineConfig, knows, parse_sets
from harness.runs.data import Say
from harness.runs.directory import RunDirectory
from harness.runs.fields import leaves
from harness.runs.plan import Request, configure, parse_trials, survey, tasks_of
from harness.runs.task import Execution, Task
from harness.training.execute import execute
from harness.training.progress import Reporter
from methods.base import Method


@dataclass(frozen=True)
class Failure:
    """A method (or one of its runs) that stopped, and why."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} failed: {self.reason}"


def plan_all(request: Request, execution: Execution, say: Say) -> tuple[list[Task], list[Failure]]:
    """Return the runs of every registered method, and the methods that cannot be planned.

    Raises
    ------
    HarnessError, DataError
        On what concerns all methods: protocol, data, trials, a ``--set`` key that none of them knows.
    """
    chosen = load_protocols(request.protocol)
    splits = parse_trials(request.trials, chosen[0].dataset.splits)
    classes, failures = usable()
    check_keys(request.sets, classes)
    data = survey(request, chosen, splits, say)
    tasks: list[Task] = []
    for name, cls in classes.items():
        one = replace(request, method=name, sets=tuple(s for s in request.sets if knows(cls, key_of(s))))
        try:
            configured = configure(one, chosen[0].dataset.name, execution.device)
            tasks += tasks_of(one, execution, configured, splits, data)
        except user_errors() as error:
            failures.append(Failure(name, format_error(error)[0]))
    return tasks, failures


def usable() -> tuple[dict[str, type[Method]], list[Failure]]:
    """Load every method; a broken plug-in is a failure that names its package."""
    classes, failures = {}, []
    for name in methods():
        try:
            classes[name] = load_method(name)
        except HarnessError as error:
            failures.append(Failure(name, str(error)))
    return classes, failures


def key_of(setting: str) -> str:
    """Return the key of ``key=value``."""
    (key,) = parse_sets((setting,))
    return key


def check_keys(sets: Sequence[str], classes: dict[str, type[Method]]) -> None:
    """Refuse a key that no method knows."""
    for key in parse_sets(sets):
        if not any(knows(cls, key) for cls in classes.values()):
            known = {leaf for cls in classes.values() for leaf in leaves(cls.Config)}
            raise HarnessError(
                f"--set {key}: unknown key of every method; {nearest(key, known | {*EngineConfig.model_fields})}"
            )


def run_all(tasks: Sequence[Task], reporter: Reporter) -> list[RunDirectory]:
    """Execute tasks one after the other; the first error ends them."""
    finished = []
    for i, task in enumerate(tasks):
        reporter.line(f"[{i + 1}/{len(tasks)}] {describe_task(task)} on {task.spec.dataset}")
        finished.append(execute(task, reporter))
    return finished


def describe_task(task: Task) -> str:
    """Name a task in a line of progress."""
    spec = task.spec
    return f"{spec.label}, split {spec.split}, seed {spec.seed} (run {spec.id})"


def run_each(tasks: Sequence[Task], reporter: Reporter) -> tuple[list[RunDirectory], list[Failure]]:
    """Execute tasks one after the other; return the finished ones and those that stopped with an error."""
    finished, failures = [], []
    for i, task in enumerate(tasks):
        what = describe_task(task)
        reporter.line(f"[{i + 1}/{len(tasks)}] {what} on {task.spec.dataset}")
        try:
            finished.append(execute(task, reporter))
        except Exception as error:
            known = understood(error)
            if isinstance(known, user_errors()):
                reason = format_error(known)[0]
            else:
                # an unexpected error, perhaps in a plug-in: log the traceback, go on with the other runs
                reporter.line(traceback.format_exc())
                reason = f"{error}" or type(error).__name__
            failures.append(Failure(what, reason))
            reporter.line(str(failures[-1]))
    return finished, failures
