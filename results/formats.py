"""A comparison table, and its forms: Markdown, LaTeX, CSV, terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from results.schema import Checkpoint

HEADLINE = "last epoch"
LEAK = "best on test: leak"
LAST_STAGE_LEAK = "best of last stage: leak"
QUALITY = "pseudo-labels"
PRINTED = "as published"
GROUPS: dict[Checkpoint, str] = {
    "last": HEADLINE,
    "best-on-test": LEAK,
    "best-of-last-stage": LAST_STAGE_LEAK,
}
"""Heading of the columns of each checkpoint rule."""
GROUP_ORDER = (*GROUPS.values(), QUALITY, PRINTED)
ABSENT = "–"
PLACE = ("protocol", "setting")
ALWAYS = (*PLACE, "method")
TERMINAL = {
    HEADLINE: ("rank-1", "mAP"),
    LEAK: ("mAP",),
    LAST_STAGE_LEAK: ("mAP",),
    PRINTED: ("rank-1", "mAP"),
}
"""Metrics of each group for which 80 columns have room."""
ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "[": "{[}",  # after a line's end, [ and * would be arguments of it
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "–": "--",
    "Δ": r"$\Delta$",
    "✓": r"\checkmark{}",
}


@dataclass(frozen=True)
class Table:
    """Means and standard deviations with all that is needed to read them.

    Attributes
    ----------
    about : DataFrame (m, a) of texts
        What each line is: protocol, setting, method, and every attribute.
    mean, std : float64 DataFrames (m, k)
        Columns are (group, metric); NaN where there is no value. Percent, ARI between -1 and 1.
    shown : tuple of str
        Columns of `about` that printed forms show; the others are equal in all lines, and in the caption.
    caption : tuple of str
        Sentences that belong under the table.
    """

    about: pd.DataFrame
    mean: pd.DataFrame
    std: pd.DataFrame
    shown: tuple[str, ...]
    caption: tuple[str, ...]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(group, metric) of every column of numbers."""
        return [(str(column[0]), str(column[1])) for column in self.mean.columns.tolist()]

    def header(self) -> list[str]:
        """Return one name per printed column; a group other than the headline is spelled out."""
        return [*self.shown, *(full_name(group, name) for group, name in self.columns)]

    def lines(self) -> list[list[str]]:
        """Return the printed cells, line by line."""
        texts = self.about[list(self.shown)].to_numpy().tolist()
        means, stds = self.mean.to_numpy().tolist(), self.std.to_numpy().tolist()
        lines = []
        for row, words in enumerate(texts):
            cells = [word or ABSENT for word in words]
            cells += map(cell, means[row], stds[row])
            lines.append(cells)
        return lines


def full_name(group: str, name: str) -> str:
    """Return a column's name outside its group's heading."""
    return name if group == HEADLINE else f"{name} ({group})"


def cell(mean: float, std: float) -> str:
    """Return ``mean ± std`` with two decimals; the mean alone if there is no deviation."""
    if math.isnan(mean):
        return ABSENT
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def to_markdown(table: Table) -> str:
    """Return a Markdown table (numbers to the right) and its caption as a list."""
    rule = ["---"] * len(table.shown) + ["---:"] * table.mean.shape[1]
    lines = []
    for row in (table.header(), rule, *table.lines()):
        cells = " | ".join(text.replace("|", r"\|") for text in row)
        lines.append(f"| {cells} |")
    lines.append("")
    lines += [f"- {sentence}" for sentence in table.caption]
    return "\n".join([*lines, ""])


def escape(text: str) -> str:
    """Escape a text for LaTeX."""
    return "".join(ESCAPES.get(character, character) for character in text)


def headings(table: Table) -> Iterator[tuple[str, int, int]]:
    """Yield (group, first column, last column) of neighbouring columns; columns count from 1."""
    start = len(table.shown) + 1
    for group, members in groupby(table.columns, key=lambda column: column[0]):
        width = len(list(members))
        yield group, start, start + width - 1
        start += width


def to_latex(table: Table) -> str:
    """Return a LaTeX table, with the caption: a block of columns for each group; all texts are escaped."""
    blocks = []
    for name, first, last in headings(table):
        chosen = range(first - len(table.shown) - 1, last - len(table.shown))
        blocks += latex_block(table, name, chosen)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx}; for a paper's columns: reidbench table --layout paper",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(' '.join(table.caption))}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{3pt}",
            *blocks,
            r"\end{table}",
            "",
        ]
    )


