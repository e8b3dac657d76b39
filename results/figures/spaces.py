"""Feature spaces: people on a plane, distances of pairs, and people that fall apart over clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.errors import ResultsError
from results.figures.style import (
    COLOURS,
    HATCHES,
    INK,
    LIGHT,
    MARKERS,
    PAPER,
    SMALL,
    WIDTHS,
    Look,
    contrast,
    edges_only,
    legend_columns,
    panels,
    sheet,
    styled,
    wrapped,
)
from results.spaces import FloatArray, Fragments, IntArray, PairDistances

MODALITIES = ("visible", "infrared")
SHADES = LinearSegmentedColormap.from_list("apart to together", [LIGHT, COLOURS[0]])
COARSER = 4
"""Bins of distances that are drawn as one."""
KINDS: dict[str, Look] = {
    "one identity": {"color": COLOURS[0], "linestyle": "-"},
    "two identities": {"color": COLOURS[1], "linestyle": "--"},
}
MOST_CLUSTERS = 6
"""From so many clusters on, identities share a bar."""


@dataclass(frozen=True)
class Points:
    """Images on a plane.

    Attributes
    ----------
    place : float64 array (n, 2)
    identity, modality, camera : int64 arrays (n,)
    """

    place: FloatArray
    identity: IntArray
    modality: IntArray
    camera: IntArray


@styled
def embedding(points: Points, axes: tuple[str, str], note: str, columns: int = 1) -> Figure:
    """Draw images as marks by modality (filled or hollow) and camera, tied to the middle of their identity.

    Parameters
    ----------
    axes : tuple of str
        Names of the two directions.
    note : str
        What is drawn, and how identities were chosen.
    """
    groups = sorted({*zip(points.modality.tolist(), points.camera.tolist(), strict=True)})
    names = [f"{MODALITIES[modality]}, camera {camera}" for modality, camera in groups]
    lines = wrapped(note, columns)
    per_line = legend_columns(names, columns)
    height = 0.82 * WIDTHS[columns] + 0.15 * -(-len(names) // per_line) + 0.12 * len(lines)
    figure = sheet(columns, height)
    axis = figure.add_subplot()
    for identity in np.unique(points.identity):
        mine = points.place[points.identity == identity]
        middle = mine.mean(axis=0)
        ties = np.stack([mine, np.broadcast_to(middle, mine.shape), np.full(mine.shape, np.nan)], axis=1)
        axis.plot(*ties.reshape(-1, 2).T, color=INK, alpha=0.25, linewidth=0.5)
        axis.annotate(
            str(identity), tuple(middle), fontsize=SMALL, ha="center", va="center", weight="bold", zorder=4
        )
    handles = []
    for place, ((modality, camera), name) in enumerate(zip(groups, names, strict=True)):
        turn, shape = divmod(place, len(MARKERS))  # a shape comes back in another colour
        colour = COLOURS[(shape + turn) % len(COLOURS)]
        look: Look = {
            "marker": MARKERS[shape],
            "color": colour,
            "markerfacecolor": PAPER if modality else colour,
            "markeredgewidth": 0.5,
        }
        chosen = (points.modality == modality) & (points.camera == camera)
        axis.plot(*points.place[chosen].T, linestyle="", zorder=3, **look)
        handles.append(Line2D([], [], linestyle="", label=name, **look))
    axis.set_xticks([])
    axis.set_yticks([])
    edges_only([axis], 1, *axes)
    figure.legend(handles=handles, loc="outside upper left", ncols=per_line)
    figure.supxlabel("\n".join(lines), fontsize=SMALL, x=0.01, ha="left")
    return figure


@styled
def distances(found: PairDistances, note: str, columns: int = 1) -> Figure:
    """Draw how far images of one identity and of two are apart, within a modality and across.

    Raises
    ------
    ResultsError
        If there are no pairs.
    """
    titles = ("within a modality", "across modalities")
    rows = [row for row in (0, 1) if found.same[row].any() or found.different[row].any()]
    if not rows:
        raise ResultsError("there are no two images, and so no distances")
    handles = [Line2D([], [], label=name, **look) for name, look in KINDS.items()]
    figure, axes = panels(len(rows), columns, across=columns, height=1.6, note=note)
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    edges = found.edges[::COARSER]
    used = np.flatnonzero((found.same + found.different).sum(axis=0)) // COARSER
    for axis, row in zip(axes, rows, strict=True):
        for counts, look in zip((found.same, found.different), KINDS.values(), strict=True):
            whole = counts[row].sum()
            if whole:
                share = 100 * counts[row].reshape(-1, COARSER).sum(axis=1) / whole
                axis.stairs(share, edges, linewidth=1.2, **look)
                axis.stairs(share, edges, color=look["color"], fill=True, alpha=0.12)
        nearer = found.nearer(row)
        said = (
            "no pairs of one identity" if np.isnan(nearer) else f"one identity nearer: {100 * nearer:.1f} %"
        )
        axis.set_title(f"{titles[row]} ({said})")
        axis.set_xlim(edges[used[0]], edges[used[-1] + 1])
        axis.set_ylim(bottom=0)
    edges_only(axes, columns, "distance (1 − cosine)", "pairs (%)")
    return figure


@styled
def split(found: Mapping[str, Fragments], modality: Mapping[int, int], note: str, columns: int = 2) -> Figure:
    """Draw how identities fall apart over clusters: by camera, and as the number of clusters of an identity.

    Parameters
    ----------
    found : mapping of name to Fragments
        Ways to cluster the same images, as before and after.
    modality : mapping of camera to modality
    """
    names = list(found)
    order = sorted(modality, key=lambda camera: (modality[camera], camera))
    count = len(names) + 1
    across = count if columns == 2 else 1
    side = WIDTHS[columns] / across
    figure, axes = panels(count, columns, across=across, height=min(side, 2.4), note=note)
    for axis, name in zip(axes, names, strict=False):
        draw_together(axis, found[name], order, modality, side)
        axis.set_title(f"{name}: pairs in one cluster (%)")
    draw_clusters(axes[-1], found)
    return figure


def draw_together(
    axis: Axes, found: Fragments, order: Sequence[int], modality: Mapping[int, int], side: float
) -> None:
    """Draw the matrix of cameras, in an order that keeps modalities together."""
    rows = [found.cameras.index(camera) for camera in order]
    share = 100 * found.together[np.ix_(rows, rows)]
    edges = np.arange(len(order) + 1) - 0.5
    axis.pcolormesh(edges, edges, share, cmap=SHADES, vmin=0, vmax=100)
    size = min(SMALL + 1, 72 * side / (3.6 * len(order)))
    for i, j in np.ndindex(share.shape):
        text, ink = "–", INK
        if not np.isnan(share[i, j]):
            text, ink = f"{share[i, j]:.0f}", contrast(to_hex(SHADES(float(share[i, j]) / 100)))
        axis.text(j, i, text, ha="center", va="center", fontsize=size, color=ink)
    kinds = [modality[camera] for camera in order]
    for place in np.flatnonzero(np.diff(kinds)) + 0.5:
        axis.axhline(place, color=INK, linewidth=1)
        axis.axvline(place, color=INK, linewidth=1)
    labels = [f"{'VI'[modality[camera]]}{camera}" for camera in order]
    axis.set_xticks(range(len(order)), labels)
    axis.set_yticks(range(len(order)), labels)
    axis.set_xlabel("camera (V visible, I infrared)")
    axis.invert_yaxis()
    axis.grid(visible=False)


def draw_clusters(axis: Axes, found: Mapping[str, Fragments]) -> None:
    """Draw how many identities have images in none, one, two, ... clusters."""
    width = 0.8 / len(found)
    bars = np.arange(MOST_CLUSTERS + 1)
    for place, (name, one) in enumerate(found.items()):
        share = np.bincount(np.minimum(one.clusters, MOST_CLUSTERS), minlength=MOST_CLUSTERS + 1)
        axis.bar(
            bars + width * (place - (len(found) - 1) / 2),
            100 * share / max(len(one.clusters), 1),
            width,
            color=COLOURS[place],
            hatch=HATCHES[place] * 2,
            edgecolor=PAPER,
            linewidth=0.3,
            label=f"{name} (mean {one.clusters.mean():.2f}; {100 * one.noise:.0f} % noise)",
        )
    axis.set_xticks(bars, [*map(str, bars[:-1]), f"{MOST_CLUSTERS}+"])
    axis.set_title("clusters of an identity")
    axis.set_xlabel("clusters")
    axis.set_ylabel("identities (%)")
    axis.grid(axis="x", visible=False)
    top = axis.get_ylim()[1]
    axis.set_yticks([tick for tick in axis.get_yticks() if tick <= min(top, 100)])
    axis.set_ylim(top=1.35 * top)
    axis.legend(loc="upper right", borderaxespad=0.1)
