"""What computation costs: stages of a run, and the core's time over the number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator, StrMethodFormatter

from results.errors import ResultsError
from results.figures.style import (
    COLOURS,
    HATCHES,
    MARKERS,
    PAPER,
    SMALL,
    STYLES,
    Look,
    edges_only,
    legend_columns,
    sheet,
    styled,
)
from results.store import Run

MOST = 7
"""Stages with a colour of their own; the rest is drawn together."""
REST = "other stages"
SCALES = ("whole", "neighbours", "after search")
"""Parts of the core in the scaling figure."""


def timings(groups: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Return what the stages of training and evaluation cost.

    Parameters
    ----------
    groups : mapping of a line's name to its runs

    Returns
    -------
    DataFrame
        method, stage, device, seconds (of a run, over its epochs; mean over runs), share (of the measured
        seconds, percent), calls (of a run), peak_memory_mib (largest).
    """
    rows: list[dict[str, Any]] = []
    for name, runs in groups.items():
        profile = pd.concat([run.profile for run in runs], ignore_index=True)
        total = float(profile["wall_s"].sum()) or 1.0
        for (device, stage), part in profile.groupby(["device", "stage"], sort=False):
            seconds = float(part["wall_s"].sum())
            rows.append(
                {
                    "method": name,
                    "stage": stage,
                    "device": device,
                    "seconds": seconds / len(runs),
                    "share": 100 * seconds / total,
                    "calls": int(part["calls"].sum()) / len(runs),
                    "peak_memory_mib": float(part["peak_memory_mib"].max()),
                }
            )
    return pd.DataFrame(rows)


def largest_stages(costs: pd.DataFrame) -> pd.DataFrame:
    """Return seconds by method (rows) and stage (columns, the costliest first); small stages as one."""
    table = costs.pivot_table(
        index="method", columns="stage", values="seconds", aggfunc="sum", fill_value=0.0
    )
    order = table.sum().sort_values(ascending=False, kind="stable").index
    kept = order[: MOST - 1] if len(order) > MOST else order
    table = (
        table.assign(**{REST: table[order.difference(kept)].sum(axis=1)}) if len(kept) < len(order) else table
    )
    return table[[*kept, *([REST] if len(kept) < len(order) else [])]]


@styled
def stages(costs: pd.DataFrame, columns: int = 2) -> Figure:
    """Draw where the time of a run goes, a stacked bar per method.

    Parameters
    ----------
    costs : DataFrame
        What :func:`timings` gives.

    Raises
    ------
    ResultsError
        If nothing was timed.
    """
    if costs.empty or not costs["seconds"].sum():
        raise ResultsError("no run has stage timings to draw")
    table = largest_stages(costs)
    names = [str(name) for name in table]
    figure = sheet(columns, 0.75 + 0.2 * len(table) + 0.15 * -(-len(names) // legend_columns(names, columns)))
    axis = figure.add_subplot()
    left = pd.Series(0.0, index=table.index)
    places = range(len(table))
    handles = []
    for i, name in enumerate(names):
        look: Look = {
            "facecolor": (*COLOURS, "#8a8f98")[i],
            "hatch": HATCHES[i % len(HATCHES)],
            "edgecolor": PAPER,
        }
        axis.barh(places, table[name], left=left, height=0.68, linewidth=0.3, **look)
        handles.append(Patch(label=name, linewidth=0.3, **look))
        left += table[name]
    for place, whole in zip(places, left, strict=True):
        axis.annotate(
            duration(whole),
            (whole, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
    axis.set_yticks(places, table.index.tolist())
    axis.invert_yaxis()
    axis.set_xlim(0, 1.14 * float(left.max()))
    axis.grid(axis="y", visible=False)
    devices = ", ".join(sorted(set(costs["device"])))
    axis.set_xlabel(f"seconds of one run, mean over runs ({devices})")
    figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(names, columns))
    return figure


def duration(seconds: float) -> str:
    """Return a time as one reads it."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@styled
def scaling(times: pd.DataFrame, columns: int = 1) -> Figure:
    """Draw wall time over the number of images, both logarithmic; extrapolated points are hollow.

    Parameters
    ----------
    times : DataFrame
        What ``reidbench time`` measures: n, implementation, stage, wall_median_s, extrapolated.
    """
    lacking = {"n", "implementation", "stage", "wall_median_s", "extrapolated"} - set(times)
    if lacking:
        raise ResultsError(
            f"the timings lack {', '.join(sorted(lacking))}; `reidbench time --out F.csv` writes them"
        )
    shown = times[times["stage"].isin(SCALES)]
    if shown.empty:
        raise ResultsError("the timings have no stage of the core; `reidbench time --out F.csv` writes them")
    makers = list(dict.fromkeys(shown["implementation"]))
    lines = [
        (maker, stage)
        for maker in makers
        for stage in SCALES
        if len(shown[(shown["implementation"] == maker) & (shown["stage"] == stage)])
    ]
    names = [f"{maker}, {stage}" for maker, stage in lines]
    figure = sheet(columns, 2.3 + 0.15 * -(-len(names) // legend_columns(names, columns)))
    axis = figure.add_subplot()
    for (maker, stage), name in zip(lines, names, strict=True):
        part = shown[(shown["implementation"] == maker) & (shown["stage"] == stage)].sort_values("n")
        colour, mark = COLOURS[SCALES.index(stage)], MARKERS[SCALES.index(stage)]
        style: Look = {"color": colour, "linestyle": STYLES[makers.index(maker) % len(STYLES)]}
        axis.plot(part["n"], part["wall_median_s"], label=name, marker=mark, **style)
        guessed = part[part["extrapolated"].astype(bool)]
        axis.plot(guessed["n"], guessed["wall_median_s"], mark, color=colour, markerfacecolor=PAPER)
    axis.set(xscale="log", yscale="log")
    sizes = sorted(set(shown["n"]))
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    edges_only([axis], 1, "images", "median wall time (s)")
    figure.legend(loc="outside upper left", ncols=legend_columns(names, columns))
    return figure
