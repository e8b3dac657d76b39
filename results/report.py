"""A self-contained HTML report of runs: tables, curves, stage timings, manifests; it loads nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from results.comparable import line_groups
from results.figures import cmc, cmc_points, timings, to_svg, training
from results.figures.training import curves_of
from results.formats import LAST_STAGE_LEAK, LEAK, PLACE, Table, headings
from results.schema import Checkpoint, ResultsError
from results.store import FoundRuns, Run, collect, write_text
from results.tables import SHOWN, comparison


@dataclass(frozen=True)
class Section:
    """What the report says about one data set and kind of data (synthetic or real).

    Attributes
    ----------
    cmc, curves : str
        Figures as data addresses; `curves` is empty if nothing was trained, `cmc` if runs lack ranks.
    lacking : str
        Why there is no `cmc`; empty if there is one.
    timings : DataFrame
        See :func:`timings`.
    names : mapping of run id to str
        The name of each run's line.
    """

    title: str
    table: Table
    cmc: str
    lacking: str
    curves: str
    timings: pd.DataFrame
    runs: tuple[Run, ...]
    names: Mapping[str, str]

    @property
    def texts(self) -> int:
        """Number of the table's columns of texts; protocol and setting are rows of their own."""
        return len(self.table.shown) - len(PLACE)

    @property
    def heads(self) -> list[tuple[str, int]]:
        """(group, number of columns) of the table's upper heading."""
        return [(group, last - first + 1) for group, first, last in headings(self.table)]

    @property
    def columns(self) -> list[dict[str, str]]:
        """Name and style of every column."""
        columns = [{"name": name, "style": "text"} for name in self.table.shown if name not in PLACE]
        for group, name in self.table.columns:
            style = "number leak" if group in (LEAK, LAST_STAGE_LEAK) else "number"
            columns.append({"name": name, "style": style})
        return columns

    @property
    def places(self) -> list[tuple[str, list[list[str]]]]:
        """Protocol and setting, and the cells of their lines."""
        skipped = len(PLACE)
        places: list[tuple[str, list[list[str]]]] = []
        for place, lines in groupby(self.table.lines(), key=lambda line: ", ".join(line[:skipped])):
            places.append((place, [line[skipped:] for line in lines]))
        return places


def picture(figure: Figure) -> str:
    """Return a figure as a data address for an image element, which keeps the ids of several SVGs apart."""
    return "data:image/svg+xml;base64," + base64.b64encode(to_svg(figure).encode()).decode()


def section(title: str, runs: Sequence[Run], checkpoints: Sequence[Checkpoint] = SHOWN) -> Section:
    """Tabulate and draw comparable runs."""
    rows = collect(runs)
    groups = line_groups(runs)
    names = {run.id: name for name, group in groups.items() for run in group}
    histories = {name: [run.history for run in group] for name, group in groups.items()}
    try:
        matching, lacking = picture(cmc(cmc_points(runs))), ""
    except ResultsError as error:
        matching, lacking = "", str(error)
    return Section(
        title=title,
        table=comparison(rows, {run.id: run.history for run in runs}, checkpoints),
        cmc=matching,
        lacking=lacking,
        curves=picture(training(histories)) if curves_of(histories) else "",
        timings=timings(groups),
        runs=tuple(runs),
        names=names,
    )


def place_of(run: Run) -> tuple[str, int, int, str]:
    """Return what runs are listed by: method and preset, seed, split, id."""
    spec = run.manifest["spec"]
    return f"{spec['label']} @ {spec['preset']}", int(spec["seed"]), int(spec["split"]), run.id


def sections(runs: Sequence[Run], checkpoints: Sequence[Checkpoint] = SHOWN) -> list[Section]:
    """Part runs by data set and by synthetic or real data, which no table mixes."""
    parts: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=place_of):
        kinds = {"synthetic" if kind == "synthetic" else "real" for kind in run.metrics["data"]}
        if len(kinds) != 1:
            raise ResultsError(f"{run.path / 'metrics.csv'} has no rows, or rows of synthetic and real data")
        parts.setdefault((str(run.manifest["spec"]["dataset"]), kinds.pop()), []).append(run)
    return [section(f"{place[0]}, {place[1]} data", parts[place], checkpoints) for place in sorted(parts)]


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return a manifest as readable JSON."""
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)


def render(found: FoundRuns, checkpoints: Sequence[Checkpoint] = SHOWN) -> str:
    """Return the report as one HTML document; equal runs give equal text.

    Parameters
    ----------
    checkpoints : sequence of str
        As for :func:`results.tables.comparison`.

    Raises
    ------
    ResultsError
        If runs of one data set cannot stand in one table.
    """
    environment = Environment(
        loader=PackageLoader("results"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html")
    return template.render(
        sections=sections(found.runs, checkpoints),
        runs=len(found.runs),
        unfinished=[str(path) for path in found.unfinished],
        manifest_text=manifest_text,
    )


def write_report(found: FoundRuns, path: Path, checkpoints: Sequence[Checkpoint] = SHOWN) -> None:
    """Write the report whole or not at all."""
    write_text(path, render(found, checkpoints))
