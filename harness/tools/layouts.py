"""``reidbench table --layout paper`` and ``--layout ablation``: tables that go into a paper as they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.errors import HarnessError
from harness.tools.papers import headings, paper_of, titles
from harness.tools.tables import chosen_runs
from results import find_runs
from results.published import printed_figures
from results.schema import Checkpoint
from results.sheets import (
    Sheet,
    Wanted,
    ablation_sheets,
    paper_sheets,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_terminal,
)
from results.sheets.values import metric_of

LAYOUTS = {"paper": paper_sheets, "ablation": ablation_sheets}
TERMINAL_WIDTH = 200
"""Characters of a table that is printed for a terminal but goes elsewhere."""


def wanted_of(
    metrics: str, published: bool, deviations: bool, against: str | None, checkpoints: Sequence[Checkpoint]
) -> Wanted:
    """Return what a table is to show; `metrics` are separated by commas, as ``r1,map``.

    Raises
    ------
    ResultsError
        If there is no such metric.
    """
    names = tuple(dict.fromkeys(metric_of(name) for name in metrics.split(",") if name.strip()))
    figures = printed_figures() if published else None
    return Wanted(names, tuple(checkpoints), deviations, figures, against, titles(), headings())


def terminal_text(sheets: Sequence[Sheet]) -> str:
    """Return tables as a terminal shows them, without colours."""
    file = io.StringIO()
    Console(file=file, width=TERMINAL_WIDTH, color_system=None).print(to_terminal(sheets))
    return file.getvalue()


FORMATS = {
    "md": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "html": to_html,
    "terminal": terminal_text,
}


def render_layout(
    paths: Sequence[Path],
    layout: str,
    format_: str,
    protocol: str | None,
    wanted: Wanted,
    *,
    where: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> str:
    """Return the tables of finished runs, one a data set, or one a data set and ablation.

    Raises
    ------
    HarnessError
        If there is no such layout or format.
    ResultsError
        As :func:`results.sheets.paper_sheets`.
    """
    if layout not in LAYOUTS:
        raise HarnessError(f"--layout {layout}: expected {', '.join(('one', *LAYOUTS))}")
    if format_ not in FORMATS:
        raise HarnessError(f"--format {format_}: expected {', '.join(FORMATS)}")
    runs = chosen_runs(find_runs(paths, where, labels).runs, protocol)
    return FORMATS[format_](LAYOUTS[layout](runs, wanted, paper_of))
