"""``reidbench verify --quick``: whether finished runs are what their own files say, in seconds; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.runs.run_spec import RunSpec
from results.checksums import changed_files, read_checksums
from results.errors import ResultsError
from results.files import Folder
from results.manifests import is_finished
from results.places import run_directories
from results.ranks import false_rows
from results.store import read_run


@dataclass(frozen=True)
class Recheck:
    """What a run's files say of each other.

    Attributes
    ----------
    place : str
        Its directory, or its folder within a bundle.
    fault : str
        The first thing that is not as it should be; empty if nothing is.
    rows, files : int
        Metric rows computed anew, and files whose digests were compared.
    """

    place: str
    fault: str
    rows: int = 0
    files: int = 0

    def __str__(self) -> str:
        if self.fault:
            return f"{self.place}: {self.fault}"
        digests = (
            f"{self.files} files are those of COMPLETE" if self.files else "it has no digests of its files"
        )
        return f"{self.place}: {self.rows} metric rows are what the ranks give; {digests}"


def recheck(path: Path) -> list[Recheck]:
    """Look at every run at or below a path, or in a bundle.

    Raises
    ------
    ResultsError
        If there is none, or the bundle is damaged.
    """
    folders = run_directories(path)
    if not folders:
        raise ResultsError(f"{path} holds no run; give the directory of a finished run, or a bundle")
    return [recheck_run(folder) for folder in folders]


def recheck_run(folder: Folder) -> Recheck:
    """Compare digests, then the run's id with its specification, then every row with the ranked lists."""
    place = str(folder)
    try:
        if not is_finished(folder):
            return Recheck(place, "not finished: it has no COMPLETE")
        # a bundle has no weights
        known = [name for name in read_checksums(folder) if isinstance(folder, Path) or not is_weights(name)]
        if wrong := changed_files(folder, known):
            return Recheck(place, wrong[0])
        run = read_run(folder)
        if fault := next(faults(run.manifest), "") or next(false_rows(run.metrics, run.ranks()), ""):
            return Recheck(place, fault)
    except ResultsError as error:
        return Recheck(place, str(error).removeprefix(f"{place}: ").removeprefix(f"{place}/"))
    return Recheck(place, "", len(run.metrics), len(known))


def is_weights(name: str) -> bool:
    """Say whether a file of a run holds networks."""
    return name.startswith("checkpoints/")


def faults(manifest: dict[str, Any] | Any) -> Iterator[str]:
    """Yield why a manifest is not that of its run: the id digests all that decides the numbers."""
    try:
        spec = RunSpec.model_validate(manifest["spec"])
    except ValidationError as error:
        first = error.errors()[0]
        yield f"manifest.json: spec.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        return
    if spec.id != manifest["run"]:
        yield f"manifest.json: its specification is that of run {spec.id}, not of {manifest['run']}"
