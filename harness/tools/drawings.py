"""``reidbench figure``: from what a person names (runs, a method, timings, features) to a figure file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from harness.errors import HarnessError
from harness.registry import nearest
from harness.tools.tables import checkpoint_rule, chosen_runs
from results import Run, compare, find_runs
from results.comparable import line_groups
from results.figures import cmc, cmc_points, forest, pairs, scaling, schedule, stages, timings, training
from results.figures.style import check_columns, check_suffix, write_figure
from results.schema import Checkpoint


@dataclass(frozen=True)
class Wanted:
    """What a person asks for.

    Attributes
    ----------
    named : tuple of str
        What stands behind the kind: run directories as a rule, the method of ``schedule``, the CSV of ``scaling``.
    columns : int
        Width, in columns of a paper.
    metric, reference, checkpoint, protocol
        Of comparisons and curves, as ``compare`` takes them; `protocol` keeps one of several.
    preset : str
        Of ``schedule``.
    """

    named: tuple[str, ...]
    columns: int = 1
    metric: str = "mAP"
    reference: str | None = None
    checkpoint: str = "last"
    protocol: str | None = None
    preset: str = "paper"

    @property
    def rule(self) -> Checkpoint:
        """The checkpoint rule; see :func:`harness.tools.tables.checkpoint_rule`."""
        return checkpoint_rule(self.checkpoint)


def draw(kind: str, wanted: Wanted, out: Path) -> None:
    """Draw a figure and write it whole or not at all.

    Raises
    ------
    HarnessError, ResultsError
        Unknown kind, form or width; runs that are unfinished, damaged, too few or not comparable.
    """
    if kind not in KINDS:
        raise HarnessError(f"figure {kind}: {nearest(kind, KINDS)}")
    check_suffix(out)
    check_columns(wanted.columns)
    write_figure(KINDS[kind](wanted), out)


def runs_of(wanted: Wanted) -> tuple[Run, ...]:
    """Read the finished runs that were named, with the rows of one protocol if one was named.

    Raises
    ------
    HarnessError
        If none was named, or none was scored under the protocol.
    """
    if not wanted.named:
        raise HarnessError("which runs? Give run directories, or folders of them, as `runs`")
    runs = find_runs([Path(name) for name in wanted.named]).runs
    return chosen_runs(runs, wanted.protocol)


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
    return training({name: [run.history for run in runs] for name, runs in groups.items()}, wanted.columns)


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


KINDS: Mapping[str, Callable[[Wanted], Figure]] = {
    "forest": draw_forest,
    "cmc": draw_cmc,
    "pairs": draw_pairs,
    "training": draw_training,
    "schedule": draw_schedule,
    "stages": draw_stages,
    "scaling": draw_scaling,
}
