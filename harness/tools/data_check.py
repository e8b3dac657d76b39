"""The page of ``reidbench data check``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from harness.runs.data import recognise
from harness.tools.grid import text_grid
from protocols.check import CheckReport, check


def check_page(root: Path, allow_partial: bool) -> tuple[RenderableType, bool]:
    """Return what a data check found, and whether the data may be used.

    Parameters
    ----------
    root : Path
    allow_partial : bool
        Take wrong counts as a warning; unreadable and duplicate images stay errors.
    """
    report = check(root, recognise(root))
    wrong = "differs" if allow_partial else "WRONG"
    rows = [(row.what, row.expected, row.found, "ok" if row.ok else wrong) for row in report.rows]
    kind = "synthetic twin" if report.synthetic else "real data"
    counts = text_grid(f"{root}: {report.dataset.name}, {kind}", ("count", "expected", "found", ""), rows)
    usable = not report.problems and (report.counts_ok or (allow_partial and not report.synthetic))
    lines = [*report.problems, check_verdict(report, allow_partial)]
    return Group(counts, Text("\n".join(lines))), usable


def check_verdict(report: CheckReport, allow_partial: bool) -> str:
    """Say in one line what to do with the data."""
    if report.problems:
        n = len(report.problems)
        return f"{n} file{'s' * (n > 1)} must be mended before use"
    if report.counts_ok:
        return "the data may be used"
    if report.synthetic:
        return "the twin is damaged: delete it and make it again with reidbench data synth"
    if allow_partial:
        return "the data may be used; every row made from them is marked real-partial"
    return "restore the missing files, or use --allow-partial-data, which marks every row"
