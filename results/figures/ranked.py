"""A sheet of ranked lists: queries, and the first gallery images that a method found for each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from results.errors import ResultsError
from results.figures.style import BAD, GOOD, INK, PAPER, SMALL, WIDTHS, sheet, styled, wrapped

ACROSS = {1: 5, 2: 10}
"""Gallery images side by side, by columns of a paper."""
MARGIN, GAP, QUERY_GAP = 0.05, 0.05, 0.14
LINE = 0.075
NAME_LINES = 3
TINY = 4.4
"""Points of what stands below an image."""
HEAD = 0.16
MARKS = {True: "✓", False: "✗"}


@dataclass(frozen=True)
class Tile:
    """An image of a ranked list.

    Attributes
    ----------
    name : str
        Path below the data root.
    camera : int
    modality : str
        ``visible`` or ``infrared``.
    pixels : uint8 array (h, w, 3)
    right : bool, optional
        Whether it shows the query's identity; None for the query itself.
    distance : float, optional
    """

    name: str
    camera: int
    modality: str
    pixels: npt.NDArray[np.uint8]
    right: bool | None = None
    distance: float | None = None


@dataclass(frozen=True)
class RankedRow:
    """A query, and the first that a method found for it; `says` is the method and how good the whole list is."""

    query: Tile
    found: tuple[Tile, ...]
    says: str
    method: str = ""


@styled
def ranked(rows: Sequence[RankedRow], note: str, columns: int = 2) -> Figure:
    """Draw queries and what was found: right ones with a solid frame and a tick, wrong ones dashed and with a cross.

    Parameters
    ----------
    note : str
        Says which queries these are.

    Raises
    ------
    ResultsError
        If there are none.
    """
    if not rows:
        raise ResultsError("there is no query to show")
    across = ACROSS.get(columns, 1)
    width = (WIDTHS.get(columns, 1.0) - 2 * MARGIN - QUERY_GAP - across * GAP) / (across + 1)
    high = width * rows[0].query.pixels.shape[0] / rows[0].query.pixels.shape[1]
    cell = high + LINE * (NAME_LINES + 1) + 0.08
    lines = [max(1, -(-len(row.found) // across)) for row in rows]
    notes = wrapped(
        f"{note} Solid frame and ✓: the query's identity; dashed and ✗: another. From left to right by distance.",
        columns,
    )
    height = sum(HEAD + cell * count for count in lines) + 0.12 * len(notes) + 0.1
    figure = sheet(columns, height)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    top = 0.03
    for row, count in zip(rows, lines, strict=True):
        axis.text(MARGIN, top + HEAD / 2, row.says, fontsize=SMALL, va="center", weight="bold")
        top += HEAD
        draw_tile(axis, row.query, MARGIN, top, width, high)
        for place, tile in enumerate(row.found):
            left = MARGIN + width + QUERY_GAP + (place % across) * (width + GAP)
            draw_tile(axis, tile, left, top + place // across * cell, width, high)
        top += cell * count
    axis.text(MARGIN, top + 0.02, "\n".join(notes), fontsize=SMALL, va="top", linespacing=1.3)
    axis.set(xlim=(0, WIDTHS[columns]), ylim=(height, 0), aspect="auto")
    axis.axis("off")
    return figure


def draw_tile(axis: Axes, tile: Tile, left: float, top: float, width: float, high: float) -> None:
    """Draw an image with its frame, and what is known of it below."""
    axis.imshow(tile.pixels, extent=(left, left + width, top + high, top), interpolation="none", zorder=1)
    colour = {None: INK, True: GOOD, False: BAD}[tile.right]
    style = "--" if tile.right is False else "-"
    frame = Rectangle((left, top), width, high, fill=False, edgecolor=colour, linestyle=style, linewidth=1.5)
    axis.add_patch(frame).set_zorder(2)
    mark = "query" if tile.right is None else MARKS[tile.right]
    axis.text(
        left + 0.02,
        top + 0.02,
        mark,
        fontsize=SMALL - 0.5,
        va="top",
        color=PAPER,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
        zorder=3,
    )
    lines = [f"camera {tile.camera}, {'IR' if tile.modality == 'infrared' else 'visible'}"]
    lines += shortened(tile.name, int(72 * width / (0.6 * TINY)))
    axis.text(
        left,
        top + high + 0.04,
        "\n".join(lines),
        fontsize=TINY,
        va="top",
        linespacing=LINE * 72 / TINY / 1.17,
    )


def shortened(name: str, most: int) -> list[str]:
    """Break a path into up to three lines of so many characters; of a longer one the end is kept."""
    room = NAME_LINES * most
    if len(name) > room:
        name = "…" + name[1 - room :]
    return textwrap.wrap(name, most, break_on_hyphens=False)
