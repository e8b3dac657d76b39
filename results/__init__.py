"""What comes out of runs: their rows as pandas frames, and the tables, figures and report made of them.

``schema`` names the columns, ``store`` reads and writes the files of a run, ``comparable`` refuses rows that do not
belong in one table, ``tables``, ``statistics`` and ``published`` compare, ``formats``, ``figures`` and ``report`` show.
Nothing here trains, scores or reads images, and nothing imports the rest of the project: what a table needs to know of
a data set or a method stands in the rows.
"""

from results.comparisons import compare, comparison_csv, comparison_words
from results.formats import Table, rich_table, to_csv, to_latex, to_markdown
from results.frames import Frames, load
from results.published import published_figures, with_published
from results.schema import HistoryRow, MetricRow, ProfileRow, ResultsError
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
