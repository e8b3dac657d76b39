"""Figures of results: CMC curves and training curves; equal input gives equal bytes.

Colours are told apart by people with colour vision deficiencies (Okabe and Ito's palette without yellow);
markers and line styles repeat what colours say.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from results.comparable import check_rows, line_names
from results.schema import RANKS, ResultsError, setting_order

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL_INCHES = (3.3, 2.5)
LEGEND_INCHES = 0.32
LEGEND_COLUMNS = 4
CURVES = ("test_mAP", "ari_", "clusters_", "eps", "k2")
"""History columns (or their beginnings) that are drawn, in this order."""
LABELS = {"test_mAP": "test mAP (%)", "eps": "eps", "k2": "k2"}
Look = dict[str, Any]


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Give every name a colour, a marker and a line style of its own (the first 7 differ in colour)."""
    chosen: dict[str, Look] = {}
    for i, name in enumerate(names):
        turn, place = divmod(i, len(COLOURS))
        chosen[name] = {
            "color": COLOURS[place],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": STYLES[turn % len(STYLES)],
        }
    return chosen


def grid(panels: int, names: Sequence[str]) -> tuple[Figure, list[Axes], dict[str, Look]]:
    """Make a figure with `panels` axes in rows of up to three, and a legend of `names` above them."""
    columns = min(3, panels)
    rows = -(-panels // columns)
    legend_rows = -(-len(names) // LEGEND_COLUMNS)
    width, height = columns * PANEL_INCHES[0], rows * PANEL_INCHES[1] + legend_rows * LEGEND_INCHES
    figure = Figure(figsize=(max(width, 2 * PANEL_INCHES[0]), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]
    chosen = looks(names)
    handles = [Line2D([], [], label=no_formula(name), markersize=5, **look) for name, look in chosen.items()]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=LEGEND_COLUMNS, frameon=False, fontsize="small"
    )
    for axis in axes:
        axis.grid(color="0.88", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize="small")
    return figure, axes, chosen


def no_formula(text: str) -> str:
    """Return a text whose dollars matplotlib shows as they are."""
    return text.replace("$", r"\$")


def cmc_curves(rows: pd.DataFrame) -> Figure:
    """Draw rank-1, 5, 10 and 20 of the last epoch, a panel per protocol and setting, a line per method.

    Points are means over seeds and trials. What lies between is not taken from the ranks of hits: SYSU-MM01
    counts identities there, which hits do not tell.

    Raises
    ------
    ResultsError
        If the rows cannot be compared.
    """
    rows = check_rows(rows)
    rows = rows[(rows["checkpoint"] == "last") & rows["metric"].isin(RANKS)]
    if rows.empty:
        raise ResultsError("there are no rank-k rows of a last epoch to draw")
    rows = rows.assign(rank=rows["metric"].str.removeprefix("rank-").astype(int), name=line_names(rows))
    panels = {(str(place[0]), str(place[1])): part for place, part in rows.groupby(["protocol", "setting"])}
    places = sorted(panels, key=lambda place: (place[0], setting_order(place[1])))
    figure, axes, chosen = grid(len(places), sorted(set(rows["name"])))
    for axis, (protocol, setting) in zip(axes, places, strict=True):
        for name, part in panels[protocol, setting].groupby("name", sort=True):
            means = part.groupby(["rank", "seed"])["value"].mean().groupby("rank").mean()
            look = chosen[str(name)]
            axis.plot(means.index.to_numpy(), means.to_numpy(), markersize=4, linewidth=1.4, **look)
        axis.set_title(no_formula(f"{protocol}, {setting}"), fontsize="small", loc="left")
        axis.set_xlabel("rank", fontsize="small")
        axis.set_ylabel("matching rate (%)", fontsize="small")
        axis.set_xticks([1, 5, 10, 20])
    return figure


def curve_columns(histories: Mapping[str, Sequence[pd.DataFrame]]) -> list[str]:
    """Return the columns to draw, those that hold a value in any history."""
    present: set[str] = set()
    for frames in histories.values():
        for frame in frames:
            present.update(map(str, frame.columns[frame.notna().any()]))
    columns: list[str] = []
    for start in CURVES:
        columns += sorted(name for name in present if belongs(name, start))
    return columns


def belongs(name: str, start: str) -> bool:
    """Say whether a column is named so, or begins so where `start` is a beginning."""
    return name.startswith(start) if start.endswith("_") else name == start


def label(column: str) -> str:
    """Return a column's name for people."""
    if column.startswith("ari_"):
        return f"ARI, {column.removeprefix('ari_')}"
    return LABELS.get(column, column.replace("_", ", "))


def training_curves(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw test mAP, pseudo-label ARI, clusters, eps and k2 over epochs, a panel each.

    Parameters
    ----------
    histories : mapping of method to its runs' histories
        Runs are thin lines, their mean a thick one. Of several phases of an epoch the last is drawn.

    Raises
    ------
    ResultsError
        If no history has anything to draw.
    """
    columns = curve_columns(histories)
    if not columns:
        raise ResultsError("there is no history to draw: the methods do not train")
    drawn = {name: frames for name, frames in sorted(histories.items()) if curve_columns({name: frames})}
    figure, axes, chosen = grid(len(columns), list(drawn))
    for axis, column in zip(axes, columns, strict=True):
        for name, frames in drawn.items():
            draw_runs(axis, [frame for frame in frames if column in frame.columns], column, chosen[name])
        axis.set_title(label(column), fontsize="small", loc="left")
        axis.set_xlabel("epoch", fontsize="small")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def draw_runs(axis: Axes, frames: Sequence[pd.DataFrame], column: str, look: Look) -> None:
    """Draw a column of every run thinly, and the mean over runs."""
    kept = [f.drop_duplicates("epoch", keep="last")[["epoch", column]].dropna() for f in frames]
    if not any(len(frame) for frame in kept):
        return
    if len(kept) > 1:
        ordered = sorted(kept, key=lambda frame: tuple(frame[column]))
        for frame in ordered:
            axis.plot(frame["epoch"], frame[column], color=look["color"], linewidth=0.7, alpha=0.5)
    mean = pd.concat(kept).sort_values(["epoch", column]).groupby("epoch")[column].mean()
    every = max(1, len(mean) // 8)
    axis.plot(
        mean.index.to_numpy(),
        mean.to_numpy(),
        linewidth=1.6,
        markersize=3.5,
        markevery=every,
        **look,
    )


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG, its texts as outlines; no date in it, and equal figures give equal bytes."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "reidbench", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return a figure as PNG without a date or a version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
