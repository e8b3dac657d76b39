"""``reidbench bundle``: to and from other people's hands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import make_reporter, say

RUNS_HELP = "Run directories, folders of them, or bundles."


def bundle(
    runs: Annotated[list[Path], typer.Argument(help=RUNS_HELP)],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("bundle.zip"),
) -> None:
    """Put finished runs into one file for others: rows, ranks, history and manifest, no images, no weights.

    Commands that take runs take it as well. The manifests name the folder of your data.
    """
    from harness.tools.bundle import bundle as write

    done = write(runs, out)
    reporter = make_reporter()
    for folder in done.unfinished:
        reporter.line(f"left out, as it has not finished: {folder}")
    for root in done.data_roots:
        reporter.line(f"the manifests in it name this folder of yours: {root}")
    say(f"{out}: {done.runs} runs, {done.size / 2**20:.1f} MiB")


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            help="FEATURES.npz (paths below the data root, features), module:function, model.ts or model.onnx. A model "
            "and a function are code, and are run."
        ),
    ],
    name: Annotated[str, typer.Option(help="How tables call it.")],
    protocol: Annotated[
        str,
        typer.Option(help="As `reidbench list protocols` names it.", autocompletion=options.protocol_names),
    ],
    supervision: Annotated[str, typer.Option(help="What it was trained with: usl, supervised, none.")],
    division: Annotated[
        str, typer.Option(help="closed if backbone, input and features are the protocol's own; else open.")
    ] = "open",
    trial: Annotated[
        int | None, typer.Option(help="Trial it was trained for, where each has a training.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of its training.")] = 0,
    height: Annotated[int, typer.Option(min=1, help="Of the images that a model is given.")] = 288,
    width: Annotated[int, typer.Option(min=1, help="Likewise.")] = 144,
    flip: Annotated[bool, typer.Option(help="Average a model's features with those of the mirror.")] = True,
    data: options.Data = None,
    out: options.Out = Path("runs"),
    device: options.Device = "auto",
    allow_partial: options.AllowPartial = False,
    twin_seed: options.TwinSeed = 0,
) -> None:
    """Score a method from elsewhere as a run like any other, for the same tables and comparisons.

    A model is called with images (b, 3, height, width), normalised as ImageNet's, and, if it takes two arguments, their
    modality (b,): 0 visible, 1 infrared. Features are made unit rows, and compared by the cosine.
    """
    from harness.runs.task import Execution
    from harness.tools.evaluate import Submission
    from harness.tools.evaluate import evaluate as score
    from harness.tools.tables import last_scores

    wanted = Submission(
        source,
        name,
        protocol,
        data,
        supervision,
        division,
        trial,
        seed,
        height,
        width,
        flip,
        allow_partial,
        twin_seed,
    )
    directory = score(wanted, Execution(device=device, out=out), make_reporter())
    for line in last_scores(directory.path):
        say(line)
    say(f"run: {directory.path}")


def diff(
    a: Annotated[Path, typer.Argument(help="Directory of a finished run, or a bundle of one.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Say in what two runs differ: what they were made of, and the first epoch and column in which they part.

    Ends with exit code 1 if there is a difference.
    """
    from harness.tools.diff import diff as compare

    found = compare(a, b)
    for line in found.lines():
        say(line)
    if not found.equal:
        raise typer.Exit(1)


def leaderboard(
    bundles: Annotated[list[Path], typer.Argument(help=RUNS_HELP)],
    out: Annotated[Path, typer.Option(help="Folder to write, new or a leaderboard's.")] = Path("site"),
) -> None:
    """Make static pages of bundles: every score computed anew, a table a protocol, each line with its manifests."""
    from harness.tools.leaderboard import leaderboard as make

    for line in make(bundles, out):
        say(line)
