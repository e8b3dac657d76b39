"""Differences of methods: a forest of intervals against a reference, and a matrix of all pairs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

from results.comparisons import EPOCHS, p_text
from results.errors import ResultsError
from results.figures.style import COLOURS, INK, LIGHT, PAPER, SMALL, WIDTHS, contrast, panels, signed, styled

BLUE, ORANGE = COLOURS[0], COLOURS[1]
DIVERGING = LinearSegmentedColormap.from_list("worse to better", [ORANGE, LIGHT, BLUE])
SURE = 0.05
LINE_INCHES = 0.2
"""Height of a method's line in a forest."""


def adjusted(row: pd.Series) -> float:
    """Return the p-value after Holm, or the plain one where there is a single comparison."""
    return float(row["p"] if math.isnan(row["p_holm"]) else row["p_holm"])


def differences_of(found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of pairs, with their p-value.

    Raises
    ------
    ResultsError
        If there are none.
    """
    pairs = found[found["b"] != ""]
    if pairs.empty:
        raise ResultsError("there is one method alone; a difference needs runs of two")
    return pairs.assign(sure=pairs.apply(adjusted, axis=1))


@styled
def forest(found: pd.DataFrame, columns: int = 2) -> Figure:
    """Draw each method's difference to a reference with its intervals, a panel per protocol and setting.

    Parameters
    ----------
    found : DataFrame
        What :func:`results.comparisons.compare` gives with a reference.
    columns : int
        Width of the figure, in columns of a paper.

    Raises
    ------
    ResultsError
        If differences are to several methods, or there are none.
    """
    pairs = differences_of(found)
    references = sorted(set(pairs["b"]))
    if len(references) > 1:
        raise ResultsError(f"a forest is against one reference, not {', '.join(references)}")
    places = [(f"{p}, {s}", part) for (p, s), part in pairs.groupby(["protocol", "setting"], sort=False)]
    most = max(len(part) for _, part in places)
    figure, axes = panels(
        len(places), columns, across=columns, height=0.55 + LINE_INCHES * most, note=forest_note(pairs)
    )
    ends = pairs[["low", "high", "training_low", "training_high"]].to_numpy()
    left, right = min(0.0, float(np.nanmin(ends))), max(0.0, float(np.nanmax(ends)))
    margin = 0.05 * (right - left or 1.0)
    for axis, (title, part) in zip(axes, places, strict=True):
        draw_forest(axis, part.sort_values("difference"))
        axis.set_xlim(left - margin, right + margin)
        axis.set_title(title)
        axis.set_xlabel(f"{part['metric'].iloc[0]} minus that of {references[0]} (points)")
    return figure


def forest_note(pairs: pd.DataFrame) -> str:
    """Say what the lines and marks of a forest are."""
    thin = ""
    if pairs["training_low"].notna().any():
        thin = " Thin: same test images, new training."
    said = "; ".join(sorted(set(pairs["says"])))
    return (
        f"{EPOCHS[pairs['checkpoint'].iloc[0]].capitalize()}. Thick: 95 % interval, {said}.{thin} "
        "Filled: p < 0.05 after Holm."
    )


def draw_forest(axis: Axes, part: pd.DataFrame) -> None:
    """Draw the lines of one setting, the best method on top, with its numbers at the right."""
    axis.axvline(0, color=INK, linewidth=0.8)
    for place, row in enumerate(part.to_dict("records")):
        colour = BLUE if row["difference"] >= 0 else ORANGE
        marker = "s" if row["difference"] >= 0 else "o"
        axis.plot([row["training_low"], row["training_high"]], [place, place], color=colour, linewidth=0.8)
        axis.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.2)
        fill = colour if row["sure"] < SURE else PAPER
        axis.plot(row["difference"], place, marker, color=colour, markerfacecolor=fill, markersize=4.5)
        text = f"{signed(row['difference'])} ({signed(row['low'])} to {signed(row['high'])})"
        axis.annotate(
            text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL - 0.5
        )
    axis.set_yticks(range(len(part)), part["a"].tolist())
    axis.set_ylim(-0.6, len(part) - 0.4)
    axis.grid(axis="y", visible=False)
    axis.locator_params(axis="x", nbins=5)


@styled
def pairs(found: pd.DataFrame, columns: int = 2) -> Figure:
    """Draw the differences of all pairs: their size below the diagonal, p-values above, a panel per setting.

    Parameters
    ----------
    found : DataFrame
        What :func:`results.comparisons.compare` gives for all pairs.
    """
    rows = differences_of(found)
    names = sorted({*rows["a"], *rows["b"]})
    places = [(f"{p}, {s}", part) for (p, s), part in rows.groupby(["protocol", "setting"], sort=False)]
    across = min(columns, len(places))
    side = WIDTHS[columns] / across
    labels = 0.075 * max(map(len, names))
    cell = (side - labels - 0.3) / len(names)
    high = min(cell, 0.3)
    first = rows.iloc[0]
    note = (
        f"{first['metric']} at {EPOCHS[first['checkpoint']]}. Below the diagonal: row minus column, in points. "
        "Above: p after Holm, bold below 0.05."
    )
    figure, axes = panels(
        len(places), columns, across=across, height=high * len(names) + labels + 0.35, note=note
    )
    span = float(rows["difference"].abs().max()) or 1.0
    for axis, (title, part) in zip(axes, places, strict=True):
        draw_pairs(axis, part, names, span, min(SMALL, 72 * cell / 3.3))
        axis.set_title(title)
    return figure


def draw_pairs(axis: Axes, part: pd.DataFrame, names: list[str], span: float, points: float) -> None:
    """Draw the matrix of one setting, with texts of so many points."""
    place = {name: i for i, name in enumerate(names)}
    shade = np.full((len(names), len(names)), np.nan)
    for row in part.to_dict("records"):
        a, b, gap = place[row["a"]], place[row["b"]], row["difference"]
        low, high = max(a, b), min(a, b)
        value = gap if a > b else -gap
        shade[low, high] = value
        ink = contrast(to_hex(DIVERGING(0.5 + value / span / 2)))
        axis.text(high, low, signed(value), ha="center", va="center", fontsize=points, color=ink)
        weight = "bold" if row["sure"] < SURE else "normal"
        axis.text(low, high, short_p(row["sure"]), ha="center", va="center", fontsize=points, weight=weight)
    edges = np.arange(len(names) + 1) - 0.5
    axis.pcolormesh(edges, edges, shade, cmap=DIVERGING, vmin=-span, vmax=span)
    axis.invert_yaxis()
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.grid(visible=False)


def short_p(p: float) -> str:
    """Return a p-value in few characters."""
    if math.isnan(p):
        return "–"
    return "<.001" if p < 0.001 else p_text(p).removeprefix("0")
