"""From run directories to what a person looks at: tables, the report, and stage timings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness.errors import HarnessError
from harness.registry import load_protocols, protocols
from results import (
    Run,
    Table,
    compare,
    comparison_csv,
    comparison_words,
    find_runs,
    published_figures,
    to_csv,
    to_latex,
    to_markdown,
    with_published,
)
from results.formats import rich_table
from results.schema import CHECKPOINTS, Checkpoint
from results.tables import SHOWN, comparison_of

FORMATS = {"md": to_markdown, "latex": to_latex, "csv": to_csv}


def table_of(
    runs: Sequence[Run], protocol: str | None = None, checkpoints: Sequence[Checkpoint] = SHOWN
) -> Table:
    """Compare finished runs, under one protocol or under all but the extra ones that they were scored by.

    Raises
    ------
    HarnessError
        If no run was scored under that protocol, or there is no such protocol.
    ResultsError
        If the runs cannot be compared.
    """
    runs = chosen_runs(runs, protocol)
    return comparison_of(runs, checkpoints)


def chosen_runs(runs: Sequence[Run], protocol: str | None) -> tuple[Run, ...]:
    """Return runs with their rows of one protocol, or of all but the extra ones.

    Raises
    ------
    HarnessError
        If no run was scored under that protocol, or there is no such protocol.
    """
    if protocol is None:
        return without_extras(runs)
    names = [one.id for one in load_protocols(protocol)]
    chosen = tuple(replace(run, metrics=run.metrics[run.metrics["protocol"].isin(names)]) for run in runs)
    if runs and all(run.metrics.empty for run in chosen):
        known = ", ".join(sorted({one for run in runs for one in run.metrics["protocol"]}))
        raise HarnessError(f"no run was scored under {protocol}; there are rows of {known}")
    return tuple(run for run in chosen if len(run.metrics))


def without_extras(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Leave out the rows of protocols that stand in no table unless they are asked for."""
    extras = [entry.name for entry in protocols().values() if entry.extra]
    return tuple(replace(run, metrics=run.metrics[~run.metrics["protocol"].isin(extras)]) for run in runs)


def checkpoints_shown(further: Sequence[str]) -> tuple[Checkpoint, ...]:
    """Return the checkpoint rules of a table: the usual ones and those asked for.

    Raises
    ------
    HarnessError
        If there is no such rule.
    """
    asked = {checkpoint_rule(name) for name in further}
    return tuple(rule for rule in CHECKPOINTS if rule in SHOWN or rule in asked)


def checkpoint_rule(name: str) -> Checkpoint:
    """Return the checkpoint rule of a name.

    Raises
    ------
    HarnessError
        If there is no such rule.
    """
    if name not in CHECKPOINTS:
        raise HarnessError(f"--checkpoint {name}: expected one of {', '.join(CHECKPOINTS)}")
    return name


