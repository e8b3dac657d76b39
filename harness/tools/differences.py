"""Where the files of two runs first differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.numpy import load_file

COMPARED = ("history.csv", "metrics.csv", "ranks.npz", "checkpoints/last.ckpt")
"""Files without times in them, in the order in which a difference shows first."""
PLACE = ("epoch", "phase", "checkpoint", "protocol", "setting", "trial", "metric")
"""Columns that say which line of a table is meant."""


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
