"""Which metric rows may stand in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from results.schema import METRICS, ResultsError, validate

IDENTITY = ("method", "preset", "supervision", "division", "weights", "stage_init", "data")
LINE = ("protocol", "setting", *IDENTITY)
"""Rows that agree in these belong to one line of a table."""


def compact(numbers: Iterable[int]) -> str:
    """Return integers as ``0-2, 5``."""
    ordered = sorted(set(numbers))
    starts = [n for n in ordered if n - 1 not in ordered]
    ends = [n for n in ordered if n + 1 not in ordered]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def disagreement(rows: pd.DataFrame, keys: Sequence[str], column: str) -> str:
    """Say where rows that agree in `keys` differ in `column`, and which runs say what; empty if nowhere."""
    several = rows[rows.groupby(list(keys))[column].transform("nunique") > 1]
    if several.empty:
        return ""
    where = several.sort_values(list(keys)).iloc[0][list(keys)]
    group = several[(several[list(keys)] == where).all(axis=1)]
    runs = {str(value): sorted(set(part["run"])) for value, part in group.groupby(column)}
    said = "; ".join(f"{value} in run {', '.join(ids)}" for value, ids in runs.items())
    place = ", ".join(f"{key} {where[key]}" for key in keys)
    return f"{place}: {column} differs: {said}"


def check_data(rows: pd.DataFrame) -> None:
    """Refuse synthetic beside real data."""
    kinds = rows.assign(kind=np.where(rows["data"] == "synthetic", "synthetic", "real"))
    runs = {str(kind): sorted(set(group["run"])) for kind, group in kinds.groupby("kind")}
    if len(runs) > 1:
        said = "; ".join(f"{kind}: {', '.join(ids)}" for kind, ids in runs.items())
        raise ResultsError(f"one table cannot hold synthetic and real data ({said}); make two tables")


def check_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Validate metric rows, refuse what cannot be compared, and return them in one order.

    Raises
    ------
    ResultsError
        Synthetic beside real data; several versions or lists of a protocol; several runs with the same
        method, split and seed; a RegDB trial scored with weights of another split. Names runs and values.
    """
    rows = validate(rows, METRICS, "metric rows").drop_duplicates()
    if rows.empty:
        raise ResultsError("there are no metric rows to tabulate")
    check_data(rows)
    cell = [*LINE, "trial", "seed", "checkpoint", "metric"]
    found = (
        disagreement(rows, ("protocol", "setting"), "protocol_version")
        or disagreement(rows, ("protocol", "setting", "trial"), "list_digest")
        or disagreement(rows, ("protocol", "setting", "trial"), "gallery_rule")
        or disagreement(rows, cell, "run")
        or disagreement(rows, cell, "value")
    )
    if found:
        raise ResultsError(f"rows cannot be compared: {found}. Give only runs that belong together")
    leaking = rows[(rows["protocol"] == "regdb") & (rows["split"] != rows["trial"])]
    if len(leaking):
        raise ResultsError(
            f"run {leaking['run'].iloc[0]} was trained on RegDB split {leaking['split'].iloc[0]} and scored "
            f"on trial {leaking['trial'].iloc[0]}: half of its test identities were trained on"
        )
    return rows.sort_values([*cell, "run"], ignore_index=True)