def render(
    paths: Sequence[Path],
    format_: str,
    protocol: str | None,
    with_papers: bool,
    checkpoints: Sequence[Checkpoint] = SHOWN,
    *,
    where: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> str:
    """Return the comparison table of the finished runs below `paths` as text.

    Parameters
    ----------
    format_ : str
        ``md``, ``latex`` or ``csv``.
    with_papers : bool
        Add the numbers that papers print, with their sources.
    where, labels : sequence of str
        As :func:`results.find_runs` takes them.
    """
    if format_ not in FORMATS:
        raise HarnessError(f"--format {format_}: expected {', '.join(FORMATS)}")
    table = table_of(find_runs(paths, where, labels).runs, protocol, checkpoints)
    return FORMATS[format_](with_published(table, published_figures()) if with_papers else table)


@dataclass(frozen=True)
class Comparison:
    """Which methods to compare, and by what.

    Attributes
    ----------
    methods : tuple of str
        Two, or none where all are compared.
    every : bool
        Compare every pair, or each with `reference`.
    """

    methods: tuple[str, ...] = ()
    every: bool = False
    reference: str | None = None
    metric: str = "mAP"
    checkpoint: str = "last"

    def check(self) -> None:
        """Refuse what contradicts itself."""
        checkpoint_rule(self.checkpoint)
        if self.every == bool(self.methods) or (not self.every and len(self.methods) != 2):
            raise HarnessError(
                "compare: give two methods (`reidbench compare dmic pgm`), or --all (with --reference M: each "
                "against M)"
            )
        if self.reference is not None and not self.every:
            raise HarnessError("--reference goes with --all; two methods are compared with each other")


def compare_methods(
    paths: Sequence[Path],
    wanted: Comparison,
    format_: str = "words",
    *,
    where: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> str:
    """Compare the methods of the finished runs below `paths`, in words or as CSV.

    Raises
    ------
    HarnessError
        If the request contradicts itself.
    ResultsError
        As :func:`results.compare`.
    """
    wanted.check()
    if format_ not in ("words", "csv"):
        raise HarnessError(f"--format {format_}: expected words or csv")
    found = compare(
        find_runs(paths, where, labels).runs,
        *wanted.methods,
        metric=wanted.metric,
        reference=wanted.reference,
        checkpoint=checkpoint_rule(wanted.checkpoint),
    )
    return comparison_csv(found) if format_ == "csv" else comparison_words(found)


def write_report(
    paths: Sequence[Path],
    out: Path,
    checkpoints: Sequence[Checkpoint] = SHOWN,
    images: Sequence[Path] = (),
    *,
    where: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> None:
    """Write the HTML report of the finished runs below `paths`, with ranked lists of the data roots `images`.

    Raises
    ------
    HarnessError
        If no run is of a data set that lies at one of the roots.
    """
    from results.report import write_report as write_html  # matplotlib, which tables go without

    found = find_runs(paths, where, labels)
    runs = without_extras(found.runs)
    sheets = {}
    if images:
        from harness.tools.ranked_lists import sheets_of

        sheets = sheets_of(runs, images)
    write_html(replace(found, runs=runs), out, checkpoints, sheets)


def last_scores(path: Path) -> list[str]:
    """Say rank-1 and mAP of a run's last epoch under each setting, means over trials."""
    rows = find_runs([path]).runs[0].metrics.query("checkpoint == 'last'")
    means = rows.pivot_table(index=["protocol", "setting"], columns="metric", values="value")
    return [
        f"{protocol}, {setting}: rank-1 {row['rank-1']:.2f} %, mAP {row['mAP']:.2f} %"
        for (protocol, setting), row in zip(means.index.tolist(), means.to_dict("records"), strict=True)
    ]


def show_results(paths: Sequence[Path], protocol: str | None, console: Console) -> None:
    """Print the comparison table of finished runs, their stage timings, and where the files are."""
    runs = find_runs(paths).runs
    console.print(rich_table(table_of(runs, protocol)))
    console.print(timing_table(runs))
    for run in runs:
        console.print(f"files of run {run.id}: {run.path}", highlight=False, markup=False, soft_wrap=True)


def timing_table(runs: Iterable[Run]) -> RichTable:
    """Return wall time and peak memory of every stage, over all epochs of the runs."""
    frame = pd.concat([run.profile for run in runs], ignore_index=True)
    table = RichTable(title="stage timings, all runs")
    for name in ("stage", "calls", "wall s", "share", "peak MiB", "device"):
        table.add_column(name, justify="left" if name in ("stage", "device") else "right")
    whole = frame["wall_s"].sum()
    for stage, part in frame.groupby("stage", sort=False):
        wall = part["wall_s"].sum()
        table.add_row(
            Text(str(stage)),
            str(part["calls"].sum()),
            f"{wall:.2f}",
            f"{wall / whole:.1%}",
            f"{part['peak_memory_mib'].max():.0f}",
            Text(", ".join(sorted(set(part["device"])))),
        )
    return table


def text_table(frame: pd.DataFrame) -> str:
    """Return a data frame as aligned text of whatever width: four digits, a dash for what is missing."""
    texts = frame.apply(lambda column: column.map(_cell)) if len(frame) else frame
    return str(texts.to_string(index=False))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"
    return str(value)
