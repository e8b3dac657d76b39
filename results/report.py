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

from results.figures import cmc_curves, curve_columns, to_svg, training_curves
from results.formats import LEAK, PLACE, Table, headings
from results.schema import ResultsError
from results.store import Found, Run, collect, write_text
from results.tables import comparison


@dataclass(frozen=True)
class Section:
    """What the report says about one data set and kind of data (synthetic or real)."""

    title: str
    table: Table
    cmc: str
    curves: str
    timings: pd.DataFrame
    runs: tuple[Run, ...]

    @property
    def names(self) -> dict[str, str]:
        """Name of every run's line."""
        return line_names(self.runs)

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
        texts = [{"name": name, "style": "text"} for name in self.table.shown if name not in PLACE]
        return texts + [
            {"name": name, "style": "number leak" if group == LEAK else "number"}
            for group, name in self.table.columns
        ]

    @property
    def places(self) -> list[tuple[str, list[list[str]]]]:
        """Protocol and setting, and the cells of their lines."""
        skipped = len(PLACE)
        by_place = groupby(self.table.lines(), key=lambda line: ", ".join(line[:skipped]))
        return [(place, [line[skipped:] for line in lines]) for place, lines in by_place]


def picture(figure: Figure) -> str:
    """Return a figure as a data address for an image element, which keeps the ids of several SVGs apart."""
    return "data:image/svg+xml;base64," + base64.b64encode(to_svg(figure).encode()).decode()


def line_names(runs: Sequence[Run]) -> dict[str, str]:
    """Return the method of every run, with its preset where one method has several."""
    about = {
        run.id: (str(run.manifest["spec"]["label"]), str(run.manifest["spec"]["preset"])) for run in runs
    }
    presets = {label: {p for other, p in about.values() if other == label} for label, _ in about.values()}
    return {
        run: label if len(presets[label]) == 1 else f"{label} @ {preset}"
        for run, (label, preset) in about.items()
    }


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by :func:`line_names`, sorted."""
    names = line_names(runs)
    return {name: [run for run in runs if names[run.id] == name] for name in sorted(set(names.values()))}


def timings(runs: Sequence[Run]) -> pd.DataFrame:
    """Return what the stages of training and evaluation cost.

    Returns
    -------
    DataFrame
        method, stage, device, seconds (of a run, over its epochs; mean over runs), share (of the measured
        seconds, percent), calls (of a run), peak_memory_mib (largest).
    """
    rows: list[dict[str, Any]] = []
    for name, own in by_method(runs).items():
        every = pd.concat([run.profile for run in own], ignore_index=True)
        total = float(every["wall_s"].sum()) or 1.0
        for (device, stage), part in every.groupby(["device", "stage"], sort=False):
            seconds = float(part["wall_s"].sum())
            rows.append(
                {
                    "method": name,
                    "stage": stage,
                    "device": device,
                    "seconds": seconds / len(own),
                    "share": 100 * seconds / total,
                    "calls": int(part["calls"].sum()) / len(own),
                    "peak_memory_mib": float(part["peak_memory_mib"].max()),
                }
            )
    names = ["method", "stage", "device", "seconds", "share", "calls", "peak_memory_mib"]
    return pd.DataFrame(rows, columns=names)


def section(title: str, runs: Sequence[Run]) -> Section:
    """Tabulate and draw comparable runs."""
    rows = collect(runs)
    histories = {name: [run.history for run in own] for name, own in by_method(runs).items()}
    return Section(
        title=title,
        table=comparison(rows, {run.id: run.history for run in runs}),
        cmc=picture(cmc_curves(rows)),
        curves=picture(training_curves(histories)) if curve_columns(histories) else "",
        timings=timings(runs),
        runs=tuple(runs),
    )


def place_of(run: Run) -> tuple[str, int, int, str]:
    """Return what runs are listed by: method and preset, seed, split, id."""
    spec = run.manifest["spec"]
    return f"{spec['label']} @ {spec['preset']}", int(spec["seed"]), int(spec["split"]), run.id


def sections(runs: Sequence[Run]) -> list[Section]:
    """Part runs by data set and by synthetic or real data, which no table mixes."""
    parts: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=place_of):
        kinds = {"synthetic" if kind == "synthetic" else "real" for kind in run.metrics["data"]}
        if len(kinds) != 1:
            raise ResultsError(f"{run.path / 'metrics.csv'} has no rows, or rows of synthetic and real data")
        parts.setdefault((str(run.manifest["spec"].get("dataset")), kinds.pop()), []).append(run)
    return [section(f"{dataset}, {kind} data", parts[dataset, kind]) for dataset, kind in sorted(parts)]


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return a manifest as readable JSON."""
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)


def render(found: Found) -> str:
    """Return the report as one HTML document; equal runs give equal text.

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
        sections=sections(found.runs),
        runs=len(found.runs),
        unfinished=[str(path) for path in found.unfinished],
        manifest_text=manifest_text,
    )


def write_report(found: Found, path: Path) -> None:
    """Write the report whole or not at all."""
    write_text(path, render(found))
