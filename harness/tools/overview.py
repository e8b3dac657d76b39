"""Every run of a folder in one list, finished or not (``reidbench runs``); pandas would take longer to import."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from calendar import timegm
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.runs.holder import holder_of
from results.errors import ResultsError
from results.files import Folder
from results.manifests import is_finished, read_manifest
from results.places import directories_below
from results.selection import changed_of, line_labels, selected, with_settings

COLUMNS = ("run", "method", "preset", "dataset", "split", "seed", "state", "epochs", "mAP", "age", "path")
ORDER = {"dataset": 0, "method": 0, "preset": 0, "split": 20, "seed": 20}
"""Columns by which rows are sorted, and the digits of numbers."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A run's directory, and what stands in it.

    Attributes
    ----------
    state : str
        ``finished``, ``running (process ...)``, ``stopped``, ``killed``, or ``failed`` with the reason.
    epochs : str
        ``8 of 10``.
    score : float
        Test mAP of the headline setting: of the last epoch if it is finished, else of the last evaluated one.
    """

    path: Folder
    manifest: Mapping[str, Any]
    state: str
    epochs: str
    score: float


def overview(
    paths: Sequence[Path], where: Sequence[str] = (), labels: Sequence[str] = ()
) -> tuple[list[Row], list[str]]:
    """Return a row for every run at or below `paths`, and what is wrong with directories that cannot be read.

    Parameters
    ----------
    where, labels : sequence of str
        As :func:`results.find_runs` takes them; ``state=`` is a condition too.

    Raises
    ------
    ResultsError
        If a path does not exist, or no run fulfils the conditions.
    """
    found, faults = [], []
    for path in directories_below(paths).values():
        try:
            found.append(look_at(path, read_manifest(path / "manifest.json")))
        except ResultsError as error:
            faults.append(str(error))
    about = {str(one.path): with_state(one) for one in found}
    kept = selected(about, where)
    names = line_labels({key: one for key, one in about.items() if key in kept}, labels)
    rows = [row_of(one, names[str(one.path)]) for one in found if str(one.path) in kept]
    return sorted(
        rows, key=lambda row: [str(row[name]).rjust(width) for name, width in ORDER.items()]
    ), faults


def with_state(found: Found) -> dict[str, Any]:
    """Return a manifest whose specification has the state too, and in its label what differs from the preset."""
    spec = found.manifest["spec"]
    label = with_settings(spec["label"], changed_of(found.manifest))
    return {**found.manifest, "spec": {**spec, "state": found.state.split(" ")[0], "label": label}}


def look_at(path: Folder, manifest: Mapping[str, Any]) -> Found:
    """Look at the directory of a run, at as few of its files as will do."""
    finished = is_finished(path)
    history = rows_of(path / "history.csv")
    epochs = [epoch for row in history if (epoch := number(row, "epoch")) >= 0]
    done = 1 + int(max(epochs, default=-1))
    whole = manifest.get("epochs")
    evaluated = [score for row in history if not math.isnan(score := number(row, "test_mAP"))]
    scores = headline_scores(path / "metrics.csv") if finished else evaluated[-1:]
    return Found(
        path,
        manifest,
        "finished" if finished else unfinished_state(path, manifest),
        f"{done} of {whole}" if whole is not None else str(done),
        sum(scores) / len(scores) if scores else math.nan,
    )


def unfinished_state(path: Folder, manifest: Mapping[str, Any]) -> str:
    """Say what an unfinished run is doing, from its manifest and the process that says it holds it."""
    if manifest.get("status") == "running":
        holder = holder_of(path) if isinstance(path, Path) else None
        return f"running ({holder})" if holder else "killed"
    reason = str(manifest.get("reason") or "").replace("\n", " ")
    kind, _, why = reason.partition(": ")
    if kind in ("KeyboardInterrupt", "Stopped", "SystemExit", ""):
        return "stopped"
    return f"failed ({(why or kind)[:80]})"


def rows_of(path: Folder) -> list[dict[str, str]]:
    """Read a table; one that cannot be read is empty."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error):
        return []


def number(row: Mapping[str, str], name: str) -> float:
    """Return a finite number of a row; NaN where it is none, or not there."""
    try:
        found = float(row[name])
    except (KeyError, TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def headline_scores(path: Folder) -> list[float]:
    """Return the mAP of the headline setting at the last epoch, a value a trial."""
    return [
        number(row, "value")
        for row in rows_of(path)
        if (row.get("checkpoint"), row.get("metric")) == ("last", "mAP")
        and f"{row.get('protocol')} {row.get('setting')}" == row.get("headline")
    ]


def row_of(found: Found, name: str) -> Row:
    """Return a run's row."""
    spec = found.manifest["spec"]
    return {
        "run": found.manifest["run"],
        "method": name,
        **{key: spec[key] for key in ("preset", "dataset", "split", "seed")},
        "state": found.state,
        "epochs": found.epochs,
        "mAP": round(found.score, 2),
        "age": age(str(found.manifest.get("written", ""))),
        "path": str(found.path),
    }


def age(written: str) -> str:
    """Say how long ago a manifest was written, as ``5 min``, ``3 h`` or ``2 d``."""
    try:
        seconds = time.time() - timegm(time.strptime(written, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return "-"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(int(seconds), 0)} s"


def as_text(rows: Sequence[Row], format_: str) -> str:
    """Return the list as aligned text, CSV or JSON.

    Raises
    ------
    HarnessError
        If there is no such format.
    """
    known = [{key: None if value != value else value for key, value in row.items()} for row in rows]
    if format_ == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(known)
        return file.getvalue()
    if format_ == "json":
        return json.dumps(known, indent=2) + "\n"
    if format_ != "text":
        raise HarnessError(f"--format {format_}: expected text, csv or json")
    return aligned(known) if rows else "no runs\n"


def aligned(rows: Sequence[Row]) -> str:
    """Return rows without their paths as lines of equally wide columns; settings, which can be many, stand last."""
    shown = [name for name in COLUMNS if name != "path"]
    lines, settings = [shown], ["settings"]
    for row in rows:
        method, _, bracket = str(row["method"]).partition("[")
        score = "-" if row["mAP"] is None else f"{row['mAP']:.2f}"
        lines.append([str({**row, "method": method, "mAP": score}[name]) for name in shown])
        settings.append(bracket.removesuffix("]"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    last = settings if any(settings[1:]) else [""] * len(lines)
    return "".join(
        " ".join([*(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), one]).rstrip()
        + "\n"
        for line, one in zip(lines, last, strict=True)
    )
