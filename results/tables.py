"""The comparison table: means and deviations of metric rows, and the quality of pseudo-labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from results.captions import caption
from results.comparable import LINE, check_rows, compact
from results.formats import ALWAYS, GROUP_ORDER, GROUPS, QUALITY, Table
from results.schema import Checkpoint, setting_order
from results.store import Run, collect

SHOWN: tuple[Checkpoint, ...] = ("last", "best-on-test")
"""Checkpoint rules of a table; ``best-of-last-stage`` is shown on request."""
HEADLINE_METRICS = ("rank-1", "rank-10", "rank-20", "mAP", "mINP")
LEAK_METRICS = ("rank-1", "mAP")
"""Metrics of every checkpoint but the last."""
ARI = "ari_"
"""Beginning of the history's columns of pseudo-label quality; the label space follows."""


class MeanStd(NamedTuple):
    """Mean and standard deviation (n - 1); NaN where there is none."""

    mean: float
    std: float


Line = dict[tuple[str, str], MeanStd]
"""The numbers of one line, by (group, metric)."""


def mean_and_std(values: Iterable[tuple[int, float]]) -> MeanStd:
    """Return mean and deviation of values, each after its seed.

    The mean over seeds of the means over trials. The standard deviation (n - 1) is over seeds if there are
    several, else over the trials of the one seed; NaN of a single value.
    """
    of_seed: dict[int, list[float]] = {}
    for seed, value in values:
        of_seed.setdefault(seed, []).append(value)
    if not of_seed:
        return MeanStd(math.nan, math.nan)
    means = [statistics.fmean(of_seed[seed]) for seed in sorted(of_seed)]
    varying = means if len(means) > 1 else next(iter(of_seed.values()))
    return MeanStd(statistics.fmean(means), statistics.stdev(varying) if len(varying) > 1 else math.nan)


def deviation_over(group: pd.DataFrame) -> str:
    """Say what the deviation of a line is over."""
    seeds, runs, trials = (group[name].nunique() for name in ("seed", "run", "trial"))
    if seeds > 1:
        return f"{seeds} seeds"
    if trials == 1:
        return "one value"
    return f"{trials} galleries of one run" if runs == 1 else f"{trials} trials"


def trials_of(group: pd.DataFrame) -> str:
    """Return ``2 of 10``, or the count alone where the protocol's total is not known."""
    count, total = group["trial"].nunique(), int(group["n_trials"].max())
    return f"{count} of {total}" if total else str(count)


def attributes(group: pd.DataFrame) -> dict[str, str]:
    """Return the texts of a line."""
    texts = {name: str(group[name].iloc[0]) for name in LINE}
    texts["trials"] = trials_of(group)
    texts["seeds"] = compact(group["seed"].tolist())
    texts["± over"] = deviation_over(group)
    return texts


def last_quality(history: pd.DataFrame) -> dict[str, float]:
    """Return the adjusted Rand index per label space at the last epoch (its last phase that has one)."""
    last = history[history["epoch"] == history["epoch"].max()]
    quality = {}
    for name in last.columns:
        if name.startswith(ARI) and last[name].notna().any():
            quality[f"ARI {name.removeprefix(ARI)}"] = float(last[name].dropna().iloc[-1])
    return quality


def quality_cells(group: pd.DataFrame, qualities: Mapping[str, Mapping[str, float]]) -> Line:
    """Return mean and deviation of the runs' :func:`last_quality`, by the rule of :func:`mean_and_std`."""
    measured: dict[str, list[tuple[int, float]]] = {}
    for run, seed in dict.fromkeys(zip(group["run"], group["seed"], strict=True)):
        for name, value in qualities.get(run, {}).items():
            measured.setdefault(name, []).append((seed, value))
    return {(QUALITY, name): mean_and_std(measured[name]) for name in sorted(measured)}


