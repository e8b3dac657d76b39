"""How long a run may take, from the profiles of earlier ones on disk."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.registry import load_method
from harness.runs.run_spec import canonical_json
from harness.runs.task import Task


@dataclass(frozen=True)
class Measured:
    """What the profile of a run says.

    Attributes
    ----------
    kinds : tuple of str
        What the run has in common with others, the most telling first: all but seed and split; data set, method and
        size of the network's input.
    epoch_s : float
        Wall time of an epoch, on average.
    """

    kinds: tuple[str, ...]
    epoch_s: float


@dataclass(frozen=True)
class Estimate:
    """Hours of some runs, as far as profiles know them, and of how many they know nothing."""

    hours: float
    unknown: int

    def __str__(self) -> str:
        known = f"about {self.hours:.1f} hours" if self.hours >= 1 else f"about {60 * self.hours:.0f} minutes"
        if not self.unknown:
            return f"{known} in all, by profiles of earlier runs, if one runs at a time"
        if not self.hours:
            return "hours unknown: no earlier run of these kinds has left a profile here"
        return f"{known}, by profiles of earlier runs, and {self.unknown} runs of which none knows anything"


def kinds_of(spec: dict[str, Any]) -> tuple[str, ...]:
    """Return what a specification has in common with others, the most telling first."""
    engine = spec["engine"]
    size = [engine.get(name) for name in ("architecture", "height", "width", "precision")]
    alike = [spec["dataset"], spec["method"]]
    return canonical_json([*alike, spec["config"], engine]), canonical_json([*alike, *size])


def measured_runs(out: Path) -> list[Measured]:
    """Read the profiles of all runs below a folder; those that cannot be read are left out."""
    found = []
    for path in sorted(out.glob("*/*/*/profile.csv")):
        try:
            spec = json.loads(path.with_name("manifest.json").read_text(encoding="utf-8"))["spec"]
            with path.open(encoding="utf-8", newline="") as file:
                rows = [(row["epoch"], float(row["wall_s"])) for row in csv.DictReader(file)]
            epochs = len({epoch for epoch, _ in rows})
            found.append(Measured(kinds_of(spec), sum(wall for _, wall in rows) / epochs))
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue
    return found


def hours_of(task: Task, runs: Sequence[Measured]) -> float | None:
    """Estimate the hours of a run: its epochs, by the mean of the runs most like it; None if none is."""
    cls = load_method(task.spec.method)
    epochs = sum(stage.epochs for stage in cls.stages(cls.Config(**task.spec.config)))
    mine = kinds_of(task.spec.model_dump())
    for place, kind in enumerate(mine):
        alike = [run.epoch_s for run in runs if run.kinds[place] == kind]
        if alike:
            return max(epochs, 1) * sum(alike) / len(alike) / 3600
    return None


def estimate(tasks: Sequence[Task], out: Path) -> Estimate:
    """Estimate the hours of runs that have not finished; epochs that are done already count as if they were not."""
    runs = measured_runs(out)
    hours = [hours_of(task, runs) for task in tasks if not task.directory.complete]
    return Estimate(sum(one for one in hours if one is not None), hours.count(None))
