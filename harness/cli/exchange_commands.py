"""``reidbench bundle``: to and from other people's hands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