def metric_cells(group: pd.DataFrame, checkpoints: Sequence[Checkpoint]) -> Line:
    """Return mean and deviation of a line's metrics at the epochs that `checkpoints` name."""
    values: dict[tuple[str, str], list[tuple[int, float]]] = {}
    columns = (group[name].tolist() for name in ("checkpoint", "metric", "seed", "value"))
    for rule, metric, seed, value in zip(*columns, strict=True):
        values.setdefault((rule, metric), []).append((seed, value))
    return {
        (GROUPS[rule], metric): mean_and_std(values.get((rule, metric), ()))
        for rule in checkpoints
        for metric in (HEADLINE_METRICS if rule == "last" else LEAK_METRICS)
    }


def ordered_columns(lines: Iterable[Line]) -> list[tuple[str, str]]:
    """Return the (group, metric) of all lines: groups in their order, pseudo-labels by name, others as they come."""
    columns = list(dict.fromkeys(column for line in lines for column in line))
    return sorted(columns, key=lambda c: (GROUP_ORDER.index(c[0]), c[1] if c[0] == QUALITY else ""))


def numbers(lines: Sequence[Line]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return means and deviations, a row per line and a column per (group, metric); NaN where a line has none."""
    columns = ordered_columns(lines)
    absent = MeanStd(math.nan, math.nan)
    means = [[line.get(column, absent).mean for column in columns] for line in lines]
    stds = [[line.get(column, absent).std for column in columns] for line in lines]
    names = pd.MultiIndex.from_tuples(columns, names=["group", "metric"])
    return (
        pd.DataFrame(means, columns=names, dtype="float64"),
        pd.DataFrame(stds, columns=names, dtype="float64"),
    )


def shown_attributes(about: pd.DataFrame) -> tuple[str, ...]:
    """Return the attributes that become columns: what differs between lines; open division is never silent."""
    shown = list(ALWAYS)
    for name in about.columns:
        if name not in ALWAYS and about[name].nunique() > 1:
            shown.append(name)
    if (about["division"] == "open").any() and "division" not in shown:
        shown.append("division")
    return tuple(shown)


def comparison_of(runs: Sequence[Run], checkpoints: Sequence[Checkpoint] = SHOWN) -> Table:
    """Compare the methods of finished runs; see :func:`comparison`.

    Raises
    ------
    ResultsError
        If the runs cannot be compared.
    """
    table = comparison(collect(runs), {run.id: run.history for run in runs}, checkpoints)
    made_up = {name for run in runs if run.manifest.get("reconstruction") for name in run.metrics["method"]}
    said = f"Reconstruction, from neither public code nor the whole text: {', '.join(sorted(made_up))}."
    return replace(table, caption=(*table.caption, said)) if made_up else table


def comparison(
    rows: pd.DataFrame,
    histories: Mapping[str, pd.DataFrame] | None = None,
    checkpoints: Sequence[Checkpoint] = SHOWN,
) -> Table:
    """Compare methods: a line per protocol, setting and method.

    Parameters
    ----------
    rows : DataFrame
        Metric rows of finished runs, in any order.
    histories : mapping of run id to DataFrame, optional
        Adds the pseudo-labels' ARI at the last epoch.
    checkpoints : sequence of str
        Rules that have columns; add ``best-of-last-stage`` for what public codes report.

    Raises
    ------
    ResultsError
        If rows cannot be compared; names runs and values.
    """
    rows = check_rows(rows)
    groups = [group for _, group in rows.groupby(list(LINE), sort=True)]
    groups.sort(key=lambda g: (g["protocol"].iloc[0], setting_order(g["setting"].iloc[0])))
    about = pd.DataFrame([attributes(group) for group in groups])
    qualities = {run: last_quality(history) for run, history in (histories or {}).items()}
    lines = [metric_cells(group, checkpoints) | quality_cells(group, qualities) for group in groups]
    mean, std = numbers(lines)
    shown = shown_attributes(about)
    return Table(about, mean, std, shown, caption(rows, about, shown, checkpoints, QUALITY in mean.columns))
