"""A leaderboard: one page, a table a protocol, and the manifest of every run beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from results.comparable import line_names
from results.errors import ResultsError
from results.formats import ABSENT, HEADLINE, PLACE, Table, cell, to_csv
from results.html import page
from results.report import line_names_of, manifest_text
from results.store import Run, collect
from results.tables import comparison_of

PAGE = "index.html"
METRICS = ("rank-1", "rank-10", "rank-20", "mAP", "mINP")
ABOUT = ("supervision", "division", "weights", "stage_init", "trials", "seeds", "± over")


@dataclass(frozen=True)
class Row:
    """A line: its texts and numbers, and the manifests of its runs."""

    method: str
    about: tuple[str, ...]
    values: tuple[str, ...]
    manifests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Board:
    """The table of a protocol: lines by setting, the best mAP first."""

    title: str
    key: str
    places: tuple[tuple[str, tuple[Row, ...]], ...]
    caption: tuple[str, ...]


def pages(runs: Sequence[Run]) -> dict[str, str]:
    """Return the files of a leaderboard by their paths; equal runs give equal files.

    Raises
    ------
    ResultsError
        If runs under one protocol cannot stand in one table.
    """
    parts: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda one: one.id):
        rows = run.metrics.assign(kind=run.metrics["data"].where(run.metrics["data"] == "synthetic", "real"))
        for (protocol, kind), part in rows.groupby(["protocol", "kind"]):
            parts.setdefault((str(protocol), str(kind)), []).append(
                replace(run, metrics=part.drop(columns="kind").reset_index(drop=True))
            )
    if not parts:
        raise ResultsError("no run has scores to show")
    boards, files = [], {}
    for (protocol, kind), group in sorted(parts.items()):
        key = slug(f"{protocol}-{kind}")
        table = comparison_of(group)
        boards.append(board(f"{protocol}, {kind} data", key, table, group))
        files[f"{key}.csv"] = to_csv(table)
    for run in runs:
        files[manifest_path(run.id)] = manifest_text(run.manifest) + "\n"
    files[PAGE] = render(boards)
    return files


def board(title: str, key: str, table: Table, runs: Sequence[Run]) -> Board:
    """Make the table of a protocol."""
    rows = collect(runs)
    ids: dict[tuple[str, str, str], list[str]] = {}
    for run, name, setting, division in zip(
        rows["run"], line_names(rows), rows["setting"], rows["division"], strict=True
    ):
        known = ids.setdefault((str(name), str(setting), str(division)), [])
        if run not in known:
            known.append(str(run))
    lines: dict[str, list[tuple[float, Row]]] = {}
    for i, name in enumerate(line_names_of(table)):
        about = table.about.iloc[i]
        mean, std = table.mean.iloc[i], table.std.iloc[i]
        row = Row(
            name,
            tuple(str(about[one]) or ABSENT for one in ABOUT),
            tuple(cell(float(mean[HEADLINE, one]), float(std[HEADLINE, one])) for one in METRICS),
            tuple((run, manifest_path(run)) for run in ids[name, about["setting"], about["division"]]),
        )
        place = ", ".join(str(about[one]) for one in PLACE)
        lines.setdefault(place, []).append((float(mean[HEADLINE, "mAP"]), row))
    places = tuple(
        (place, tuple(row for _, row in sorted(part, key=lambda one: (-one[0], one[1].method))))
        for place, part in lines.items()
    )
    return Board(title, key, places, table.caption)


def manifest_path(run: str) -> str:
    """Return where the manifest of a run lies; an id that could lead elsewhere is refused."""
    if not re.fullmatch(r"[\w.:-]+", run, re.ASCII) or run.startswith("."):
        raise ResultsError(f"{run!a} is not the id of a run; use an unchanged manifest")
    return f"manifests/{run.replace(':', '-')}.json"


def slug(text: str) -> str:
    """Return a text as a name of files and addresses."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def render(boards: Sequence[Board]) -> str:
    """Return the page; it has no script, and loads nothing."""
    return page("leaderboard", sections=boards, columns=(*ABOUT, *METRICS), texts=len(ABOUT))
