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


def curves_of(histories: Histories) -> list[Curve]:
    """Return the panels that hold a value in any history."""
    present: set[str] = set()
    for frames in histories.values():
        for frame in frames:
            present.update(map(str, frame.columns[frame.notna().any()]))
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


@styled
def training(histories: Histories, columns: int = 2) -> Figure:
    """Draw test mAP, quality of pseudo-labels, clusters, noise and schedules over epochs, a panel each.

    Parameters
    ----------
    histories : mapping of method to its runs' histories
        A thick line is the mean over runs; single runs are thin lines, or a shaded range if there are many. Purity by
        camera is the mean over cameras, the range goes from the worst to the best. Of several phases of an epoch the
        last is drawn.

    Raises
    ------
    ResultsError
        If no history has anything to draw.
    """
    curves = curves_of(histories)
    if not curves:
        raise ResultsError("there is no history to draw: the methods do not train")
    drawn = {
        name: [last_phases(frame) for frame in frames]
        for name, frames in sorted(histories.items())
        if curves_of({name: frames})
    }
    across = 2 * columns
    figure, axes = panels(
        len(curves), columns, across=across, height=1.32, names=list(drawn), note=training_note(curves, drawn)
    )
    chosen = looks(list(drawn))
    for place, (axis, curve) in enumerate(zip(axes, curves, strict=True)):
        for name, frames in drawn.items():
            draw_runs(axis, frames, curve.columns, chosen[name])
        axis.set_title(curve.title)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        whole = curve.columns[0].startswith(WHOLE)
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
        if place + across >= len(curves):
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


def draw_runs(axis: Axes, frames: Sequence[pd.DataFrame], columns: Sequence[str], look: Look) -> None:
    """Draw the mean of columns over runs, by epoch; and single runs, or what the columns or many runs range over."""
    kept = []
    for frame in frames:
        names = [name for name in columns if name in frame.columns]
        last = frame[names].dropna(how="all")
        if names and len(last):
            kept.append(last)
    if not kept:
        return
    lines = [frame.mean(axis=1) if frame.shape[1] > 1 else frame.iloc[:, 0] for frame in kept]
    spread = kept if len(columns) > 1 else [line.to_frame() for line in lines]
    if len(columns) == 1 and 1 < len(lines) <= FEW:
        for line in sorted(lines, key=lambda one: tuple(one)):
            axis.plot(line.index.to_numpy(), line.to_numpy(), color=look["color"], linewidth=0.5, alpha=0.55)
    elif len(columns) > 1 or len(lines) > FEW:
        everything = pd.concat(spread)
        low, high = (getattr(everything, side)(axis=1).groupby(level=0) for side in ("min", "max"))
        bottom, top = low.min(), high.max()
        axis.fill_between(bottom.index, bottom, top, color=look["color"], alpha=0.15, linewidth=0)
    ordered = pd.concat(lines).to_frame("value").reset_index().sort_values(["epoch", "value"])
    mean = ordered.groupby("epoch")["value"].mean()
    every = max(1, len(mean) // 5)
    axis.plot(mean.index.to_numpy(), mean.to_numpy(), markevery=every, **look)


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
