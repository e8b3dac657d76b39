"""``reidbench table``, ``compare``, ``report`` and ``score``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import console

CheckpointOption = Annotated[
    list[str] | None,
    typer.Option("--checkpoint", help="Also show these epochs: best-of-last-stage, as public codes report."),
]


def table(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    format_: Annotated[str, typer.Option("--format", help="md, latex or csv.")] = "md",
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Add the numbers of papers, with sources.")
    ] = False,
    checkpoint: CheckpointOption = None,
) -> None:
    """Compare finished runs in one table."""
    from harness.tools.tables import checkpoints_shown, render

    shown = checkpoints_shown(checkpoint or ())
    sys.stdout.write(render(runs, format_, protocol, published, shown))


def compare(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="Two methods, as tables name them: dmic, dmic:mie, dmic @ demo."),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every pair of methods that there are runs of.")
    ] = False,
    reference: Annotated[
        str | None, typer.Option(help="With --all: each other method against this one alone.")
    ] = None,
    metric: Annotated[str, typer.Option(help="mAP, mINP or rank-K, as rank-1.")] = "mAP",
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", help="Run directories, or folders of them; runs by default."),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Epoch: last, best-on-test or best-of-last-stage.")
    ] = "last",
    format_: Annotated[str, typer.Option("--format", help="words or csv.")] = "words",
) -> None:
    """Say whether methods differ, query by query, with intervals (docs/statistics.md)."""
    from harness.tools.tables import Comparison, compare_methods

    wanted = Comparison(tuple(methods or ()), all_, reference, metric, checkpoint)
    sys.stdout.write(compare_methods(runs or [Path("runs")], wanted, format_))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    checkpoint: CheckpointOption = None,
) -> None:
    """Write a self-contained HTML report of finished runs."""
    from harness.tools.tables import checkpoints_shown, write_report

    write_report(runs, out, checkpoints_shown(checkpoint or ()))
    console().print(f"report: {out}", highlight=False, markup=False, soft_wrap=True)


def score(
    file: Annotated[Path, typer.Argument(help=".npz with distance or features, ids and cameras.")],
    protocol: Annotated[
        str,
        typer.Option(help="As `reidbench list protocols` names it.", autocompletion=options.protocol_names),
    ],
    out: Annotated[Path | None, typer.Option(help="CSV file to write: metric,value in percent.")] = None,
) -> None:
    """Score anybody's result by a protocol's rules."""
    from harness.runs.files import write_atomic
    from harness.tools.score import score_file

    frame = score_file(file, protocol)
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    for row in frame.itertuples():
        console().print(f"{row.metric:8} {row.value:6.2f} %", highlight=False)
