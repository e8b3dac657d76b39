"""Manifests of runs: what was run, without its tables, and so without pandas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results.checksums import COMPLETE, check_files
from results.errors import ResultsError
from results.files import Folder
from results.places import directories_below
from results.selection import selected

NEEDED = ("label", "preset", "dataset", "seed", "split")


def read_manifest(path: Folder) -> dict[str, Any]:
    """Read a manifest: a JSON object with its run and a specification that has what :data:`NEEDED` says."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is not a readable manifest: {error}") from error
    spec = content.get("spec") if isinstance(content, dict) and "run" in content else None
    if not isinstance(spec, dict):
        raise ResultsError(f"{path} is not the manifest of a run: it lacks run or spec")
    if lacking := [name for name in NEEDED if name not in spec]:
        raise ResultsError(f"{path} is not the manifest of a run: it lacks {', '.join(lacking)}")
    for name in ("label", "preset", "dataset"):
        if not str(spec[name]).isprintable():
            raise ResultsError(
                f"{path}: spec.{name} is {spec[name]!a}, no printable text; use an unchanged manifest"
            )
    return dict(content)


def chosen_directories(paths: Iterable[Path], where: Sequence[str] = ()) -> list[Folder]:
    """Return the directories of the runs at or below `paths`, or in bundles, that fulfil conditions.

    Parameters
    ----------
    where : sequence of str
        Conditions ``key=value``; see :func:`results.selection.selected`.

    Raises
    ------
    ResultsError
        If a path does not exist, a condition is none, or no run fulfils it.
    """
    directories = directories_below(paths)
    if where:
        manifests = {name: read_manifest(one / "manifest.json") for name, one in directories.items()}
        kept = selected(manifests, where)
        directories = {name: one for name, one in directories.items() if name in kept}
    return list(directories.values())


def is_finished(run: Folder) -> bool:
    """Say whether a run's directory is that of a finished run."""
    return (run / COMPLETE).is_file()


def nothing_finished(unfinished: int) -> ResultsError:
    """Return the error that no run has finished."""
    return ResultsError(f"no finished run found, {unfinished} unfinished; `reidbench run` makes some")


def finished_manifests(paths: Iterable[Path], where: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the manifests of the finished runs at or below `paths`, without reading their tables.

    Raises
    ------
    ResultsError
        As :func:`chosen_directories`; if no run has finished, or a manifest is damaged.
    """
    directories = chosen_directories(paths, where)
    finished = [one for one in directories if is_finished(one)]
    if not finished:
        raise nothing_finished(len(directories))
    for one in finished:
        check_files(one, ("manifest.json",))
    return [read_manifest(one / "manifest.json") for one in finished]
