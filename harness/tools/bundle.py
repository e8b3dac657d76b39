"""``reidbench bundle``: finished runs into one file, each looked at before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.files import check_folder
from harness.tools.recheck import recheck_run
from results.bundles import write_bundle
from results.store import find_runs


@dataclass(frozen=True)
class Bundled:
    """What went into a bundle.

    Attributes
    ----------
    runs : int
    size : int
        Bytes.
    unfinished : tuple of str
        Directories that were left out.
    data_roots : tuple of str
        Folders of data that the manifests name.
    """

    runs: int
    size: int
    unfinished: tuple[str, ...]
    data_roots: tuple[str, ...]


def bundle(paths: Sequence[Path], out: Path) -> Bundled:
    """Write the finished runs at or below `paths`, or in other bundles, into one bundle.

    Raises
    ------
    HarnessError
        If a run is not what its own files say, or `out` is no place for a bundle.
    ResultsError
        If there is no finished run, or one stands twice.
    """
    if out.suffix.lower() != ".zip":
        raise HarnessError(f"--out {out}: a bundle is called something.zip, by which commands know it")
    check_folder(out)
    found = find_runs(paths)
    for run in found.runs:
        if fault := recheck_run(run.path).fault:
            raise HarnessError(f"{run.path}: {fault}; nobody could verify it, so it goes into no bundle")
    write_bundle({run.id: run.path for run in found.runs}, out)
    roots = sorted({str(run.manifest["data_root"]) for run in found.runs if "data_root" in run.manifest})
    return Bundled(len(found.runs), out.stat().st_size, tuple(map(str, found.unfinished)), tuple(roots))
