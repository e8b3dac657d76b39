"""What commands write to: tables on standard output, progress, warnings and errors on standard error."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from harness.training.progress import Reporter


def console() -> Console:
    """Return a console on standard output."""
    return Console(soft_wrap=False)


def make_reporter() -> Reporter:
    """Return a reporter on standard error, so that tables on standard output can be piped."""
    from harness.training.progress import Reporter

    return Reporter(Console(stderr=True))


def show_warnings_once() -> None:
    """Write each warning as one line, and never the same one again; Python's own filter forgets."""
    shown: set[str] = set()

    def show(message: Warning | str, *_args: object, **_more: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            sys.stderr.write(f"warning: {message}\n")

    warnings.showwarning = show
