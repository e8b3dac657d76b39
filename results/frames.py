"""Everything that runs have left, as tidy pandas frames, and the same as Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results.errors import ResultsError
from results.files import write_whole
from results.notices import environment_of
from results.sheets.ablations import flat
from results.store import Run, collect, find_runs

OF_RUN = ("run", "method", "preset", "dataset", "split", "seed")
"""Columns by which every frame says whose a row is."""


class Frames(NamedTuple):
    """Tidy frames; every row says of which run it is.

    Attributes
    ----------
    runs : DataFrame
        A row a run: method, preset, dataset, split, seed, data, weights, path, device, commit, dirty, python, torch and
        ``config_*``, the configuration by dotted names.
    metrics : DataFrame
        A measured value a row; see :class:`results.schema.MetricRow`.
    history : DataFrame
        A phase of an epoch a row; see :class:`results.schema.HistoryRow`.
    profile : DataFrame
        A stage of an epoch a row; see :class:`results.schema.ProfileRow`.
    """

    runs: pd.DataFrame
    metrics: pd.DataFrame
    history: pd.DataFrame
    profile: pd.DataFrame


def load(*paths: Path | str, where: Sequence[str] = (), labels: Sequence[str] = ()) -> Frames:
    """Return what every finished run at or below `paths`, or in bundles, has left.

    Parameters
    ----------
    where, labels : sequence of str
        As :func:`results.store.find_runs` takes them.

    Examples
    --------
    >>> frames = load("runs")  # doctest: +SKIP
    >>> frames.history.groupby(["method", "epoch"])["test_mAP"].mean()  # doctest: +SKIP

    Raises
    ------
    ResultsError
        If a run is damaged, none has finished, or runs of one name differ in more than split and seed.
    """
    return frames_of(find_runs(map(Path, paths), where, labels).runs)


def frames_of(runs: Sequence[Run]) -> Frames:
    """Return the frames of runs, in their order."""
    about = [run_row(run) for run in runs]
    return Frames(
        pd.DataFrame(about),
        collect(runs),
        joined([run.history for run in runs], about),
        joined([run.profile for run in runs], about),
    )


def run_row(run: Run) -> dict[str, Any]:
    """Return the row of a run."""
    spec, environment = run.manifest["spec"], environment_of(run)
    packages = environment.get("packages")
    config = spec.get("config")
    settings = {
        key: value if value is None or isinstance(value, bool | int | float | str) else str(value)
        for key, value in flat(config if isinstance(config, dict) else {}).items()
    }
    return {
        "run": run.id,
        "method": spec["label"],
        **{name: spec[name] for name in ("preset", "dataset", "split", "seed")},
        "data": spec.get("data"),
        "weights": spec.get("weights"),
        "path": str(run.path),
        "device": run.manifest.get("device"),
        **{name: environment.get(name) for name in ("commit", "dirty", "python")},
        "torch": packages.get("torch") if isinstance(packages, dict) else None,
        **{f"config_{key}": value for key, value in settings.items()},
    }


def joined(parts: Sequence[pd.DataFrame], about: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Put frames below each other, each row with the run that it is of."""
    named = []
    for part, row in zip(parts, about, strict=True):
        columns = pd.DataFrame({name: [row[name]] * len(part) for name in OF_RUN}, index=part.index)
        named.append(pd.concat([columns, part], axis=1))
    full = [part for part in named if len(part)] or named[:1]
    return pd.concat(full, ignore_index=True)


def write_parquet(frames: Frames, folder: Path) -> list[Path]:
    """Write each frame as ``<name>.parquet`` into a folder, and return the files.

    Raises
    ------
    ResultsError
        If pyarrow is not installed.
    """
    contents = {}
    for name, frame in frames._asdict().items():
        file = io.BytesIO()
        try:
            plain_columns(frame).to_parquet(file, index=False, engine="pyarrow")
        except ImportError as error:
            raise ResultsError("Parquet needs pyarrow: pip install 'reidbench[parquet]'") from error
        contents[folder / f"{name}.parquet"] = file.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        write_whole(path, content)
    return list(contents)


def plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose columns of several types are texts: a column of Parquet has one type."""
    mixed = [
        name
        for name in frame
        if frame[name].dtype == object and len({type(one) for one in frame[name].dropna()}) > 1
    ]
    return frame.assign(**{str(name): frame[name].map(str) for name in mixed})
