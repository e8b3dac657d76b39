"""``reidbench list`` and ``reidbench show``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import console


def list_(
    what: Annotated[str, typer.Argument(help="methods or protocols; both by default.")] = "all",
) -> None:
    """List the methods and protocols there are."""
    from harness.tools.pages import listing

    console().print(listing(what))


def show(
    method: Annotated[
        str, typer.Argument(help="METHOD or METHOD:variant.", autocompletion=options.method_names)
    ],
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff", help="Another METHOD[:variant] to compare with.", autocompletion=options.method_names
        ),
    ] = None,
    preset: options.Preset = "paper",
    schedule: Annotated[bool, typer.Option("--schedule", help="Plot the schedules of eps and k2.")] = False,
) -> None:
    """Show where a method comes from, its configuration per data set, and who says so."""
    from harness.tools import pages as page

    console().print(page.diff(method, diff, preset) if diff else page.page(method, preset))
    if schedule:
        sys.stdout.write(page.schedule_plot(method, preset) + "\n")
