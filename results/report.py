"""A self-contained HTML report of runs: summary, warnings, tables, figures, ranked lists; it loads nothing."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from results.comparable import line_groups
from results.comparisons import compare
from results.figures import timings
from results.formats import ESCAPES, HEADLINE, LAST_STAGE_LEAK, LEAK, PLACE, Table, full_name, headings
from results.html import page
from results.notices import environment_differences, notices
from results.report_parts import Drawing, Sheet, drawings, summary
from results.schema import Checkpoint, ResultsError
from results.store import FoundRuns, Run, write_text
from results.tables import SHOWN, comparison_of


@dataclass(frozen=True)
class Section:
    """What the report says about one data set and kind of data (synthetic or real).

    Attributes
    ----------
    key : str
        Names it in addresses.
    summary : list of str
        Sentences.
    timings : DataFrame
        See :func:`timings`.
    names : mapping of run id to str
        The name of each run's line.
    sheet : Sheet, optional
        Ranked lists.
    """

    key: str
    title: str
    summary: list[str]
    table: Table
    drawings: list[Drawing]
    timings: pd.DataFrame
    runs: tuple[Run, ...]
    names: Mapping[str, str]
    sheet: Sheet | None

    @property
    def texts(self) -> int:
        """Number of the table's columns of texts; protocol and setting are rows of their own."""
        return len(self.table.shown) - len(PLACE)

    @property
    def heads(self) -> list[tuple[str, int]]:
        """(group, number of columns) of the table's upper heading."""
        return [(group, last - first + 1) for group, first, last in headings(self.table)]

    @property
    def methods(self) -> list[str]:
        """Names of the lines, sorted."""
        return sorted(set(self.names.values()))

    @property
    def columns(self) -> list[dict[str, str]]:
        """Name (alone, and outside its group) and style of every column."""
        columns = [
            {"name": name, "full": name, "style": "text"} for name in self.table.shown if name not in PLACE
        ]
        for group, name in self.table.columns:
            style = "number leak" if group in (LEAK, LAST_STAGE_LEAK) else "number"
            columns.append({"name": name, "full": full_name(group, name), "style": style})
        return columns

    @property
    def places(self) -> list[tuple[str, list[tuple[str, list[str]]]]]:
        """Protocol and setting, and the name and the cells of their lines."""
        skipped = len(PLACE)
        names = line_names_of(self.table)
        lines = list(zip(names, self.table.lines(), strict=True))
        places: list[tuple[str, list[tuple[str, list[str]]]]] = []
        for place, part in groupby(lines, key=lambda line: ", ".join(line[1][:skipped])):
            places.append((place, [(name, line[skipped:]) for name, line in part]))
        return places


def line_names_of(table: Table) -> list[str]:
    """Return the name of each line, as :func:`results.comparable.line_names` gives it."""
    several = table.about.groupby("method")["preset"].transform("nunique") > 1
    names = table.about["method"].where(~several, table.about["method"] + " @ " + table.about["preset"])
    return [str(name) for name in names]


def section(
    title: str, runs: Sequence[Run], checkpoints: Sequence[Checkpoint] = SHOWN, sheet: Sheet | None = None
) -> Section:
    """Tabulate, compare and draw comparable runs."""
    key = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    groups = line_groups(runs)
    table = comparison_of(runs, checkpoints)
    costs = timings(groups)
    found, lacking = None, ""
    if len(groups) > 1:
        try:
            found = compare(runs)
        except ResultsError as error:
            lacking = str(error)
    return Section(
        key=key,
        title=title,
        summary=summary(found, headline_of(table), supervised_of(table), lacking),
        table=table,
        drawings=drawings(key, runs, groups, found, costs),
        timings=costs,
        runs=tuple(runs),
        names={run.id: name for name, group in groups.items() for run in group},
        sheet=sheet,
    )


def headline_of(table: Table) -> pd.DataFrame:
    """Return protocol, setting, method and mAP at the last epoch of every line."""
    means = table.mean[(HEADLINE, "mAP")].to_numpy()
    return table.about[list(PLACE)].assign(method=line_names_of(table), mAP=means)


def supervised_of(table: Table) -> set[str]:
    """Return the lines that are trained with identities."""
    kinds = zip(line_names_of(table), table.about["supervision"], strict=True)
    return {name for name, kind in kinds if kind == "supervised"}


def place_of(run: Run) -> tuple[str, int, int, str]:
    """Return what runs are listed by: method and preset, seed, split, id."""
    spec = run.manifest["spec"]
    return f"{spec['label']} @ {spec['preset']}", int(spec["seed"]), int(spec["split"]), run.id


def title_of(run: Run) -> str:
    """Return the heading under which a run stands: its data set, and whether the data are real."""
    kinds = {"synthetic" if kind == "synthetic" else "real" for kind in run.metrics["data"]}
    if len(kinds) != 1:
        raise ResultsError(f"{run.path / 'metrics.csv'} has no rows, or rows of synthetic and real data")
    return f"{run.manifest['spec']['dataset']}, {kinds.pop()} data"


def sections(
    runs: Sequence[Run],
    checkpoints: Sequence[Checkpoint] = SHOWN,
    sheets: Mapping[str, Sheet] | None = None,
) -> list[Section]:
    """Part runs by data set and by synthetic or real data, which no table mixes; `sheets` goes by their titles."""
    parts: dict[str, list[Run]] = {}
    for run in sorted(runs, key=place_of):
        parts.setdefault(title_of(run), []).append(run)
    return [section(title, parts[title], checkpoints, (sheets or {}).get(title)) for title in sorted(parts)]


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return a manifest as readable JSON."""
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)


def repeat(run: Run) -> str:
    """Return the command that does a run again; a manifest in a bundle is taken out first."""
    path = run.path / "manifest.json"
    if "command" in run.manifest:
        return str(run.manifest["command"])
    if isinstance(path, Path):
        return f"reidbench run --from {shlex.quote(str(path))}"
    inside = shlex.quote(f"{run.id}/manifest.json")
    return f"unzip {shlex.quote(str(path.root.filename))} {inside} && reidbench run --from {inside}"


def render(
    found: FoundRuns,
    checkpoints: Sequence[Checkpoint] = SHOWN,
    sheets: Mapping[str, Sheet] | None = None,
) -> str:
    """Return the report as one HTML document; equal runs give equal text.

    Parameters
    ----------
    checkpoints : sequence of str
        As for :func:`results.tables.comparison`.
    sheets : mapping of a section's title to Sheet, optional
        Ranked lists with their images.

    Raises
    ------
    ResultsError
        If runs of one data set cannot stand in one table.
    """
    runs = sorted(found.runs, key=place_of)
    return page(
        "report",
        {"escapes": ESCAPES},
        sections=sections(runs, checkpoints, sheets),
        runs=len(runs),
        notices=notices(runs),
        differences=environment_differences(runs),
        unfinished=[str(path) for path in found.unfinished],
        manifest_text=manifest_text,
        repeat=repeat,
    )


def write_report(
    found: FoundRuns,
    path: Path,
    checkpoints: Sequence[Checkpoint] = SHOWN,
    sheets: Mapping[str, Sheet] | None = None,
) -> None:
    """Write the report whole or not at all."""
    write_text(path, render(found, checkpoints, sheets))
