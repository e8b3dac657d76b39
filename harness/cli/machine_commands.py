"""``reidbench doctor``."""

from __future__ import annotations

from pathlib import Path

import typer

from harness.cli import options
from harness.cli.console import console


def doctor(out: options.Out = Path("runs")) -> None:
    """Check versions, devices, faiss, disk and data roots; say what is wrong and how to fix it."""
    from harness.tools.doctor import doctor_page

    page, healthy = doctor_page(out)
    console().print(page)
    raise typer.Exit(0 if healthy else 1)
