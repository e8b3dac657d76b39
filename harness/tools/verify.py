"""``reidbench verify``: trains a finished run again and compares it with the first one, byte for byte."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.numpy import load_file

from harness.errors import HarnessError
from harness.runs.repeat import plan_from_manifest
from harness.runs.task import Execution
from harness.training.execute import execute
from harness.training.progress import Reporter
from results.checksums import changed_files
from results.store import read_manifest

COMPARED = ("history.csv", "metrics.csv", "ranks.npz", "checkpoints/last.ckpt")
"""Files without times in them, in the order in which a difference shows first."""
PLACE = ("epoch", "phase", "checkpoint", "protocol", "setting", "trial", "metric")
"""Columns that say which line of a table is meant."""


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


def first_difference(then: Path, now: Path) -> str:
    """Say where two run directories first differ; empty if all of :data:`COMPARED` are equal."""
    for name in COMPARED:
        if (then / name).read_bytes() != (now / name).read_bytes():
            look = table_difference if name.endswith(".csv") else array_difference
            return f"{name}: {look(then / name, now / name)}"
    return ""


def table_difference(then: Path, now: Path) -> str:
    """Name the first line and column in which two CSV files differ, and both values."""
    a, b = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (then, now))
    if list(a) != list(b):
        return f"other columns: {', '.join(sorted({*a} ^ {*b})) or 'their order'}"
    for left, right in zip(a.to_numpy().tolist(), b.to_numpy().tolist(), strict=False):
        for column, x, y in zip(map(str, a), left, right, strict=True):
            if x != y:
                line = dict(zip(map(str, a), left, strict=True))
                place = ", ".join(f"{key} {line[key]}" for key in PLACE if key in line)
                return f"{place}: column {column}: {x} then, {y} now"
    return f"{len(a)} lines then, {len(b)} now" if len(a) != len(b) else "in its spelling alone"


def array_difference(then: Path, now: Path) -> str:
    """Name the first array in which two files differ."""
    a, b = arrays(then), arrays(now)
    for name in sorted({*a, *b}):
        if name not in a or name not in b or not same_bytes(a[name], b[name]):
            return f"array {name}"
    return "in what is not an array"


def arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of ``ranks.npz`` or of a checkpoint."""
    if path.suffix != ".npz":
        return dict(load_file(path))
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def same_bytes(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Say whether two arrays are the same to the last bit, NaN included."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
