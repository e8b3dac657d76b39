"""Reads and writes the tables of run directories; floats survive exactly, files are whole or absent."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd

from results.arrays import read_npz
from results.checksums import check_files, read_checksums
from results.columns import Row, validated
from results.files import Folder, write_whole
from results.manifests import chosen_directories, is_finished, nothing_finished, read_manifest
from results.ranks import KEPT, false_rows
from results.schema import HISTORY, METRICS, PROFILE, ResultsError, Schema, frame_of, validate
from results.selection import changed_of, line_labels, setting_text, settings_of, with_settings

SAME = ("sources", "training_version", "weights", "data_digest")
"""Entries of a specification that runs of one line of a table share, beside the settings; split and seed may differ."""

OF_RUN = {"method": "label", "preset": "preset", "seed": "seed", "split": "split"}
"""Columns of the metric rows that repeat an entry of the specification."""
OF_VALUE = ("checkpoint", "protocol", "setting", "trial", "metric")
"""Columns that say which value a metric row holds."""
RANKS_LIMIT = 2**31
"""Bytes that the arrays of ``ranks.npz`` may unpack to: some ten times those of the largest data set."""


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole, or not at all.

    Raises
    ------
    OSError
        If it cannot be written; names `path`.
    """
    write_whole(path, text.encode())


def write_frame(frame: pd.DataFrame, path: Path, schema: Schema[Any]) -> None:
    """Validate a table and write it as CSV; equal tables give equal bytes, floats have all their digits.

    Parameters
    ----------
    frame : DataFrame
        Columns in any order; the file has the schema's order, then free columns by name.
    """
    text = validate(frame, schema, str(path)).to_csv(index=False, lineterminator="\n")
    write_text(path, text)


def write_rows(rows: Iterable[Row], path: Path, schema: Schema[Row]) -> None:
    """Write typed rows as CSV, as :func:`write_frame` writes their table."""
    write_text(path, frame_of(rows, schema).to_csv(index=False, lineterminator="\n"))


def read_frame(path: Folder, schema: Schema[Any]) -> pd.DataFrame:
    """Read and validate what :func:`write_frame` wrote.

    Raises
    ------
    ResultsError
        If the file is missing, no CSV, or not of the schema; names line and column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"{path} is not a readable CSV file: {error}") from error
    if not rows:
        raise ResultsError(f"{path} is empty; delete the run directory and run it again")
    header, body = rows[0], rows[1:]
    for line, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise ResultsError(f"{path}: line {line} has {len(row)} fields, the header {len(header)}")
    return validated(
        header, [[row[place] for row in body] for place in range(len(header))], schema, str(path)
    )


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    manifest : dict
        What ``manifest.json`` says: specification, environment, seeds.
    metrics, history, profile : DataFrame
        Tables of the schemas of those names.
    """

    path: Folder
    manifest: Mapping[str, Any]
    metrics: pd.DataFrame
    history: pd.DataFrame
    profile: pd.DataFrame

    @property
    def id(self) -> str:
        """Run id, as in the rows."""
        return str(self.manifest["run"])

    def ranks(self, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, npt.NDArray[Any]]:
        """Read ``ranks.npz``: what was kept of every query, under ``checkpoint/protocol/setting/trial/``.

        Names are query_identity, query_camera, average_precision, hits, hit_offsets, first_rank, first_ten_rows and
        first_ten_distances.

        Parameters
        ----------
        wanted : callable
            Whether to read the array of a name.
        """
        path = self.path / "ranks.npz"
        check_files(self.path, [path.name])
        try:
            # in a bundle, one cannot go back without reading all again
            file = path if isinstance(path, Path) else io.BytesIO(path.read_bytes())
        except OSError as error:
            raise ResultsError(f"{path} is not readable: {error}") from error
        return read_npz(file, str(path), wanted, RANKS_LIMIT)


@dataclass(frozen=True)
class FoundRuns:
    """The finished runs below some folders, in the order of their ids, and directories of unfinished ones."""

    runs: tuple[Run, ...]
    unfinished: tuple[Folder, ...]


def read_run(path: Folder) -> Run:
    """Read a finished run.

    Raises
    ------
    ResultsError
        If the run has not finished, or a file of it is damaged.
    """
    if not is_finished(path):
        raise ResultsError(
            f"{path} is not a finished run (it has no COMPLETE); `reidbench run` goes on with it"
        )
    check_files(path, ("manifest.json", "metrics.csv", "history.csv", "profile.csv"))
    manifest = read_manifest(path / "manifest.json")
    run = Run(
        path,
        manifest,
        read_frame(path / "metrics.csv", METRICS),
        read_frame(path / "history.csv", HISTORY),
        read_frame(path / "profile.csv", PROFILE),
    )
    check_rows(run)
    if not isinstance(path, Path) and path.name != run.id:
        raise ResultsError(f"{path}: its manifest is that of run {run.id}; use an unchanged bundle")
    if not isinstance(path, Path) or not read_checksums(path):
        check_values(run)
    return run


def check_values(run: Run) -> None:
    """Refuse metric rows that are not what the run's ranked lists give, as far as it has kept them.

    For rows that no digest vouches for: of a run from before there were any, and of a bundle, which may be anybody's.

    Raises
    ------
    ResultsError
        Says which value it is.
    """
    ranks = run.ranks() if (run.path / "ranks.npz").is_file() else {}
    if all(any(name.endswith(f"/{kept}") for name in ranks) for kept in KEPT):
        for fault in false_rows(run.metrics, ranks):
            raise ResultsError(f"{run.path}: {fault}; restore the files, or run it again with --force")


