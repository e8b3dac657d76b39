"""``reidbench runs``, ``table``, ``cite``, ``compare``, ``report`` and ``score``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import say
from harness.errors import HarnessError, printable

ARRAYS_HELP = (
    ".npz, .mat or .pt with distance (queries x gallery, smaller is nearer), or query_features and gallery_features "
    "(rows of length one), and query_ids, gallery_ids; query_cams, gallery_cams where the protocol looks at cameras. "
    "With --data: features (n, d), paths (n,) and, where each trial has a training of its own, split."
)
METRICS_SHOWN = "r1,map"
CheckpointOption = Annotated[
    list[str] | None,
    typer.Option("--checkpoint", help="Also show these epochs: best-of-last-stage, as public codes report."),
]


def table(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    layout: Annotated[
        str,
        typer.Option(
            help="one (a line a setting), paper (settings side by side) or ablation (a method's parts ticked)."
        ),
    ] = "one",
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="md, latex or csv; with a layout also html or terminal; parquet: all rows, into the folder --out.",
        ),
    ] = "md",
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Add the numbers of papers, with sources.")
    ] = False,
    checkpoint: CheckpointOption = None,
    metrics: Annotated[
        str, typer.Option(help="With a layout: columns, of r1, r5, r10, r20, map, minp.")
    ] = METRICS_SHOWN,
    std: Annotated[bool, typer.Option(help="With a layout: standard deviations beside the means.")] = True,
    against: Annotated[
        str | None, typer.Option(help="With a layout: add differences from this method, with intervals.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write instead of printing; with --format parquet the folder."),
    ] = None,
    where: options.Where = None,
    label: options.Label = None,
) -> None:
    """Compare finished runs in one table, or in tables as papers print them."""
    if format_ == "parquet":
        write_frames(runs, out, layout, where or (), label or ())
        return
    from harness.tools.tables import checkpoints_shown, render

    if layout == "one":
        if (metrics, std, against) != (METRICS_SHOWN, True, None):
            raise HarnessError("--metrics, --no-std and --against go with --layout paper or ablation")
        shown = checkpoints_shown(checkpoint or ())
        deliver(render(runs, format_, protocol, published, shown, where=where or (), labels=label or ()), out)
        return
    from harness.tools.layouts import render_layout, wanted_of

    epochs = tuple(
        rule for rule in checkpoints_shown(checkpoint or ()) if rule in ("last", *(checkpoint or ()))
    )
    wanted = wanted_of(metrics, published, std, against, epochs)
    deliver(
        render_layout(runs, layout, format_, protocol, wanted, where=where or (), labels=label or ()), out
    )


def deliver(text: str, out: Path | None) -> None:
    """Print a text, or write it to a file."""
    if out is None:
        sys.stdout.write(text)
        return
    from harness.runs.files import write_atomic

    write_atomic(out, text.encode())
    say(f"written: {out}")


def runs_(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]...", help="Folders of runs, or bundles; runs by default."),
    ] = None,
    where: options.Where = None,
    label: options.Label = None,
    format_: Annotated[str, typer.Option("--format", help="text, csv or json (both with paths).")] = "text",
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Delete of finished runs what only resuming needs: optimisers' state."),
    ] = False,
) -> None:
    """List every run: method, what differs from its preset, state, epochs, headline mAP and age."""
    from harness.tools.overview import as_text, overview

    rows, faults = overview(folders or [Path("runs")], where or (), label or ())
    sys.stdout.write(as_text(rows, format_))
    if prune:
        from harness.tools.pruning import prune_runs

        done = prune_runs([Path(row["path"]) for row in rows if row["state"] == "finished"])
        say(f"{done.runs} finished runs pruned: {done.freed / 2**20:.1f} MiB free")
    for fault in faults:
        sys.stderr.write(f"warning: {printable(fault)}\n")


def cite(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, folders of them, or bundles.")],
    where: options.Where = None,
) -> None:
    """Print BibTeX of the methods and data sets that finished runs used."""
    from harness.tools.citing import citations

    sys.stdout.write(citations(runs, where or ()))


def write_frames(
    runs: list[Path], out: Path | None, layout: str, where: Sequence[str], labels: Sequence[str]
) -> None:
    """Write all rows of runs as Parquet."""
    from results.frames import load, write_parquet

    if out is None or layout != "one":
        raise HarnessError("--format parquet writes all rows of runs into the folder --out, without a layout")
    for path in write_parquet(load(*runs, where=where, labels=labels), out):
        say(f"written: {path}")


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
    where: options.Where = None,
    label: options.Label = None,
) -> None:
    """Say whether methods differ, query by query, with intervals (docs/statistics.md)."""
    from harness.tools.tables import Comparison, compare_methods

    wanted = Comparison(tuple(methods or ()), all_, reference, metric, checkpoint)
    text = compare_methods(runs or [Path("runs")], wanted, format_, where=where or (), labels=label or ())
    sys.stdout.write(text)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    checkpoint: CheckpointOption = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Root of a data set: adds ranked lists with their images, small; repeatable."),
    ] = None,
    where: options.Where = None,
    label: options.Label = None,
) -> None:
    """Write a self-contained HTML report of finished runs: it loads nothing, and works without a network."""
    from harness.runs.files import check_folder
    from harness.tools.tables import checkpoints_shown, write_report

    check_folder(out)
    shown = checkpoints_shown(checkpoint or ())
    write_report(runs, out, shown, images or (), where=where or (), labels=label or ())
    say(f"report: {out}")


def score(
    file: Annotated[Path, typer.Argument(help=ARRAYS_HELP)],
    protocol: Annotated[
        str,
        typer.Option(help="As `reidbench list protocols` names it.", autocompletion=options.protocol_names),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Data root, or the lists of `data export`: the file holds features by paths, and every list, trial "
            "and setting of the protocol is scored.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write, values in percent.")] = None,
) -> None:
    """Score anybody's result by a protocol's rules: one trial from its arrays, or all of them from features by path."""
    from harness.runs.files import write_atomic
    from harness.tools.score import one_protocol, score_file

    if data is None:
        frame = score_file(file, protocol)
        lines = [f"{row.metric:8} {row.value:6.2f} %" for row in frame.itertuples()]
    else:
        from harness.tools.score_paths import score_by_path, summary_lines

        chosen = one_protocol(protocol)
        frame = score_by_path(file, chosen, data)
        lines = list(summary_lines(frame, chosen.dataset.n_trials))
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    for line in lines:
        say(line)
