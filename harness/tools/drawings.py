"""``reidbench figure``: from what a person names (runs, a method, timings, features) to a figure file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from harness.errors import HarnessError
from harness.registry import nearest
from harness.tools.figure_request import Wanted, runs_of
from results import Run, compare
from results.comparable import line_groups
from results.figures import cmc, cmc_points, forest, pairs, scaling, schedule, stages, timings, training
from results.figures.style import check_columns, check_suffix, write_figure
from results.figures.training import training_lines

if TYPE_CHECKING:
    from harness.training.progress import Reporter


def draw(kind: str, wanted: Wanted, out: Path, reporter: Reporter) -> None:
    """Draw a figure and write it whole or not at all; an extraction says how far it is by `reporter`.

    Raises
    ------
    HarnessError, ResultsError
        Unknown kind, form or width; runs that are unfinished, damaged, too few or not comparable.
    """
    if kind not in (*KINDS, *FEATURES):
        raise HarnessError(f"figure {kind}: {nearest(kind, (*KINDS, *FEATURES))}")
    check_suffix(out)
    check_columns(wanted.columns)
    figure = KINDS[kind](wanted) if kind in KINDS else draw_features(kind, wanted, reporter)
    write_figure(figure, out)


def draw_forest(wanted: Wanted) -> Figure:
    """Differences of each method to a reference, by default the first by name."""
    runs = runs_of(wanted)
    reference = wanted.reference or min(line_groups(runs))
    found = compare(runs, metric=wanted.metric, reference=reference, checkpoint=wanted.rule)
    return forest(found, wanted.columns)


def draw_pairs(wanted: Wanted) -> Figure:
    """Differences of all pairs."""
    found = compare(runs_of(wanted), metric=wanted.metric, checkpoint=wanted.rule)
    return pairs(found, wanted.columns)


def draw_cmc(wanted: Wanted) -> Figure:
    """Matching rates at ranks 1 to 20."""
    return cmc(cmc_points(runs_of(wanted), wanted.rule), wanted.columns)


def draw_training(wanted: Wanted) -> Figure:
    """Curves over epochs."""
    groups = line_groups(one_data_set(runs_of(wanted)))
    histories = {name: [run.history for run in runs] for name, runs in groups.items()}
    return training(training_lines(histories), wanted.columns)


def draw_stages(wanted: Wanted) -> Figure:
    """Where the time of runs went."""
    return stages(timings(line_groups(one_data_set(runs_of(wanted)))), wanted.columns)


def one_data_set(runs: Sequence[Run]) -> Sequence[Run]:
    """Refuse runs of several data sets: means over them say nothing."""
    names = sorted({str(run.manifest["spec"]["dataset"]) for run in runs})
    if len(names) > 1:
        raise HarnessError(f"these runs are on {', '.join(names)}; give those of one data set, or --protocol")
    return runs


def draw_schedule(wanted: Wanted) -> Figure:
    """Draw the schedules of a method on every data set, as its configuration has them."""
    from harness.tools.pages import schedules

    if len(wanted.named) != 1:
        raise HarnessError("figure schedule takes one METHOD[:variant], as `reidbench figure schedule dmic`")
    frames: Mapping[str, pd.DataFrame] = schedules(wanted.named[0], wanted.preset)
    return schedule(frames, f"{wanted.named[0]}, preset {wanted.preset}", wanted.columns)


def draw_scaling(wanted: Wanted) -> Figure:
    """Draw the core's time over the number of images, from the table that `reidbench time --out` wrote."""
    if len(wanted.named) != 1:
        raise HarnessError("figure scaling takes the CSV that `reidbench time --out FILE.csv` wrote")
    path = Path(wanted.named[0])
    try:
        times = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"{path} is not a readable CSV ({error}); `reidbench time --out {path.with_suffix('.csv')}` writes one"
        ) from error
    return scaling(times, wanted.columns)


def draw_ranked(wanted: Wanted) -> Figure:
    """Queries and what was found first."""
    from harness.tools.ranked_lists import draw_ranked as drawn

    return drawn(wanted)


def draw_features(kind: str, wanted: Wanted, reporter: Reporter) -> Figure:
    """Draw features, those of a file or those that a run's network gives."""
    from harness.tools.feature_figures import DRAWN

    return DRAWN[kind](wanted, reporter)


KINDS: Mapping[str, Callable[[Wanted], Figure]] = {
    "forest": draw_forest,
    "cmc": draw_cmc,
    "pairs": draw_pairs,
    "training": draw_training,
    "schedule": draw_schedule,
    "stages": draw_stages,
    "scaling": draw_scaling,
    "ranked": draw_ranked,
}
FEATURES = ("embedding", "distances", "split")
"""Kinds that :mod:`harness.tools.feature_figures` draws."""
