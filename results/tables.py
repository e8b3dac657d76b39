"""Comparison tables of metric rows: means and deviations, pseudo-label quality, significance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from results.captions import caption
from results.comparable import IDENTITY, LINE, check_rows, compact
from results.formats import (
    ALWAYS,
    HEADLINE,
    LEAK,
    PRINTED,
    QUALITY,
    Table,
    rich_table,
    to_csv,
    to_latex,
    to_markdown,
)
from results.published import published, with_published
from results.schema import ResultsError, setting_order

__all__ = [
    "Table",
    "comparison",
    "published",
    "rich_table",
    "significance",
    "to_csv",
    "to_latex",
    "to_markdown",
    "with_published",
]

SHOWN_METRICS = ("rank-1", "rank-10", "rank-20", "mAP", "mINP")
LEAK_METRICS = ("rank-1", "mAP")
FULL_TRIALS = 10
"""Trials of every protocol of SYSU-MM01 and RegDB."""


def spread(values: pd.DataFrame) -> tuple[float, float]:
    """Return mean and deviation of the columns (seed, value).

    The mean over seeds of the means over trials. The standard deviation (n - 1) is over seeds if there are
    several, else over the trials of the one seed; NaN of a single value.
    """
    if values.empty:
        return np.nan, np.nan
    by_seed = values.groupby("seed")["value"].mean()
    varying = by_seed if len(by_seed) > 1 else values["value"]
    return float(by_seed.mean()), float(varying.std(ddof=1))


def spread_name(group: pd.DataFrame) -> str:
    """Say what the deviation of a line is over."""
    seeds, runs, trials = (group[name].nunique() for name in ("seed", "run", "trial"))
    if seeds > 1:
        return f"{seeds} seeds"
    if trials == 1:
        return "one value"
    return f"{trials} galleries of one run" if runs == 1 else f"{trials} trials"


def trials_name(group: pd.DataFrame) -> str:
    """Return ``2 of 10``; protocols of others have no known total."""
    count = group["trial"].nunique()
    ours = str(group["protocol"].iloc[0]).startswith(("regdb", "sysu"))
    return f"{count} of {FULL_TRIALS}" if ours else str(count)


def attributes(group: pd.DataFrame) -> dict[str, str]:
    """Return the texts of a line."""
    first = {name: str(group[name].iloc[0]) for name in LINE}
    return first | {
        "trials": trials_name(group),
        "seeds": compact(group["seed"].tolist()),
        "± over": spread_name(group),
    }


def last_quality(history: pd.DataFrame) -> dict[str, float]:
    """Return the adjusted Rand index per label space at the last epoch (its last phase that has one)."""
    spaces = [name for name in history.columns if name.startswith("ari_")]
    last = history[history["epoch"] == history["epoch"].max()]
    return {
        f"ARI {name.removeprefix('ari_')}": float(last[name].dropna().iloc[-1])
        for name in spaces
        if last[name].notna().any()
    }


def quality_cells(
    group: pd.DataFrame, histories: Mapping[str, pd.DataFrame]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Return mean and deviation over runs of the pseudo-labels' ARI, by the rule of :func:`spread`."""
    runs = group[["run", "seed"]].drop_duplicates()
    found: list[dict[str, Any]] = [
        {"seed": seed, "name": name, "value": value}
        for run, seed in zip(runs["run"].tolist(), runs["seed"].tolist(), strict=True)
        if run in histories
        for name, value in last_quality(histories[run]).items()
    ]
    frame = pd.DataFrame(found, columns=["seed", "name", "value"])
    return {(QUALITY, str(name)): spread(part) for name, part in frame.groupby("name")}


