"""The look that all figures share: sizes of a paper's columns, colours, legends, and files of equal bytes.

Colours are those of Okabe and Ito without yellow, told apart by people with colour vision deficiencies; markers, line
styles, hatches or words repeat whatever colours say.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.errors import ResultsError
from results.files import write_whole

WIDTHS = {1: 3.5, 2: 7.16}
"""Inches of one column and of two, as in the journals of the field."""
INK, PAPER = "#1b1f24", "#ffffff"
"""Of texts and axes, and behind them; a page replaces both by its own."""
DARK, LIGHT = "#1b1f25", "#fffffe"
"""The same, where they stand on, or are, a colour that no page replaces."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "----")
GOOD, BAD = COLOURS[2], COLOURS[1]
TEXT, SMALL = 7.0, 6.0
"""Points of texts and of small texts, at the size at which a figure is printed."""
FILES = (".pdf", ".png", ".svg")
DPI = 300

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.2,
    "hatch.linewidth": 0.4,
    "figure.facecolor": PAPER,
    "savefig.facecolor": "auto",
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "reidbench",
}
Look = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function draw, or write, in this look, whatever the user's own settings of matplotlib are."""

    @functools.wraps(function)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context():
            mpl.rcdefaults()
            for name, setting in SETTINGS.items():
                mpl.rcParams[name] = setting  # type: ignore[index]
            return function(*args, **kwargs)

    return drawn


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Give every name a colour, a marker and a line style of its own (the first 7 differ in colour)."""
    chosen: dict[str, Look] = {}
    for i, name in enumerate(names):
        turn, place = divmod(i, len(COLOURS))
        chosen[name] = {
            "color": COLOURS[place],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": STYLES[(turn + place) % len(STYLES)],
        }
    return chosen


def check_columns(columns: int) -> None:
    """Refuse a width that is no column's."""
    if columns not in WIDTHS:
        raise ResultsError(f"a figure is {' or '.join(map(str, WIDTHS))} columns wide, not {columns}")


def sheet(columns: int, height: float) -> Figure:
    """Make an empty figure as wide as so many columns, of a height in inches."""
    check_columns(columns)
    figure = Figure(figsize=(WIDTHS[columns], height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(
    count: int, columns: int, *, across: int, height: float, names: Sequence[str] = (), note: str = ""
) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` panels in rows of up to `across`, a legend of `names` above and a note below.

    Parameters
    ----------
    height : float
        Inches of a row.
    """
    check_columns(columns)
    across = min(across, count)
    rows = -(-count // across)
    legend_rows = -(-len(names) // legend_columns(names, columns)) if names else 0
    lines = wrapped(note, columns)
    extra = 0.15 * legend_rows + 0.12 * len(lines) + 0.1
    figure = sheet(columns, rows * height + extra)
    axes = [figure.add_subplot(rows, across, i + 1) for i in range(count)]
    if names:
        add_legend(figure, names, columns)
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=SMALL, x=0.01, ha="left")
    return figure, axes


def legend_columns(names: Sequence[str], columns: int) -> int:
    """Return how many of these names stand side by side above a figure."""
    wide = max(map(len, names)) * 0.58 * SMALL + 30
    return max(1, min(len(names), int(72 * WIDTHS[columns] / wide)))


def add_legend(figure: Figure, names: Sequence[str], columns: int) -> None:
    """Put the names and their looks above the panels."""
    handles = [Line2D([], [], label=name, **look) for name, look in looks(names).items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(names, columns))


def wrapped(note: str, columns: int) -> list[str]:
    """Break a note into lines as wide as the figure."""
    most, lines = int(72 * WIDTHS[columns] / (0.57 * SMALL)), [""]
    for word in note.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) <= most:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line for line in lines if line]


def signed(value: float) -> str:
    """Return a number with one decimal and its sign."""
    return f"{value:+.1f}".replace("-", "−")


def contrast(colour: str) -> str:
    """Return the colour of texts, dark or light, that is read better on a colour (relative luminance of WCAG)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return DARK if (luminance + 0.05) / 0.06 > 1.05 / (luminance + 0.05) else LIGHT


def edges_only(axes: Sequence[Axes], across: int, x: str, y: str) -> None:
    """Label the outer axes alone: y on the left ones, x on those with nothing below."""
    for i, axis in enumerate(axes):
        if i % across == 0:
            axis.set_ylabel(y)
        if i + across >= len(axes):
            axis.set_xlabel(x)


@styled
def to_bytes(figure: Figure, suffix: str, dpi: int = DPI) -> bytes:
    """Return a figure as ``.pdf`` or ``.svg`` with its fonts in it, or as ``.png``; no date, no version."""
    nothing = {
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        ".svg": {"Date": None, "Creator": None},
        ".png": {"Software": None},
    }
    file = io.BytesIO()
    figure.savefig(file, format=suffix[1:], dpi=dpi, metadata=nothing[suffix])
    return file.getvalue()


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG, its texts as outlines; equal figures give equal bytes."""
    return to_bytes(figure, ".svg").decode()


def to_png(figure: Figure, dpi: int = DPI) -> bytes:
    """Return a figure as PNG; equal figures give equal bytes."""
    return to_bytes(figure, ".png", dpi)


def check_suffix(path: Path) -> None:
    """Refuse a file that would be no figure."""
    if path.suffix not in FILES:
        raise ResultsError(f"{path}: a figure is written as {', '.join(FILES)}; give --out such a name")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all, in the form that the file's name ends in."""
    check_suffix(path)
    write_whole(path, to_bytes(figure, path.suffix))
