"""Made-up runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.schema import CHECKPOINTS, HISTORY, METRIC_NAMES, METRICS, PROFILE
from results.store import write_frame

RAISED = {"last": 0, "best-on-test": 2, "best-of-last-stage": 1}
"""What a checkpoint's values are above those of the last epoch."""
DIRECTIONS = ("visible-to-thermal", "thermal-to-visible")


def regdb_rows(
    method: str = "dmic", seed: int = 0, split: int = 1, base: float = 40.0, **changes: Any
) -> pd.DataFrame:
    """Return the rows of a run on a RegDB twin; values differ by all that a cell differs by."""
    rows = [
        {
            "run": f"{method}-{seed}-{split}",
            "method": method,
            "preset": "demo",
            "protocol": "regdb",
            "protocol_version": "1",
            "list_digest": f"{setting[:3]}{split}",
            "setting": setting,
            "split": split,
            "trial": split,
            "gallery_rule": "whole split",
            "epoch": 9 if checkpoint == "last" else 7,
            "seed": seed,
            "metric": metric,
            "value": base + 3 * seed + split + 0.1 * i + RAISED[checkpoint] + 0.01 * len(setting),
            "unit": "percent",
            "data": "synthetic",
            "checkpoint": checkpoint,
            "division": "open",
            "supervision": "usl",
            "n_query": 50,
            "n_gallery": 60,
            "n_valid": 50,
            "stage_init": "last",
            "weights": "synthetic-source",
            "headline": "regdb visible-to-thermal",
            "n_trials": 10,
            "split_is_trial": 1,
            **changes,
        }
        for checkpoint in CHECKPOINTS
        for setting in DIRECTIONS
        for i, metric in enumerate(METRIC_NAMES)
    ]
    return pd.DataFrame(rows)


def sysu_rows(method: str = "dmic", seed: int = 0, base: float = 30.0, **changes: Any) -> pd.DataFrame:
    """Return the rows of one run on SYSU-MM01: all search, single shot, ten galleries."""
    parts = []
    for trial in range(10):
        part = regdb_rows(method, seed, 1, base + trial).query("setting == 'visible-to-thermal'")
        about = {
            "run": f"{method}-{seed}",
            "protocol": "sysu-all",
            "setting": "single-shot",
            "split": 0,
            "trial": trial,
            "list_digest": f"s{trial}",
            "gallery_rule": "seeded",
            "headline": "sysu-all single-shot",
            "split_is_trial": 0,
        }
        parts.append(part.assign(**about | changes))
    return pd.concat(parts, ignore_index=True)


def history(epochs: int = 10, shift: float = 0.0) -> pd.DataFrame:
    """Return a history of two label spaces with a skipped and an unevaluated epoch."""
    epoch = np.arange(epochs)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "stage": np.where(epoch < epochs // 2, "intra", "joint"),
            "phase": "train",
            "lr": 3.5e-4,
            "skipped": (epoch == 1).astype(int),
            "ari_visible": 0.3 + shift + 0.4 * epoch / epochs,
            "ari_infrared": 0.2 + shift + 0.3 * epoch / epochs,
            "clusters_visible": 80.0 - 2 * epoch,
            "clusters_infrared": 95.0 - 3 * epoch,
            "eps": 0.6 - 0.02 * epoch,
            "k2": 6.0 + epoch,
            "loss_intra": np.where(epoch == 1, np.nan, 3.0 / (1 + epoch)),
            "test_mAP": np.where(epoch % 2 == 1, 30 + 100 * shift + 1.5 * epoch, np.nan),
        }
    )


def profile(epochs: int = 3) -> pd.DataFrame:
    """Return stage timings."""
    rows = [
        (epoch, stage, 1, seconds + epoch / 10, 800.0 + i, "cpu")
        for epoch in range(epochs)
        for i, (stage, seconds) in enumerate((("extract", 2.5), ("jaccard", 0.4), ("train", 11.0)))
    ]
    return pd.DataFrame(rows, columns=["epoch", "stage", "calls", "wall_s", "peak_memory_mib", "device"])


def write_run(
    root: Path, rows: pd.DataFrame, *, shift: float = 0.0, spec: dict[str, Any] | None = None
) -> Path:
    """Write a finished run below `root`."""
    first = rows.iloc[0]
    path = root / "regdb" / str(first["method"]).replace(":", "-") / str(first["run"])
    path.mkdir(parents=True)
    about = {
        "label": first["method"],
        "preset": first["preset"],
        "dataset": "regdb",
        "config": {"eps": 0.6},
        "engine": {"height": 96},
        "sources": "abc",
        "weights": "w",
        "data_digest": "d",
        "seed": int(first["seed"]),
        "split": int(first["split"]),
    }
    manifest = {
        "run": first["run"],
        "spec": about | (spec or {}),
        "environment": {"python": "3.11", "packages": {"torch": "2.15"}, "gpus": [], "commit": "0123abc"},
    }
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write_frame(rows, path / "metrics.csv", METRICS)
    write_frame(history(shift=shift), path / "history.csv", HISTORY)
    write_frame(profile(), path / "profile.csv", PROFILE)
    np.savez(path / "ranks.npz", **{"last/regdb/visible-to-thermal/1/hits": np.array([1, 4], dtype=np.int64)})
    (path / "COMPLETE").touch()
    return path


def several(methods: Sequence[str], seeds: Sequence[int], splits: Sequence[int]) -> list[pd.DataFrame]:
    """Return the rows of runs of every combination."""
    return [regdb_rows(m, s, t, 40 + 4 * i) for i, m in enumerate(methods) for s in seeds for t in splits]