def latex_block(table: Table, group: str, chosen: Sequence[int]) -> list[str]:
    """Return one group of columns, with the lines' texts, as a block no wider than the line; blocks stand in a pile."""
    texts = len(table.shown)
    span = rf"\multicolumn{{{len(chosen)}}}{{c}}{{{escape(group)}}}"
    rows = [[*cells[:texts], *(cells[texts + i] for i in chosen)] for cells in table.lines()]
    return [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * texts}{'r' * len(chosen)}}}",
        r"\toprule",
        " & ".join([*[""] * texts, span]) + r" \\",
        rf"\cmidrule(lr){{{texts + 1}-{texts + len(chosen)}}}",
        latex_row([*table.shown, *(table.columns[i][1] for i in chosen)]),
        r"\midrule",
        *map(latex_row, rows),
        r"\bottomrule",
        r"\end{tabular}}\par\medskip",
    ]


def latex_row(texts: Sequence[str]) -> str:
    """Return one line of a LaTeX table."""
    return " & ".join(map(escape, texts)) + r" \\"


def to_csv(table: Table) -> str:
    """Return every attribute, mean and deviation with all digits; no value is an empty field."""
    values: dict[str, Any] = {str(name): table.about[name].tolist() for name in table.about.columns}
    for column, (group, name) in enumerate(table.columns):
        heading = full_name(group, name)
        values[heading] = table.mean.iloc[:, column].tolist()
        values[f"{heading} std"] = table.std.iloc[:, column].tolist()
    return pd.DataFrame(values).to_csv(index=False, lineterminator="\n")


def short_cell(mean: float, std: float, digits: int) -> str:
    """Return ``mean±std`` for a narrow terminal."""
    if math.isnan(mean):
        return ABSENT
    return f"{mean:.{digits}f}" if math.isnan(std) else f"{mean:.{digits}f}±{std:.{digits}f}"


def terminal_heading(group: str, name: str) -> str:
    """Return a column's name in short lines."""
    if group in (HEADLINE, QUALITY):
        return name.replace(" ", "\n")
    return f"{name}\n" + group.replace(" test", "\ntest").replace(" stage", "\nstage")


def constant(table: Table) -> list[str]:
    """Return the shown attributes that are equal in all lines: a terminal shows them in the title."""
    return [name for name in table.shown if name not in ALWAYS and table.about[name].nunique() == 1]


def section(table: Table, chosen: Sequence[int], rows: Sequence[int], title: str) -> RichTable:
    """Return one protocol's and setting's lines for a terminal, with the `chosen` columns of numbers."""
    shown = [name for name in table.shown if name not in (*PLACE, *constant(table))]
    part = RichTable(
        title=Text(title, style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for name in shown:
        part.add_column(Text(name), overflow="fold")
    for i in chosen:
        part.add_column(Text(terminal_heading(*table.columns[i])), justify="right", no_wrap=True)
    means, stds = table.mean.to_numpy(), table.std.to_numpy()
    for row in rows:
        texts = [table.about[name].iloc[row] or ABSENT for name in shown]
        for i in chosen:
            digits = 2 if table.columns[i][0] == QUALITY else 1
            texts.append(short_cell(float(means[row, i]), float(stds[row, i]), digits))
        part.add_row(*map(Text, texts))
    return part


def rich_table(table: Table) -> Group:
    """Return a form for terminals of 80 columns: main metrics, a part per protocol and setting, caption."""
    chosen = []
    for i, (group, name) in enumerate(table.columns):
        if group == QUALITY or name in TERMINAL[group]:
            chosen.append(i)
    rows_of: dict[str, list[int]] = {}
    for row, place in enumerate(table.about[list(PLACE)].agg(", ".join, axis=1).tolist()):
        rows_of.setdefault(place, []).append(row)
    fixed = "".join(f", {name} {table.about[name].iloc[0]}" for name in constant(table))
    parts = [section(table, chosen, rows, place + fixed) for place, rows in rows_of.items()]
    return Group(*parts, Text("\n".join(table.caption)))
