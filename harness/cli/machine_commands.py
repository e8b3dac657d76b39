"""``reidbench doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import console


def doctor(
    where: Annotated[
        Path | None,
        typer.Argument(help="A run's directory or a data root to look over. Default: this machine."),
    ] = None,
    out: options.Out = Path("runs"),
    images: options.Images = Path("data/images"),
) -> None:
    """Check versions, devices, faiss, disk and data roots, or a run, or data; say what is wrong and how to fix it."""
    from harness.tools.doctor import doctor as machine
    from harness.tools.doctor import doctor_page
    from harness.tools.inspection import inspect

    if where is None:
        page, healthy = doctor_page(machine(out, images))
    else:
        page, healthy = doctor_page(inspect(where), f"reidbench doctor {where}")
    console().print(page, soft_wrap=where is not None)
    raise typer.Exit(0 if healthy else 1)
