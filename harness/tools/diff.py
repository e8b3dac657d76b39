"""``reidbench diff``: in what two finished runs differ, from their manifests to the first epoch that does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.errors import HarnessError
from results import Run
from results.notices import environment_of, flat
from results.places import run_directories
from results.sheets.ablations import flat as leaves
from results.store import OF_VALUE, read_run

TITLES = {
    "method": "method",
    "label": "method",
    "preset": "preset",
    "dataset": "data set",
    "split": "split",
    "seed": "seed",
    "data": "kind of data",
    "data_digest": "data",
    "weights": "weights",
    "sources": "source code of the method",
    "training_version": "version of the training",
}
"""Entries of a specification that hold one value, and what they are called."""
EPOCH = ("epoch", "stage", "phase")
MOST = 5
"""Columns that are named of an epoch."""


@dataclass(frozen=True)
class Diff:
    """What differs between two runs: what they were made of, and what came of it; empty where nothing does."""

    inputs: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.inputs and not self.results

    def lines(self) -> list[str]:
        """Say it, a line each."""
        if self.equal:
            return ["no difference: neither in what the runs were made of, nor in history and scores"]
        return [
            *(self.inputs or ("made of the same: configuration, data, weights, source and environment",)),
            *(self.results or ("history and scores are equal",)),
        ]


def diff(a: Path, b: Path) -> Diff:
    """Compare two finished runs.

    Raises
    ------
    HarnessError, ResultsError
        If a path is not one finished run, or a file of it is damaged.
    """
    one, other = one_run(a), one_run(b)
    return Diff(tuple(input_differences(one, other)), tuple(result_differences(one, other)))


def one_run(path: Path) -> Run:
    """Read the one run at or below a path, or in a bundle."""
    folders = run_directories(path)
    if len(folders) != 1:
        raise HarnessError(f"{path} holds {len(folders)} runs; `reidbench diff` compares one with one other")
    return read_run(folders[0])


def input_differences(a: Run, b: Run) -> Iterator[str]:
    """Yield what two manifests say of configuration, data, weights, source and environment that differs."""
    then, now = a.manifest["spec"], b.manifest["spec"]
    said: set[str] = set()
    for entry, title in TITLES.items():
        text = differing(title, then.get(entry), now.get(entry))
        if text and text not in said:
            said.add(text)
            yield text
    for group in ("config", "engine"):
        x, y = leaves(then.get(group) or {}), leaves(now.get(group) or {})
        for key in sorted({*x, *y}):
            if text := differing(f"{group} {key}", x.get(key), y.get(key)):
                yield text
    x, y = ({**flat(environment_of(run)), "device": str(run.manifest.get("device"))} for run in (a, b))
    for key in sorted({*x, *y}):
        if text := differing(f"environment {key}", x.get(key), y.get(key)):
            yield text


def differing(title: str, a: object, b: object) -> str:
    """Say two values; empty if they are equal."""
    if a == b:
        return ""
    said = ("not said" if one is None else str(one) for one in (a, b))
    return f"{title}: {' | '.join(said)}"


def result_differences(a: Run, b: Run) -> Iterator[str]:
    """Yield where the histories first part, and which score does."""
    yield from history_difference(a.history, b.history)
    yield from score_difference(a.metrics, b.metrics)


def history_difference(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[str]:
    """Yield the first epoch in which a column differs, columns that one of them lacks, and epochs that one lacks."""
    shared = [str(name) for name in a if name in b]
    if lacking := sorted({*map(str, a)} ^ {*map(str, b)}):
        yield f"history.csv: only one has {', '.join(lacking)}"
    for i in range(min(len(a), len(b))):
        left, right = ({str(key): value for key, value in frame.iloc[i].items()} for frame in (a, b))
        parted = [name for name in shared if not same(left[name], right[name])]
        if parted:
            place = ", ".join(f"{key} {left[key]}" for key in EPOCH)
            values = "; ".join(f"{name} {left[name]!s} | {right[name]!s}" for name in parted[:MOST])
            more = f"; and {len(parted) - MOST} columns more" if len(parted) > MOST else ""
            before = f"equal in {i} line{'s' * (i != 1)}, then " if i else ""
            yield f"history.csv: {before}{place}: {values}{more}"
            return
    if len(a) != len(b):
        yield f"history.csv: equal as far as both go; {len(a)} | {len(b)} lines"


def same(a: object, b: object) -> bool:
    """Say whether two cells are equal; NaN is equal to NaN."""
    return a == b or (a != a and b != b)


def score_difference(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[str]:
    """Yield the first score that differs, how many do, and by how much at most."""
    x, y = (frame.set_index(list(OF_VALUE))["value"] for frame in (a, b))
    shared = x.index.intersection(y.index, sort=False)
    if lonely := len(x.index.symmetric_difference(y.index)):
        yield f"metrics.csv: {lonely} scores are in one of them alone"
    gap = (x[shared] - y[shared]).abs()
    parted = gap[gap > 0]
    if len(parted):
        first = parted.index[0]
        where = ", ".join(f"{name} {value}" for name, value in zip(OF_VALUE, first, strict=True))
        yield (
            f"metrics.csv: {len(parted)} of {len(shared)} scores differ, by {parted.max():.4g} at most; the first is "
            f"{where}: {x[first]!r} | {y[first]!r}"
        )