def check_rows(run: Run) -> None:
    """Refuse metric rows that stand twice, or that are not of the run of the manifest.

    Raises
    ------
    ResultsError
        Says in what they differ.
    """
    path, rows, spec = run.path / "metrics.csv", run.metrics, run.manifest["spec"]
    if strangers := sorted(set(rows["run"]) - {run.id}):
        raise ResultsError(f"{path} has rows of other runs: {', '.join(strangers)}")
    for column, entry in OF_RUN.items():
        if others := sorted({str(value) for value in rows[column]} - {str(spec.get(entry))}):
            raise ResultsError(
                f"{path} has rows with {column} {', '.join(others)}, the manifest says {spec.get(entry)}; "
                "use unchanged files"
            )
    if rows.duplicated(list(OF_VALUE)).any():
        twice = rows[rows.duplicated(list(OF_VALUE))].iloc[0]
        raise ResultsError(f"{path} has a row twice: {', '.join(str(twice[name]) for name in OF_VALUE)}")


def find_runs(paths: Iterable[Path], where: Sequence[str] = (), labels: Sequence[str] = ()) -> FoundRuns:
    """Read every finished run at or below `paths`, or in bundles; unfinished ones are listed, not read.

    Runs of one label that differ in configuration are called by it in their rows, as ``dmic[eps=0.5]``.

    Parameters
    ----------
    where : sequence of str
        Conditions ``key=value`` that a run must fulfil; see :func:`results.selection.selected`.
    labels : sequence of str
        Other names of lines, ``NAME=NEW``.

    Raises
    ------
    ResultsError
        If a path does not exist, no run has finished or is chosen, or two directories hold the same run.
    """
    directories = chosen_directories(paths, where)
    unfinished = [one for one in directories if not is_finished(one)]
    runs = sorted((read_run(one) for one in directories if is_finished(one)), key=lambda run: run.id)
    if not runs:
        raise nothing_finished(len(unfinished))
    for one, other in itertools.pairwise(runs):
        if one.id == other.id:
            raise ResultsError(f"run {one.id} is there twice: {one.path} and {other.path}; give one of them")
    names = line_labels({run.id: run.manifest for run in runs}, labels)
    called = (
        replace(run, metrics=run.metrics.assign(method=names[run.id], preset=preset_text(run, names[run.id])))
        for run in runs
    )
    return FoundRuns(tuple(called), tuple(sorted(unfinished, key=str)))


def preset_text(run: Run, name: str) -> str:
    """Return a run's preset, as ``demo[eps=0.5]`` with the settings that are not its own and not in the line's name."""
    named = f", {name.partition('[')[2].removesuffix(']')}, "  # whole settings: k1=30 is not in first.k1=30
    changed = changed_of(run.manifest)
    untold = {key: value for key, value in changed.items() if f", {setting_text(key, value)}, " not in named}
    return with_settings(str(run.manifest["spec"]["preset"]), untold)


def load_runs(*paths: Path | str, where: Sequence[str] = ()) -> pd.DataFrame:
    """Return the metric rows of every finished run at or below `paths`; see :class:`results.schema.MetricRow`.

    Parameters
    ----------
    where : sequence of str
        Conditions as ``eps=0.5,0.6``, which every run must fulfil.

    Examples
    --------
    >>> rows = load_runs("runs")  # doctest: +SKIP
    >>> last = rows.query("checkpoint == 'last' and metric == 'mAP'")  # doctest: +SKIP
    >>> last.groupby(["method", "setting"])["value"].mean()  # doctest: +SKIP

    Raises
    ------
    ResultsError
        As :func:`find_runs` and :func:`collect` do.
    """
    return collect(find_runs(map(Path, paths), where).runs)


def load_histories(*paths: Path | str) -> dict[str, pd.DataFrame]:
    """Return the history of every finished run at or below `paths` by run id; see :class:`results.schema.HistoryRow`.

    Raises
    ------
    ResultsError
        As :func:`find_runs` does.
    """
    return {run.id: run.history for run in find_runs(map(Path, paths)).runs}


def differences(spec: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name what differs between two specifications beside split and seed, settings by their keys."""
    one, two = settings_of(spec), settings_of(other)
    keys = [key for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)]
    return keys + [name for name in SAME if spec.get(name) != other.get(name)]


def collect(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the metric rows of runs as one table.

    Raises
    ------
    ResultsError
        If runs that a table would average over (same method, preset, data set) differ in more than split and
        seed; names runs and entries.
    """
    first: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        spec = run.manifest["spec"]
        label = str(run.metrics["method"].iloc[0]) if len(run.metrics) else str(spec["label"])
        preset, dataset = str(spec["preset"]), str(spec["dataset"])
        other = first.setdefault((label, preset, dataset), run)
        differing = differences(spec, other.manifest["spec"])
        if differing:
            raise ResultsError(
                f"runs {other.id} and {run.id} are both {label} ({preset}) on {dataset}, but differ in "
                f"{', '.join(differing)}; a mean over them means nothing. Give the run directories that "
                f"belong together ({other.path}, {run.path})"
            )
    return pd.concat([run.metrics for run in runs], ignore_index=True)
