"""A plan of runs: a TOML file, or options of the command line, and the tasks that they mean.

A file has the keys of :class:`Part`, and may have tables ``[[part]]`` whose keys replace those above them::

    protocol = "regdb"
    data = "/data/RegDB"
    methods = ["dmic", "pca", "adca:public"]
    seeds = "0-2"
    trials = "1-10"

    [[part]]
    set = ["eps=0.5"]

    [[part]]
    set = ["eps=0.6"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError
from harness.registry import load_protocols
from harness.runs.data import Say
from harness.runs.plan import Request, configure, parse_seeds, parse_trials, survey, tasks_of
from harness.runs.task import Execution, Task
from harness.sweep.requests import Failure, plan_several

EVERY = "all"
"""Stands for every registered method."""


class Part(BaseModel):
    """What to run: each method on each trial from each seed.

    Attributes
    ----------
    methods : tuple of str
        ``METHOD``, ``METHOD:variant`` or ``all``.
    seeds, trials : str
        Numbers and ranges, such as ``0-2`` or ``1,4-6``; all trials by default.
    set : tuple of str
        ``key=value`` of the methods' or the engine's configuration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] = Field(min_length=1)
    protocol: str
    seeds: str = "0"
    trials: str | None = None
    data: str | None = None
    preset: str = "paper"
    set: tuple[str, ...] = ()
    precision: str | None = None
    allow_partial_data: bool = False
    twin_seed: int = 0

    def request(self, method: str) -> Request:
        """Return what is asked for of one method."""
        return Request(
            method=method,
            protocol=self.protocol,
            data=self.data,
            trials=self.trials,
            seeds=parse_seeds(self.seeds),
            preset=self.preset,
            sets=self.set,
            precision=self.precision,
            allow_partial=self.allow_partial_data,
            twin_seed=self.twin_seed,
        )


@dataclass(frozen=True)
class Plan:
    """Parts of a plan, and its name."""

    name: str
    parts: tuple[Part, ...]


def read_plan(path: Path) -> Plan:
    """Read a plan from a TOML file.

    Raises
    ------
    HarnessError
        If it cannot be read, or has a key or a value that no plan has.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HarnessError(f"{path} is not TOML: {error}") from error
    name = content.pop("name", path.stem)
    tables = content.pop("part", [{}])
    if (
        not isinstance(name, str)
        or not isinstance(tables, list)
        or not all(isinstance(t, dict) for t in tables)
    ):
        raise HarnessError(f"{path}: `name` is a text, and parts are tables, each under a line [[part]]")
    return Plan(name, tuple(part_of(content | table, str(path)) for table in tables))


def part_of(values: dict[str, Any], where: str) -> Part:
    """Check the values of a part; `where` names their origin in messages."""
    values = {key: value for key, value in values.items() if value is not None}
    if isinstance(values.get("seeds"), int):
        values["seeds"] = str(values["seeds"])
    if isinstance(values.get("trials"), int):
        values["trials"] = str(values["trials"])
    try:
        return Part.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise HarnessError(f"{where}: {problems}. A plan has {', '.join(Part.model_fields)}") from error


def expand(plan: Plan, execution: Execution, say: Say) -> tuple[list[Task], list[Failure]]:
    """Return the runs of a plan, those of one seed and trial beside each other, and methods that cannot be planned.

    Raises
    ------
    HarnessError, DataError, MethodError
        On anything that a person has to mend before the first run starts.
    """
    tasks: list[Task] = []
    failures: list[Failure] = []
    for part in plan.parts:
        requests = [part.request(method) for method in part.methods]
        named = [request for request in requests if request.method != EVERY]
        if len(named) < len(requests):
            planned, failed = plan_several((EVERY,), requests[0], execution, say, ignore_missing=True)
            tasks, failures = tasks + planned, failures + failed
        if named:
            tasks += tasks_of_methods(named, execution, say)
    found = list({task.spec.id: task for task in tasks}.values())
    return sorted(found, key=lambda task: (task.spec.seed, task.spec.split)), failures


def tasks_of_methods(requests: Sequence[Request], execution: Execution, say: Say) -> list[Task]:
    """Return the runs of several methods that ask for the same in all else; the data are looked at once."""
    first = requests[0]
    chosen = load_protocols(first.protocol)
    splits = parse_trials(first.trials, chosen[0].dataset.splits)
    configured = [configure(one, chosen[0].dataset.name, execution.device) for one in requests]
    data = survey(first, chosen, splits, say)  # last, so that wrong options make no data
    return [task for values in configured for task in tasks_of(first, execution, values, splits, data)]
