"""Cumulative matching curves: every rank from 1 to 20, with the interval of each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from results.comparable import check_rows, line_names
from results.comparisons import EPOCHS
from results.figures.style import edges_only, looks, panels, styled
from results.schema import Checkpoint, ResultsError, setting_order
from results.scores import bases_of, method_scores, needed_ranks
from results.statistics import over_people
from results.store import Run, collect

LAST_RANK = 20
FEW = 5
"""Up to so many methods, bands are drawn: more of them hide each other."""


def cmc_points(runs: Sequence[Run], checkpoint: Checkpoint = "last") -> pd.DataFrame:
    """Return the matching rate at ranks 1 to 20 of every method and setting, from the ranks of its queries.

    Returns
    -------
    DataFrame
        protocol, setting, method, rank, value, low, high (95 % interval), says (what the interval is of); percent.

    Raises
    ------
    ResultsError
        If the runs cannot be compared, or lack the ranks of first matches; see :func:`results.scores.load_scores`.
    """
    rows = check_rows(collect(runs))
    rows = rows.assign(line=line_names(rows))
    rows = rows[(rows["checkpoint"] == checkpoint) & (rows["metric"] == "mAP")]
    if rows.empty:
        raise ResultsError(f"no run has rows of the epoch {checkpoint!r}")
    by_id = {run.id: run for run in runs}
    ranks = {run.id: needed_ranks(run, checkpoint) for run in runs}
    points = []
    bases = bases_of(rows)
    for rank in range(1, LAST_RANK + 1):
        for basis in bases:
            scores = method_scores(basis, by_id, ranks, f"rank-{rank}")
            mean, says, people = over_people(scores)
            points.append(
                {
                    "protocol": scores.protocol,
                    "setting": scores.setting,
                    "method": scores.method,
                    "rank": rank,
                    "value": mean,
                    "low": max(people.low, 0.0),
                    "high": min(people.high, 100.0),
                    "says": says,
                }
            )
    return pd.DataFrame(points).assign(checkpoint=checkpoint)


@styled
def cmc(points: pd.DataFrame, columns: int = 2) -> Figure:
    """Draw what :func:`cmc_points` gives, a panel per protocol and setting, a line per method."""
    places = sorted(
        points.groupby(["protocol", "setting"]), key=lambda part: (part[0][0], setting_order(str(part[0][1])))
    )
    names = sorted(set(points["method"]))
    bands = len(names) <= FEW
    said = "; ".join(sorted(set(points["says"])))
    note = f"{EPOCHS[points['checkpoint'].iloc[0]].capitalize()}."
    note += f" Bands: 95 % interval of each rank, {said}." if bands else ""
    across = min(columns + 1 if len(places) > 1 else 1, len(places))
    across = 2 if len(places) in (2, 4) else across
    figure, axes = panels(len(places), columns, across=across, height=1.75, names=names, note=note)
    for axis, ((protocol, setting), part) in zip(axes, places, strict=True):
        for name, line in part.groupby("method", sort=True):
            look = looks(names)[str(name)]
            rank = line["rank"].to_numpy()
            axis.plot(rank, line["value"].to_numpy(), markevery=[0, 4, 9, 19], **look)
            if bands:
                axis.fill_between(
                    rank, line["low"], line["high"], color=look["color"], alpha=0.13, linewidth=0
                )
        axis.set_title(f"{protocol}, {setting}")
        axis.set_xticks([1, 5, 10, 15, 20])
        axis.set_xlim(0.4, LAST_RANK + 0.6)
    edges_only(axes, across, "rank", "matching rate (%)")
    return figure
