"""Made-up runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.checksums import COMPLETE, checksums
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
    root: Path,
    rows: pd.DataFrame,
    *,
    shift: float = 0.0,
    spec: dict[str, Any] | None = None,
    ranks: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    changed: dict[str, Any] | None = None,
) -> Path:
    """Write a finished run below `root`; `changed` is what its configuration has not from its preset."""
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
        "environment": {"python": "3.11", "packages": {"torch": "2.15"}, "gpus": [], "commit": "0123abc"}
        | (environment or {}),
        **({"changed": changed} if changed else {}),
    }
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write_frame(rows, path / "metrics.csv", METRICS)
    write_frame(history(shift=shift), path / "history.csv", HISTORY)
    write_frame(profile(), path / "profile.csv", PROFILE)
    hits = {"last/regdb/visible-to-thermal/1/hits": np.array([1, 4], dtype=np.int64)}
    np.savez(path / "ranks.npz", **(ranks or hits))
    return finish(path)


def finish(path: Path) -> Path:
    """Mark a run's files, as they are now, as those that it wrote."""
    (path / COMPLETE).write_text(checksums(path), encoding="utf-8")
    return path


def several(methods: Sequence[str], seeds: Sequence[int], splits: Sequence[int]) -> list[pd.DataFrame]:
    """Return the rows of runs of every combination."""
    return [regdb_rows(m, s, t, 40 + 4 * i) for i, m in enumerate(methods) for s in seeds for t in splits]


def ranked_lists(
    identity: np.ndarray, skill: np.ndarray, rng: np.random.Generator, matches: int = 3
) -> dict[str, np.ndarray]:
    """Return what is kept of queries whose matches come early where `skill` (n,) is high."""
    chance = 1 / (1 + np.exp(-skill))
    gaps = rng.geometric(chance[:, None], (len(identity), matches))
    hits = gaps.cumsum(axis=1)
    return {
        "query_identity": identity,
        "query_camera": np.ones_like(identity),
        "average_precision": (np.arange(1, matches + 1) / hits).mean(axis=1),
        "hits": hits.ravel().astype(np.int32),
        "hit_offsets": matches * np.arange(len(identity) + 1),
        "first_rank": hits[:, 0].astype(np.int32),
    }


def metrics_of(ranks: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the metrics of kept lists, by their definitions."""
    offsets, first = ranks["hit_offsets"], ranks["first_rank"]
    valid = first > 0
    last = ranks["hits"][offsets[1:][valid] - 1]
    values = {f"rank-{k}": 100 * float((first[valid] <= k).mean()) for k in (1, 5, 10, 20)}
    return values | {
        "mAP": 100 * float(np.nanmean(ranks["average_precision"])),
        "mINP": 100 * float((np.diff(offsets)[valid] / last).mean()),
    }


def write_scored_run(
    root: Path,
    method: str,
    seed: int = 0,
    *,
    shift: float = 0.0,
    split: int = 1,
    sysu: bool = False,
    identities: int = 8,
    each: int = 4,
    **changes: Any,
) -> Path:
    """Write a run whose rows and ranks agree: RegDB's trial `split`, or ten galleries of SYSU-MM01.

    Identities of RegDB's trials overlap; methods and seeds see the same people, some of them harder to find.
    """
    rows = sysu_rows(method, seed, **changes) if sysu else regdb_rows(method, seed, split, **changes)
    identity = np.repeat(np.arange(identities) + (0 if sysu else 3 * split), each)
    people = np.random.default_rng(7).normal(0, 1, 100)[identity]
    rng = np.random.default_rng([seed, split, sum(map(ord, method))])
    training = rng.normal(shift, 0.1)
    ranks = {}
    for place, part in rows.groupby(["checkpoint", "protocol", "setting", "trial"], sort=False):
        lists = ranked_lists(identity, people + training + rng.normal(0, 0.3, len(identity)), rng)
        values = metrics_of(lists)
        rows.loc[part.index, "value"] = part["metric"].map(values)
        ranks |= {f"{'/'.join(map(str, place))}/{name}": array for name, array in lists.items()}
    counts = {"n_query": len(identity), "n_valid": len(identity), "n_gallery": 1000}
    return write_run(root, rows.assign(**counts), ranks=ranks)
