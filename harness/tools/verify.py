"""``reidbench verify``: trains a finished run again and compares it with the first one, byte for byte."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.repeat import plan_from_manifest
from harness.runs.task import Execution
from harness.tools.differences import COMPARED, arrays, first_difference
from harness.tools.pruning import is_pruned, prune
from harness.training.execute import execute
from harness.training.progress import Reporter
from results.checksums import changed_files
from results.manifests import read_manifest


@dataclass(frozen=True)
class Verdict:
    """Where a repeated run first differs (empty: nowhere), and what of its environment does."""

    run: str
    difference: str
    environment: tuple[str, ...]

    def __str__(self) -> str:
        if not self.difference:
            return f"run {self.run}: {', '.join(COMPARED)} are equal, byte for byte"
        known = f"; the environment differs in {', '.join(self.environment)}" if self.environment else ""
        return f"run {self.run} differs in {self.difference}{known}"


def verify(
    path: Path,
    reporter: Reporter,
    *,
    data: str | None,
    device: str,
    workers: int,
    images: Path,
    twin_seed: int,
) -> Verdict:
    """Run the specification of a finished run again, in a scratch folder, and compare.

    Files that are missing, or that are not those the run wrote, are found before anything is trained.

    Parameters
    ----------
    data, twin_seed
        Where the data are now, as :func:`~harness.runs.repeat.plan_from_manifest` takes them.
    device : str
        By default (empty) that of the manifest.
    workers : int
        Processes that read images ahead, where those fit into no memory.
    images : Path
        Folder of decoded images.

    Raises
    ------
    HarnessError
        If the run has not finished, or its data, weights or source have changed.
    """
    if not path.is_dir():
        raise HarnessError(f"{path}: no such folder; give the directory of a finished run")
    if not (path / "COMPLETE").is_file():
        raise HarnessError(f"{path} is no finished run (it has no COMPLETE); there is nothing to verify yet")
    if wrong := damaged(path):
        return Verdict(path.name, wrong, ())
    then = read_manifest(path / "manifest.json")
    with tempfile.TemporaryDirectory(prefix="reidbench-verify-") as scratch:
        execution = Execution(device or then["device"], workers, Path(scratch), images=images, kept=False)
        task = plan_from_manifest(
            path / "manifest.json", execution, reporter.line, data=data, twin_seed=twin_seed
        )
        again = execute(task, reporter).path
        if is_pruned(path):
            prune(again)
        difference = first_difference(path, again)
        now = read_manifest(again / "manifest.json")
    changed = [
        name
        for name in sorted(now["environment"])
        if now["environment"][name] != then["environment"].get(name)
    ]
    if now["device"] != then["device"]:
        changed.insert(0, f"device ({then['device']} then, {now['device']} now)")
    return Verdict(task.spec.id, difference, tuple(changed))


def damaged(path: Path) -> str:
    """Say which file of a finished run is missing, unreadable or changed since; empty if none is."""
    if wrong := changed_files(path):
        return wrong[0]
    for name in COMPARED:
        if not (path / name).is_file():
            return f"{name}: it is missing"
        if not name.endswith(".csv"):
            try:
                arrays(path / name)
            except Exception as error:  # whatever a reader makes of a damaged file
                return f"{name}: it is not readable ({error})"
    return ""
