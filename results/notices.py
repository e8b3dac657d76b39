"""What a reader of a report must know first: leaks, partial data, skipped epochs, unknown code, machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.store import Run

GROUPS = ("variables", "determinism", "packages")
"""Entries of an environment that hold several values."""
COUNTED = ("method", "protocol", "trial", "seed", "n_trials", "data", "supervision")


@dataclass(frozen=True)
class Notice:
    """A warning, and the runs that it is of (none: of all)."""

    text: str
    runs: tuple[str, ...] = ()


def environment_of(run: Run) -> Mapping[str, Any]:
    """Return what a manifest says of machine, software and code; empty where it is damaged or from before."""
    found = run.manifest.get("environment")
    return found if isinstance(found, dict) else {}


def skipped_epochs(run: Run) -> int:
    """Return in how many epochs there was nothing to train on."""
    return len(set(run.history["epoch"][run.history["skipped"] == 1]))


def all_skipped(run: Run) -> bool:
    """Say whether a run trained in no epoch at all."""
    epochs = run.history["epoch"].nunique()
    return bool(epochs) and skipped_epochs(run) == epochs


def says(run: Run, column: str, value: str) -> bool:
    """Say whether a run's rows have a value."""
    return value in set(run.metrics[column])


TESTS: Mapping[str, Callable[[Run], bool]] = {
    "Leak: a stage of training started from the weights of the epoch that was best on the test set": lambda run: (
        says(run, "stage_init", "best-of-stage")
    ),
    "Trained with identities: an upper bound, not to be compared with unsupervised methods": lambda run: says(
        run, "supervision", "supervised"
    ),
    "Partial data: counts of the data set are not the known ones": lambda run: says(
        run, "data", "real-partial"
    ),
    "Nothing was trained: every epoch was skipped": all_skipped,
    "Skipped epochs: there were too few clusters to train on": lambda run: (
        skipped_epochs(run) > 0 and not all_skipped(run)
    ),
    "Uncommitted code: nobody else can get what was run": lambda run: (
        environment_of(run).get("dirty") is True
    ),
    "Unknown code: the manifest names no commit": lambda run: environment_of(run).get("commit") is None,
    "Stopped and gone on with: see `earlier` in the manifest for the machines before": lambda run: bool(
        run.manifest.get("earlier")
    ),
}
"""What is said of a run, and when."""


def notices(runs: Sequence[Run], lines: Sequence[str] = ()) -> list[Notice]:
    """Return the warnings of some runs, the gravest first; those of all runs name none.

    Parameters
    ----------
    lines : sequence of str
        Sentences to be said as well, as of unfinished runs.
    """
    found = []
    for text, test in TESTS.items():
        chosen = tuple(run.id for run in runs if test(run))
        if chosen:
            found.append(Notice(text, () if len(chosen) == len(runs) else chosen))
    found += [Notice(line) for line in (*trial_notices(runs), *lines)]
    return found


def trial_notices(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what synthetic data, missing trials and single seeds mean."""
    if not runs:
        return
    rows = pd.concat([run.metrics[list(COUNTED)] for run in runs], ignore_index=True)
    if (rows["data"] == "synthetic").all():
        yield "All data are synthetic: these numbers say nothing of real people"
    lacking: dict[str, list[str]] = {}
    single: list[str] = []
    for (method, protocol), part in rows.groupby(["method", "protocol"]):
        trials, total = part["trial"].nunique(), int(part["n_trials"].max())
        if trials < total:
            lacking.setdefault(f"{trials} of {total} trials of {protocol}", []).append(str(method))
        if part["seed"].nunique() == 1 and (part["supervision"] != "none").all():
            single.append(str(method))
    for what, methods in sorted(lacking.items()):
        yield f"Incomplete: {what}, for {', '.join(methods)}"
    if single:
        names = ", ".join(sorted(set(single)))
        yield f"One seed alone: how much another training would differ is unknown, for {names}"


def flat(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return an environment as names and texts, versions of packages by name."""
    found: dict[str, str] = {}
    for name, value in environment.items():
        if name in GROUPS and isinstance(value, dict):
            found |= {str(key): str(one) for key, one in value.items()}
        else:
            found[str(name)] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def environment_differences(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Return what of the environments differs: the entry, then each value with its runs, the commonest first."""
    tables = {
        run.id: {**flat(environment_of(run)), "device": str(run.manifest.get("device", ""))} for run in runs
    }
    found = []
    for name in sorted({name for table in tables.values() for name in table}):
        values = {run: table.get(name, "") or "not said" for run, table in tables.items()}
        counts = Counter(values.values())
        if len(counts) > 1:
            ordered = sorted(counts, key=lambda value: (-counts[value], value))
            found.append(
                (name, [(value, [run for run in values if values[run] == value]) for value in ordered])
            )
    return found