def metric_cells(group: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """Return mean and deviation of a line's metrics at the last and at the best test epoch."""
    wanted = {"last": (HEADLINE, SHOWN_METRICS), "best-on-test": (LEAK, LEAK_METRICS)}
    return {
        (heading, metric): spread(group[(group["checkpoint"] == rule) & (group["metric"] == metric)])
        for rule, (heading, metrics) in wanted.items()
        for metric in metrics
    }


def frame_of(cells: Sequence[Mapping[tuple[str, str], tuple[float, float]]], which: int) -> pd.DataFrame:
    """Return means (0) or deviations (1) as a frame: headline, leak, pseudo-labels (by name), in this order."""
    rank = {HEADLINE: 0, LEAK: 1, QUALITY: 2, PRINTED: 3}
    names = sorted(
        dict.fromkeys(key for line in cells for key in line),
        key=lambda key: (rank[key[0]], key[1] if key[0] == QUALITY else ""),
    )
    values = [[line.get(key, (np.nan, np.nan))[which] for key in names] for line in cells]
    columns = pd.MultiIndex.from_tuples(names, names=["group", "metric"])
    return pd.DataFrame(values, columns=columns, dtype="float64")


def comparison(rows: pd.DataFrame, histories: Mapping[str, pd.DataFrame] | None = None) -> Table:
    """Compare methods: a line per protocol, setting and method.

    Parameters
    ----------
    rows : DataFrame
        Metric rows of finished runs, in any order.
    histories : mapping of run id to DataFrame, optional
        Adds the pseudo-labels' ARI at the last epoch.

    Raises
    ------
    ResultsError
        If rows cannot be compared; names runs and values.
    """
    rows = check_rows(rows)
    groups = [group for _, group in rows.groupby(list(LINE), sort=True)]
    groups.sort(key=lambda g: (g["protocol"].iloc[0], setting_order(g["setting"].iloc[0])))
    about = pd.DataFrame([attributes(group) for group in groups])
    cells = [metric_cells(group) | quality_cells(group, histories or {}) for group in groups]
    varying = [name for name in about.columns if name not in ALWAYS and about[name].nunique() > 1]
    if (about["division"] == "open").any() and "division" not in varying:
        varying.append("division")
    shown = (*ALWAYS, *varying)
    mean = frame_of(cells, 0)
    return Table(about, mean, frame_of(cells, 1), shown, caption(rows, about, shown, QUALITY in mean.columns))


def seed_means(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return mean value and trials per seed of one method in one setting."""
    own = rows[rows["method"] == method]
    variants = own[list(IDENTITY)].drop_duplicates()
    if len(variants) > 1:
        differing = [name for name in IDENTITY if variants[name].nunique() > 1]
        raise ResultsError(f"{method} stands for several lines, which differ in {', '.join(differing)}")
    by_seed = own.groupby("seed")
    return pd.DataFrame({"mean": by_seed["value"].mean(), "trials": by_seed["trial"].unique().map(compact)})


def significance(rows: pd.DataFrame, a: str, b: str, metric: str = "mAP") -> pd.DataFrame:
    """Test the difference a - b of two methods at the last epoch: a paired t-test over seeds.

    Trials of a seed are averaged first: they share data, so they are no independent observations.

    Parameters
    ----------
    a, b : str
        Methods as the rows name them.

    Returns
    -------
    DataFrame
        protocol, setting, metric, seeds (pairs), difference and its std over pairs, t, p (two-sided; NaN if
        all pairs differ equally).

    Raises
    ------
    ResultsError
        If fewer than two seeds are shared, a pair was scored on unequal trials, or a name is ambiguous.
    """
    rows = check_rows(rows)
    unknown = sorted({a, b} - set(rows["method"]))
    if unknown or a == b:
        raise ResultsError(
            f"give two of the methods {', '.join(sorted(set(rows['method'])))}, not {a} and {b}"
        )
    rows = rows[(rows["checkpoint"] == "last") & (rows["metric"] == metric)]
    tested = []
    for (protocol, setting), group in rows.groupby(["protocol", "setting"], sort=True):
        pairs = seed_means(group, a).merge(seed_means(group, b), on="seed", suffixes=("_a", "_b"))
        where = f"{protocol}, {setting}"
        if len(pairs) < 2:
            raise ResultsError(
                f"{where}: {a} and {b} share {len(pairs)} seeds; a paired test needs two or more"
            )
        if (pairs["trials_a"] != pairs["trials_b"]).any():
            raise ResultsError(f"{where}: {a} and {b} were not scored on the same trials in every seed")
        tested.append({"protocol": protocol, "setting": setting, "metric": metric} | paired_test(pairs))
    return pd.DataFrame(tested)


def paired_test(pairs: pd.DataFrame) -> dict[str, Any]:
    """Test the columns mean_a and mean_b (n,) of pairs."""
    difference = pairs["mean_a"] - pairs["mean_b"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # equal differences have no deviation
        tested = ttest_rel(pairs["mean_a"], pairs["mean_b"])
    constant = bool(np.isclose(difference.std(ddof=1), 0, atol=1e-12))
    return {
        "seeds": len(pairs),
        "difference": float(difference.mean()),
        "std": float(difference.std(ddof=1)),
        "t": np.nan if constant else float(tested.statistic),
        "p": np.nan if constant else float(tested.pvalue),
    }
