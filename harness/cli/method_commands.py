"""``reidbench list``, ``show`` and ``check-method``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import console, say


def list_(
    what: Annotated[str, typer.Argument(help="methods or protocols; both by default.")] = "all",
) -> None:
    """List the methods and protocols there are."""
    from harness.tools.pages import listing

    console().print(listing(what))


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="METHOD, METHOD:variant, or a protocol.", autocompletion=options.method_and_protocol_names
        ),
    ],
    diff: Annotated[
        str | None,
        typer.Option(
            "--diff", help="Another METHOD[:variant] to compare with.", autocompletion=options.method_names
        ),
    ] = None,
    preset: options.Preset = "paper",
    schedule: Annotated[bool, typer.Option("--schedule", help="Plot the schedules of eps and k2.")] = False,
    data: Annotated[
        str | None, typer.Option("--data", help="Of a protocol: a data root whose lists are counted.")
    ] = None,
) -> None:
    """Show where a method comes from, its configuration and who says so; or a protocol's rules and counts."""
    from harness.registry import protocols, unions

    if name in protocols() or name in unions():
        from harness.tools.protocol_pages import protocol_page

        console().print(protocol_page(name, data))
        return
    from harness.tools import pages as page

    console().print(page.diff(name, diff, preset) if diff else page.page(name, preset))
    if schedule:
        sys.stdout.write(page.schedule_plot(name, preset) + "\n")


def check_method(
    name: Annotated[str, typer.Argument(help="METHOD.", autocompletion=options.method_names)],
) -> None:
    """Try a method on tiny synthetic data: does it keep the contract? For authors of plug-ins; takes a minute."""
    import tempfile
    from pathlib import Path

    from harness.tools.contract import check_method as findings

    faults = 0
    with tempfile.TemporaryDirectory(prefix="reidbench-check-") as folder:
        for one in findings(name, Path(folder)):
            faults += not one.ok
            say(f"{'ok    ' if one.ok else 'FAILED'} {one.name}{'' if one.ok else f': {one.detail}'}")
    say(f"{name} keeps the contract" if not faults else f"{name}: {faults} of the points above failed")
    raise typer.Exit(1 if faults else 0)
