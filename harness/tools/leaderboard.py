"""``reidbench leaderboard``: static pages from bundles, each run looked at before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.tools.recheck import recheck_run
from harness.tools.tables import without_extras
from results import find_runs
from results.files import clear_leftovers
from results.leaderboard import PAGE, pages
from results.store import write_text


def leaderboard(paths: Sequence[Path], out: Path) -> Iterator[str]:
    """Write the pages of all finished runs at or below `paths`, or in bundles, and say what was written.

    Raises
    ------
    HarnessError
        If a run is not what its own files say, or the folder is somebody's.
    ResultsError
        If runs cannot stand in one table.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / PAGE).is_file())):
        raise HarnessError(f"--out {out} is there and no leaderboard; choose a new folder")
    found = find_runs(paths)
    for run in found.runs:
        if fault := recheck_run(run.path).fault:
            raise HarnessError(f"{run.path}: {fault}; it goes onto no leaderboard")
    made = pages(without_extras(found.runs))
    for path in (out / name for name in made):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(path.parent, path.name)
    for name in sorted(made, key=lambda one: one == PAGE):  # the page last: what it leads to is there
        write_text(out / name, made[name])
    yield f"{len(found.runs)} runs, every score computed anew from their ranked lists"
    for folder in found.unfinished:
        yield f"left out, as it has not finished: {folder}"
    yield f"leaderboard: {out / PAGE}"
