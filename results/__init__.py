"""What comes out of runs: their rows as pandas frames, and the tables, figures and report made of them.

``schema`` names the columns, ``store`` reads and writes the files of a run, ``comparable`` refuses rows that do not
belong in one table, ``tables``, ``statistics`` and ``published`` compare, ``formats``, ``figures`` and ``report`` show.
Nothing here trains, scores or reads images, and nothing imports the rest of the project: what a table needs to know of
a data set or a method stands in the rows.

A name is imported when it is first used: what looks at manifests or writes a file waits for no pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.comparisons import compare, comparison_csv, comparison_words
    from results.errors import ResultsError
    from results.formats import Table, rich_table, to_csv, to_latex, to_markdown
    from results.frames import Frames, load
    from results.published import published_figures, with_published
    from results.schema import HistoryRow, MetricRow, ProfileRow
    from results.store import FoundRuns, Run, find_runs, load_histories, load_runs
    from results.tables import comparison

__all__ = [
    "FoundRuns",
    "Frames",
    "HistoryRow",
    "MetricRow",
    "ProfileRow",
    "ResultsError",
    "Run",
    "Table",
    "compare",
    "comparison",
    "comparison_csv",
    "comparison_words",
    "find_runs",
    "load",
    "load_histories",
    "load_runs",
    "published_figures",
    "rich_table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "with_published",
]

HOME = {
    "comparisons": ("compare", "comparison_csv", "comparison_words"),
    "errors": ("ResultsError",),
    "formats": ("Table", "rich_table", "to_csv", "to_latex", "to_markdown"),
    "frames": ("Frames", "load"),
    "published": ("published_figures", "with_published"),
    "schema": ("HistoryRow", "MetricRow", "ProfileRow"),
    "store": ("FoundRuns", "Run", "find_runs", "load_histories", "load_runs"),
    "tables": ("comparison",),
}
"""Which module each name comes from."""


def __getattr__(name: str) -> Any:
    for module, names in HOME.items():
        if name in names:
            return getattr(import_module(f"results.{module}"), name)
    raise AttributeError(f"module 'results' has no attribute {name!r}")
