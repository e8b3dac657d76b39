"""Curves over epochs: of finished trainings, and of the schedules that a method follows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.errors import ResultsError
from results.figures.style import INK, Look, looks, panels, styled

FEW = 4
"""Up to so many runs of a method are lines of their own; of more, their range is shaded."""
CURVES = ("test_mAP", "ari_", "clusters_", "noise_", "purity_across_modalities_", "camera_", "eps", "k2")
"""Panels (or beginnings of their names), in this order."""
LABELS = {"test_mAP": "test mAP (%)", "ari": "ARI", "purity_across_modalities": "purity across modalities"}
CAMERA = re.compile(r"purity_(?:visible_|infrared_)?camera_\d+_(\w+)")
"""Columns of one camera's purity; the group is the label space."""
WHOLE = ("clusters", "noise", "k2")
"""Quantities that are counted."""
Histories = Mapping[str, Sequence[pd.DataFrame]]


class Curve(NamedTuple):
    """A panel: its title, and the columns of a history that it shows (several: their mean and range)."""

    title: str
    columns: tuple[str, ...]


def present_in(frames: Sequence[pd.DataFrame]) -> set[str]:
    """Return the columns that hold a value in any history."""
    return {str(name) for frame in frames for name in frame.columns[frame.notna().any()]}


def curves_of(present: set[str]) -> list[Curve]:
    """Return the panels that columns with values make."""
    cameras: dict[str, list[str]] = {}
    for name in sorted(present):
        if match := CAMERA.fullmatch(name):
            cameras.setdefault(match[1], []).append(name)
    found: list[Curve] = []
    for start in CURVES:
        if start == "camera_":
            found += [
                Curve(f"purity by camera, {space}", tuple(names)) for space, names in sorted(cameras.items())
            ]
        else:
            chosen = [
                name for name in sorted(present) if name == start or name.startswith(f"{start.rstrip('_')}_")
            ]
            found += [Curve(label(name, start), (name,)) for name in chosen]
    return found


def label(column: str, start: str) -> str:
    """Return a column's name for people: the quantity, then the label space."""
    quantity = start.rstrip("_")
    space = column.removeprefix(quantity).strip("_").replace("_", " ")
    quantity = LABELS.get(quantity, quantity)
    return f"{quantity}, {space}" if space else quantity


class Line(NamedTuple):
    """What a method's runs say of a panel, by epoch.

    Attributes
    ----------
    mean : Series
    single : tuple of Series
        The runs alone, if they are few and of one column.
    low, high : Series, optional
        What columns, or many runs, range over.
    """

    mean: pd.Series
    single: tuple[pd.Series, ...] = ()
    low: pd.Series | None = None
    high: pd.Series | None = None


class Training(NamedTuple):
    """What :func:`training` draws: panels, names of methods, a line for some of them by panel, and a note."""

    curves: tuple[Curve, ...]
    names: tuple[str, ...]
    lines: tuple[Mapping[str, Line], ...]
    note: str


def training_lines(histories: Histories) -> Training:
    """Average histories over runs: test mAP, quality of pseudo-labels, clusters, noise and schedules.

    Parameters
    ----------
    histories : mapping of method to its runs' histories
        Purity by camera is the mean over cameras, and ranges from the worst to the best. Of several phases of an epoch
        the last counts.

    Raises
    ------
    ResultsError
        If no history has anything to draw.
    """
    present = {name: present_in(frames) for name, frames in histories.items()}
    curves = curves_of(set().union(*present.values()))
    if not curves:
        raise ResultsError("there is no history to draw: the methods do not train")
    drawn = {name: frames for name, frames in sorted(histories.items()) if curves_of(present[name])}
    stacked = {
        name: pd.concat({run: last_phases(frame) for run, frame in enumerate(frames) if len(frame)})
        for name, frames in drawn.items()
    }
    lines = []
    for curve in curves:
        found = {name: line_of(frame, curve.columns) for name, frame in stacked.items()}
        lines.append({name: line for name, line in found.items() if line})
    return Training(tuple(curves), tuple(drawn), tuple(lines), training_note(curves, drawn))


