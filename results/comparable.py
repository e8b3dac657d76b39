"""Which metric rows may stand in one table, and what a line of it is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from results.schema import METRICS, ResultsError, validate
from results.store import Run, collect

IDENTITY = ("method", "preset", "supervision", "division", "weights", "stage_init", "data")
LINE = ("protocol", "setting", *IDENTITY)
"""Rows that agree in these belong to one line of a table."""
CELL = (*LINE, "trial", "seed", "checkpoint", "metric")
"""Rows that agree in these are one measured value."""


def compact(numbers: Iterable[int]) -> str:
    """Return integers as ``0-2, 5``."""
    ordered = sorted(set(numbers))
    starts = [n for n in ordered if n - 1 not in ordered]
    ends = [n for n in ordered if n + 1 not in ordered]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def line_names(rows: pd.DataFrame) -> pd.Series:
    """Return the method of each row, with its preset where one method has several."""
    several = rows.groupby("method")["preset"].transform("nunique") > 1
    return rows["method"].where(~several, rows["method"] + " @ " + rows["preset"])


def line_groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by the names of their lines, sorted.

    Raises
    ------
    ResultsError
        As :func:`results.store.collect`.
    """
    rows = collect(runs)
    names = dict(zip(rows["run"], line_names(rows), strict=True))
    groups: dict[str, list[Run]] = {name: [] for name in sorted(set(names.values()))}
    for run in runs:
        groups[names[run.id]].append(run)
    return groups


def disagreement(rows: pd.DataFrame, keys: Sequence[str], column: str) -> str:
    """Say where rows that agree in `keys` differ in `column`, and which runs say what; empty if nowhere."""
    several = rows[rows.groupby(list(keys))[column].transform("nunique") > 1]
    if several.empty:
        return ""
    where = several.sort_values(list(keys)).iloc[0][list(keys)]
    group = several[(several[list(keys)] == where).all(axis=1)]
    said = []
    for value, part in group.groupby(column):
        said.append(f"{value} in run {', '.join(sorted(set(part['run'])))}")
    place = ", ".join(f"{key} {where[key]}" for key in keys)
    return f"{place}: {column} differs: {'; '.join(said)}"


def check_data(rows: pd.DataFrame) -> None:
    """Refuse synthetic beside real data."""
    kinds = rows.assign(kind=np.where(rows["data"] == "synthetic", "synthetic", "real"))
    runs = {str(kind): sorted(set(group["run"])) for kind, group in kinds.groupby("kind")}
    if len(runs) > 1:
        said = "; ".join(f"{kind}: {', '.join(ids)}" for kind, ids in runs.items())
        raise ResultsError(f"one table cannot hold synthetic and real data ({said}); make two tables")


def check_splits(rows: pd.DataFrame) -> None:
    """Refuse a trial that was scored with weights of another one's split, where each trial has its own."""
    leaking = rows[(rows["split_is_trial"] == 1) & (rows["split"] != rows["trial"])]
    if len(leaking):
        first = leaking.iloc[0]
        raise ResultsError(
            f"run {first['run']} was trained on {first['protocol']} split {first['split']} and scored on trial "
            f"{first['trial']}: some of its test identities were trained on"
        )


def check_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Validate metric rows, refuse what cannot be compared, and return them in one order.

    Raises
    ------
    ResultsError
        Synthetic beside real data; several versions or lists of a protocol; several runs with the same
        method, split and seed; a trial scored with weights of another one's split. Names runs and values.
    """
    rows = validate(rows, METRICS, "metric rows").drop_duplicates()
    if rows.empty:
        raise ResultsError("there are no metric rows to tabulate")
    check_data(rows)
    problem = (
        disagreement(rows, ("protocol", "setting"), "protocol_version")
        or disagreement(rows, ("protocol", "setting", "trial"), "list_digest")
        or disagreement(rows, ("protocol", "setting", "trial"), "gallery_rule")
        or disagreement(rows, CELL, "run")
        or disagreement(rows, CELL, "value")
    )
    if problem:
        raise ResultsError(f"rows cannot be compared: {problem}. Give only runs that belong together")
    check_splits(rows)
    return rows.sort_values([*CELL, "run"], ignore_index=True)
