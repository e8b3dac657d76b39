"""What commands write to: tables on standard output, progress, warnings and errors on standard error."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from typing import TYPE_CHECKING

from rich.console import Console

from harness.errors import brief, printable

if TYPE_CHECKING:
    from harness.training.progress import Reporter

PLAIN = {
    "±": "+-",
    "–": "-",
    "×": "x",
    "…": "...",
    "→": "->",
    "²": "2",
    "≤": "<=",
    "≥": ">=",
    "─": "-",
    "━": "-",
}
"""What stands for characters that a terminal's or a pipe's encoding lacks; others are spelled out."""


def write_anywhere() -> None:
    """Let standard output and error take any text, whatever their encoding."""
    codecs.register_error("plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def plain(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that could not be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(one, ascii(one)[1:-1]) for one in lacking), error.end


PIPED_WIDTH = 100_000
"""Columns of what goes into a file or another program, where nothing is to be cut or folded."""


def console() -> Console:
    """Return a console on standard output; of any width if that is no terminal and no COLUMNS says otherwise."""
    free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(soft_wrap=False, width=PIPED_WIDTH if free else None)


def say(text: str) -> None:
    """Print a line on standard output as it is, however long."""
    console().print(text, highlight=False, markup=False, soft_wrap=True)


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
            sys.stderr.write(f"warning: {printable(brief(str(message)))}\n")

    warnings.showwarning = show
