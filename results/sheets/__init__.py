"""Tables as papers print them: several settings side by side, rows in groups by supervision, best and second marked.

``values`` says what a table holds, ``naming`` what papers call things, ``own_rows`` and ``published_rows`` make rows of
runs and of papers, ``layouts`` puts them together, ``forms`` and ``latex`` print them.
"""

from results.sheets.forms import to_csv, to_html, to_markdown, to_terminal
from results.sheets.latex import to_latex
from results.sheets.layouts import ablation_sheets, paper_sheets
from results.sheets.naming import Paper
from results.sheets.values import Sheet, Wanted

__all__ = [
    "Paper",
    "Sheet",
    "Wanted",
    "ablation_sheets",
    "paper_sheets",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_terminal",
]