def line_of(frame: pd.DataFrame, columns: Sequence[str]) -> Line | None:
    """Return what runs, stacked by (run, epoch), say of some columns; None if that is nothing."""
    names = [name for name in columns if name in frame.columns]
    values = frame[names].dropna(how="all")
    if values.empty:
        return None
    by_run = values.mean(axis=1) if len(names) > 1 else values[names[0]]
    runs = tuple(run.droplevel(0) for _, run in by_run.groupby(level=0))
    # in order of value, so that the order of the runs changes no bit
    ordered = by_run.droplevel(0).rename_axis("epoch").to_frame("value").reset_index()
    mean = ordered.sort_values(["epoch", "value"]).groupby("epoch")["value"].mean()
    if len(columns) == 1 and len(runs) <= FEW:
        return Line(mean, runs if len(runs) > 1 else ())
    low, high = (getattr(values, side)(axis=1).groupby(level=1) for side in ("min", "max"))
    return Line(mean, (), low.min(), high.max())


@styled
def training(drawn: Training, columns: int = 2) -> Figure:
    """Draw what :func:`training_lines` gives, a panel each.

    A thick line is the mean over runs; single runs are thin lines, or a shaded range if there are many.
    """
    across = 2 * columns
    figure, axes = panels(
        len(drawn.curves), columns, across=across, height=1.32, names=list(drawn.names), note=drawn.note
    )
    chosen = looks(list(drawn.names))
    for place, (axis, curve, lines) in enumerate(zip(axes, drawn.curves, drawn.lines, strict=True)):
        for name, line in lines.items():
            draw_line(axis, line, chosen[name])
        axis.set_title(curve.title)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        whole = curve.columns[0].startswith(WHOLE)
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
        if place + across >= len(drawn.curves):
            axis.set_xlabel("epoch")
    return figure


def training_note(curves: Sequence[Curve], drawn: Histories) -> str:
    """Say what thin lines and shades are, and what purity and ARI compare."""
    most = max(map(len, drawn.values()))
    note = "Thick: mean over runs"
    if most > 1:
        note += (
            "; thin: single runs" if most <= FEW else f"; shaded: range of runs (thin lines up to {FEW} runs)"
        )
    note += "."
    if any(len(curve.columns) > 1 for curve in curves):
        note += " Purity by camera: mean over cameras, shaded from the worst to the best."
    return f"{note} ARI and purity compare pseudo-labels with identities that training never sees."


def last_phases(history: pd.DataFrame) -> pd.DataFrame:
    """Return a history by epoch; of several phases of an epoch the last."""
    return history.drop_duplicates("epoch", keep="last").set_index("epoch")


def draw_line(axis: Axes, line: Line, look: Look) -> None:
    """Draw the mean by epoch, over single runs or the range that they have."""
    for run in sorted(line.single, key=lambda one: tuple(one)):
        axis.plot(run.index.to_numpy(), run.to_numpy(), color=look["color"], linewidth=0.5, alpha=0.55)
    if line.low is not None and line.high is not None:
        axis.fill_between(line.low.index, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
    every = max(1, len(line.mean) // 5)
    axis.plot(line.mean.index.to_numpy(), line.mean.to_numpy(), markevery=every, **look)


@styled
def schedule(frames: Mapping[str, pd.DataFrame], title: str, columns: int = 1) -> Figure:
    """Draw the schedules of a method over all its epochs, a panel per quantity and a line per data set.

    Parameters
    ----------
    frames : mapping of data set to DataFrame
        Columns stage, epoch (within the stage), and the quantities.
    title : str
        The method, for the note.

    Raises
    ------
    ResultsError
        If there are no epochs.
    """
    kept = {name: frame for name, frame in frames.items() if len(frame)}
    if not kept:
        raise ResultsError(f"{title} has no epochs to draw a schedule of")
    quantities = list(
        dict.fromkeys(str(c) for frame in kept.values() for c in frame if c not in ("stage", "epoch"))
    )
    stages = list(dict.fromkeys(stage for frame in kept.values() for stage in frame["stage"]))
    note = f"{title}. Vertical lines: a stage begins ({', then '.join(stages)})."
    figure, axes = panels(len(quantities), columns, across=2, height=1.7, names=list(kept), note=note)
    chosen = looks(list(kept))
    for axis, quantity in zip(axes, quantities, strict=True):
        starts: set[int] = set()
        for name, frame in kept.items():
            values = frame[quantity].to_numpy(dtype=float)
            stage = frame["stage"].to_numpy()
            starts |= set((np.flatnonzero(stage[1:] != stage[:-1]) + 1).tolist())
            axis.plot(np.arange(len(values)), values, markevery=max(1, len(values) // 7), **chosen[name])
        for start in sorted(starts):
            axis.axvline(start, color=INK, linewidth=0.6, linestyle=(0, (1, 1.5)))
        axis.set_title(quantity)
        axis.set_xlabel("epoch")
        axis.yaxis.set_major_locator(MaxNLocator(5, integer=quantity.startswith(WHOLE)))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure
