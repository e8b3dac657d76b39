"""Every run of a folder in one list, finished or not (``reidbench runs``)."""

from __future__ import annotations

import os
import time
from calendar import timegm
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.runs.holder import holder_of
from results.checksums import COMPLETE
from results.columns import ResultsError
from results.files import Folder
from results.places import directories_below
from results.selection import line_labels, selected, with_settings
from results.store import read_manifest

COLUMNS = ("run", "method", "preset", "dataset", "split", "seed", "state", "epochs", "mAP", "age", "path")


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
) -> tuple[pd.DataFrame, list[str]]:
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
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values(["dataset", "method", "preset", "split", "seed"], ignore_index=True), faults


def with_state(found: Found) -> dict[str, Any]:
    """Return a manifest whose specification has the state too, and in its label what differs from the preset."""
    spec, changed = found.manifest["spec"], found.manifest.get("changed")
    label = with_settings(spec["label"], changed if isinstance(changed, dict) else {})
    return {**found.manifest, "spec": {**spec, "state": found.state.split(" ")[0], "label": label}}


def look_at(path: Folder, manifest: Mapping[str, Any]) -> Found:
    """Look at the directory of a run, at as few of its files as will do."""
    finished = (path / COMPLETE).is_file()
    history = columns_of(path / "history.csv", ("epoch", "test_mAP"))
    done = int(history["epoch"].max()) + 1 if len(history) else 0
    whole = manifest.get("epochs")
    scores = headline_scores(path / "metrics.csv") if finished else history["test_mAP"].dropna()[-1:]
    return Found(
        path,
        manifest,
        "finished" if finished else unfinished_state(path, manifest),
        f"{done} of {whole}" if whole is not None else str(done),
        float(scores.mean()),
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


def columns_of(path: Folder, names: Iterable[str]) -> pd.DataFrame:
    """Read some columns of a table; those that it lacks, or all of one that cannot be read, are empty."""
    try:
        with path.open(encoding="utf-8") as file:
            return pd.read_csv(file, usecols=lambda name: name in names).reindex(columns=list(names))
    except (OSError, ValueError):
        return pd.DataFrame(columns=list(names), dtype=float)


def headline_scores(path: Folder) -> pd.Series:
    """Return the mAP of the headline setting at the last epoch, a value a trial."""
    rows = columns_of(path, ("protocol", "setting", "checkpoint", "metric", "headline", "value"))
    place = rows["protocol"].astype(str) + " " + rows["setting"].astype(str)
    wanted = (rows["checkpoint"] == "last") & (rows["metric"] == "mAP") & (place == rows["headline"])
    return rows.loc[wanted, "value"]


def row_of(found: Found, name: str) -> dict[str, Any]:
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
        "path": os.fspath(str(found.path)),
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


def as_text(frame: pd.DataFrame, format_: str) -> str:
    """Return the list as aligned text, CSV or JSON.

    Raises
    ------
    HarnessError
        If there is no such format.
    """
    if format_ == "csv":
        return frame.to_csv(index=False, lineterminator="\n")
    if format_ == "json":
        return str(frame.to_json(orient="records", indent=2)) + "\n"
    if format_ != "text":
        raise HarnessError(f"--format {format_}: expected text, csv or json")
    shown = frame.assign(mAP=frame["mAP"].map(lambda score: "-" if pd.isna(score) else f"{score:.2f}"))
    return f"{shown.drop(columns='path').to_string(index=False)}\n" if len(frame) else "no runs\n"
