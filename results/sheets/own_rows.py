"""Rows of finished runs: their means, deviations, differences, and what decides what these mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from results.comparable import IDENTITY, compact, line_names
from results.comparisons import compare
from results.schema import setting_order
from results.sheets.naming import (
    Paper,
    base_name,
    group_of,
    heading_of,
    proper_name,
    venue_text,
)
from results.sheets.values import DIFFERENCE, DIGITS, METRICS, NO_VALUE, Place, Row, Value, Wanted
from results.store import Run
from results.tables import deviation_over, mean_and_std, trials_of

EPOCHS: Mapping[str, str] = {
    "last": "last",
    "best-on-test": "best on test (leak)",
    "best-of-last-stage": "best of last stage on test (leak)",
}
Papers = Callable[[str], Paper]
"""What is known of the method of a name."""


@dataclass(frozen=True)
class Line:
    """The metric rows of one line, and what the manifest of its first run says."""

    name: str
    rows: pd.DataFrame
    spec: Mapping[str, Any]

    def at(self, place: Place) -> pd.DataFrame:
        """Return the rows of a protocol's setting."""
        return self.rows[(self.rows["protocol"] == place[0]) & (self.rows["setting"] == place[1])]

    @property
    def method(self) -> str:
        """The method, whatever the line is called."""
        return str(self.spec.get("method") or base_name(self.name))

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the method."""
        config = self.spec.get("config")
        return config if isinstance(config, dict) else {}


def lines_of(runs: Sequence[Run], rows: pd.DataFrame, checkpoints: Sequence[str]) -> dict[str, list[Line]]:
    """Return the lines of every data set, by their names."""
    specs = {run.id: run.manifest["spec"] for run in runs}
    rows = rows.assign(line=line_names(rows), dataset=rows["run"].map(lambda run: specs[run]["dataset"]))
    rows = rows[rows["checkpoint"].isin(checkpoints)]
    found: dict[str, list[Line]] = {}
    for _, part in rows.groupby(["dataset", *IDENTITY, "checkpoint"], sort=True):
        first = part.iloc[0]
        line = Line(str(first["line"]), part, specs[first["run"]])
        found.setdefault(str(first["dataset"]), []).append(line)
    return found


def places_of(lines: Sequence[Line]) -> list[Place]:
    """Return the protocols and settings of lines, in their order."""
    found = {
        place for line in lines for place in zip(line.rows["protocol"], line.rows["setting"], strict=True)
    }
    return sorted(found, key=lambda place: (place[0], setting_order(place[1])))


def headings_of(places: Sequence[Place], headings: Mapping[str, str]) -> dict[Place, str]:
    """Return what the columns of every place are called."""
    count = pd.Series([protocol for protocol, _ in places]).value_counts()
    return {(p, s): heading_of(headings.get(p, ""), s, bool(count[p] > 1)) for p, s in places}


ATTRIBUTES = ("epoch", "division", "data", "seeds", "trials", "input", "weights", "stage init")
"""What changes the meaning of a number: a column where it differs, in the caption where it does not."""


def attributes(line: Line) -> dict[str, str]:
    """Return what else decides what a line's numbers mean."""
    first, engine = line.rows.iloc[0], line.spec.get("engine") or {}
    parts = [part for _, part in line.rows.groupby(["protocol", "setting"])]
    size = f"{engine['height']} x {engine['width']}" if {"height", "width"} <= set(engine) else ""
    return {
        "preset": str(first["preset"]),
        "epoch": EPOCHS[first["checkpoint"]],
        "division": str(first["division"]),
        "data": str(first["data"]),
        "seeds": compact(line.rows["seed"].tolist()),
        "trials": " / ".join(dict.fromkeys(trials_of(part) for part in parts)),
        "± over": " / ".join(dict.fromkeys(deviation_over(part) for part in parts)),
        "input": size,
        "weights": str(first["weights"]),
        "stage init": str(first["stage_init"]),
    }


def own_row(line: Line, places: Sequence[Place], wanted: Wanted, papers: Papers) -> Row:
    """Return the row of a line of ours."""
    paper = papers(line.method)
    own_name = base_name(line.name) != line.method  # by --label
    values = []
    for place in places:
        rows = line.at(place)
        for metric in wanted.metrics:
            of_metric = rows[rows["metric"] == metric]
            mean, std = mean_and_std(zip(of_metric["seed"], of_metric["value"], strict=True))
            values.append(Value(mean, std if wanted.deviations else math.nan))
    texts = {
        "method": line.name if own_name else proper_name(line.name, paper, line.config),
        "venue": venue_text(paper.venue, paper.year),
        "year": str(paper.year or ""),
        "line": line.name,
        **attributes(line),
    }
    group = group_of(str(line.rows["supervision"].iloc[0]))
    return Row(group, texts, tuple(values), ranked=line.rows["checkpoint"].iloc[0] == "last")


def told_apart(rows: Sequence[Row]) -> list[Row]:
    """Add the lines' names where several have one proper name and epoch."""
    keys = [(row.texts["method"], row.texts.get("epoch", "")) for row in rows]
    named = []
    for row, key in zip(rows, keys, strict=True):
        name = f"{key[0]} ({row.texts['line']})" if keys.count(key) > 1 else key[0]
        named.append(replace(row, texts={**row.texts, "method": name}))
    return named


def with_differences(
    rows: Sequence[Row], runs: Sequence[Run], places: Sequence[Place], wanted: Wanted
) -> list[Row]:
    """Add to the values of each place the difference to the reference.

    Raises
    ------
    ResultsError
        If there is no such line, or as :func:`results.comparisons.compare`.
    """
    found = compare(runs, metric=wanted.compared, reference=wanted.against)
    pairs = {
        (row["protocol"], row["setting"], row["a"]): Value(
            row["difference"], math.nan, row["low"], row["high"]
        )
        for row in found[found["b"] != ""].to_dict("records")
    }
    width = len(wanted.metrics)
    joined = []
    for row in rows:
        values: list[Value] = []
        for i, place in enumerate(places):
            values += row.values[width * i : width * (i + 1)]
            values.append(pairs.get((*place, row.texts["line"]), NO_VALUE) if row.ranked else NO_VALUE)
        joined.append(replace(row, values=tuple(values)))
    return joined


def with_places(rows: Sequence[Row], columns: Sequence[tuple[str, str]]) -> list[Row]:
    """Say which values are the best and the second of their group, as printed; ties share a place."""
    ranked: list[list[Value]] = [list(row.values) for row in rows]
    for group in dict.fromkeys(row.group for row in rows):
        members = [i for i, row in enumerate(rows) if row.group == group and row.ranked]
        for j, (_, name) in enumerate(columns):
            means = {
                i: round(ranked[i][j].mean, DIGITS) for i in members if not math.isnan(ranked[i][j].mean)
            }
            if len(means) < 2 or name.startswith(DIFFERENCE):
                continue
            order = sorted(set(means.values()), reverse=True)
            for i, mean in means.items():
                place = order.index(mean) + 1
                ranked[i][j] = replace(ranked[i][j], place=place if place <= 2 else 0)
    return [replace(row, values=tuple(values)) for row, values in zip(rows, ranked, strict=True)]


def columns_of(places: Sequence[Place], wanted: Wanted) -> tuple[tuple[str, str], ...]:
    """Return heading and name of the columns of numbers."""
    names = [METRICS.get(name, name) for name in wanted.metrics]
    if wanted.against:
        names.append(DIFFERENCE + METRICS.get(wanted.compared, wanted.compared))
    return tuple(
        (heading, name) for heading in headings_of(places, wanted.headings).values() for name in names
    )
