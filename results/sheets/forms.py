"""Tables of papers as Markdown, HTML, CSV, and for a terminal. LaTeX has a module of its own."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from results.formats import ABSENT
from results.sheets.values import DIFFERENCE, Row, Sheet, Value

MARKUP = re.compile(r"([\\`*_\[\]<>|~])")
STYLES = {1: "bold", 2: "underline"}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Results</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #111; background: #fff; }}
table {{ border-collapse: collapse; border-block: 2px solid; font-variant-numeric: tabular-nums; }}
thead tr:last-child {{ border-bottom: 1px solid; }}
caption {{ text-align: left; font-weight: bold; padding-bottom: .4rem; }}
th, td {{ padding: .15rem .6rem; text-align: left; white-space: nowrap; }}
.number {{ text-align: right; }}
.group {{ border-top: 1px solid; font-style: italic; font-weight: normal; }}
.aside {{ font-size: .8em; }}
.notes {{ max-width: 50rem; font-size: .85em; margin: .5rem 0 2.5rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def groups(sheet: Sheet) -> Iterator[tuple[str, list[Row]]]:
    """Yield the groups of rows with their headings."""
    for name, rows in groupby(sheet.rows, key=lambda row: row.group):
        yield name, list(rows)


def headings(sheet: Sheet) -> list[tuple[str, int]]:
    """Return heading and number of neighbouring columns of numbers."""
    return [(name, len(list(part))) for name, part in groupby(sheet.columns, key=lambda column: column[0])]


def plain(value: Value) -> str:
    """Return a number with what stands beside it."""
    return " ".join(text for text in (value.main, value.aside) if text) or ABSENT


def notes(sheet: Sheet) -> list[str]:
    """Return the sentences below a table, then the sources."""
    return [*sheet.caption, *(f"{mark}: {source}." for mark, source in sheet.footnotes.items())]


def markdown_text(text: str) -> str:
    """Escape a text for Markdown."""
    return MARKUP.sub(r"\\\1", text)


def markdown_value(value: Value) -> str:
    """Return a number; the best bold, the second underlined."""
    if not value.main:
        return ABSENT
    main = {1: f"**{value.main}**", 2: f"<u>{value.main}</u>"}.get(value.place, value.main)
    return f"{main} {markdown_text(value.aside)}".strip()


def markdown_row(sheet: Sheet, row: Row) -> str:
    """Return one line of a Markdown table."""
    texts = [markdown_text(row.texts.get(name, "")) or ABSENT for name in sheet.texts]
    if row.marks:
        texts[0] += f"<sup>{','.join(row.marks)}</sup>"
    return f"| {' | '.join([*texts, *map(markdown_value, row.values)])} |"


def to_markdown(sheets: Sequence[Sheet]) -> str:
    """Return Markdown tables, each with its title, and its notes as a list."""
    lines = []
    for sheet in sheets:
        numbers = [markdown_text(f"{heading}: {name}") for heading, name in sheet.columns]
        lines += [f"**{markdown_text(sheet.title)}**", ""]
        lines.append(f"| {' | '.join([*sheet.texts, *numbers])} |")
        lines.append(f"| {' | '.join(['---'] * len(sheet.texts) + ['---:'] * len(numbers))} |")
        empty = " |" * (len(sheet.texts) + len(numbers) - 1)
        for name, rows in groups(sheet):
            if name:
                lines.append(f"| *{markdown_text(name)}* |{empty}")
            lines += [markdown_row(sheet, row) for row in rows]
        lines += ["", *(f"- {markdown_text(sentence)}" for sentence in notes(sheet)), ""]
    return "\n".join(lines)


def html_value(value: Value) -> str:
    """Return the cell of a number."""
    tag = {1: "b", 2: "u"}.get(value.place)
    main = html.escape(value.main) or ABSENT
    main = f"<{tag}>{main}</{tag}>" if tag else main
    aside = f' <span class="aside">{html.escape(value.aside)}</span>' if value.aside else ""
    return f'<td class="number">{main}{aside}</td>'


def html_row(sheet: Sheet, row: Row) -> str:
    """Return one line of an HTML table."""
    texts = [html.escape(row.texts.get(name, "")) or ABSENT for name in sheet.texts]
    if row.marks:
        texts[0] += f"<sup>{','.join(row.marks)}</sup>"
    cells = [f'<th scope="row">{texts[0]}</th>', *(f"<td>{text}</td>" for text in texts[1:])]
    return f"<tr>{''.join([*cells, *map(html_value, row.values)])}</tr>"


def html_table(sheet: Sheet) -> list[str]:
    """Return the lines of one table and of its notes."""
    spans = [f'<th colspan="{width}" scope="colgroup">{html.escape(n)}</th>' for n, width in headings(sheet)]
    names = [f'<th scope="col">{html.escape(name)}</th>' for name in sheet.texts]
    names += [f'<th class="number" scope="col">{html.escape(name)}</th>' for _, name in sheet.columns]
    lines = [f"<table>\n<caption>{html.escape(sheet.title)}</caption>\n<thead>"]
    lines += [
        f'<tr><td colspan="{len(sheet.texts)}"></td>{"".join(spans)}</tr>',
        f"<tr>{''.join(names)}</tr>",
    ]
    lines.append("</thead>")
    width = len(sheet.texts) + len(sheet.columns)
    for name, rows in groups(sheet):
        lines.append("<tbody>")
        if name:
            lines.append(
                f'<tr><th class="group" colspan="{width}" scope="rowgroup">{html.escape(name)}</th></tr>'
            )
        lines += [*(html_row(sheet, row) for row in rows), "</tbody>"]
    said = "<br>\n".join(html.escape(sentence) for sentence in notes(sheet))
    return [*lines, "</table>", f'<p class="notes">{said}</p>']


def to_html(sheets: Sequence[Sheet]) -> str:
    """Return one HTML page, which loads nothing."""
    return PAGE.format(body="\n".join(line for sheet in sheets for line in html_table(sheet)))


def csv_rows(sheet: Sheet) -> Iterator[dict[str, object]]:
    """Yield the rows of one table with all digits."""
    for row in sheet.rows:
        line: dict[str, object] = {"table": sheet.title, "group": row.group}
        line |= {name: row.texts.get(name, "") for name in sheet.texts}
        for (heading, name), value in zip(sheet.columns, row.values, strict=True):
            column = f"{heading}: {name}"
            line[column] = value.mean
            if name.startswith(DIFFERENCE):
                line |= {f"{column} low": value.low, f"{column} high": value.high}
            else:
                line[f"{column} std"] = value.std
        line["source"] = "; ".join(sheet.footnotes[mark] for mark in row.marks) or "measured here"
        yield line


def to_csv(sheets: Sequence[Sheet]) -> str:
    """Return all tables as one CSV; what a table lacks is empty."""
    frame = pd.DataFrame([line for sheet in sheets for line in csv_rows(sheet)])
    return frame.dropna(axis=1, how="all").to_csv(index=False, lineterminator="\n")


def terminal_value(value: Value) -> Text:
    """Return a number for a terminal."""
    sign = {1: "¹", 2: "²"}.get(value.place, "")  # styles are lost where no terminal is
    text = Text((value.main or ABSENT) + sign, style=STYLES.get(value.place, ""))
    return text.append(f" {value.aside}", style="not bold not underline") if value.aside else text


def terminal_table(sheet: Sheet) -> RichTable:
    """Return one table."""
    grid = RichTable(
        title=Text(sheet.title, style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for name in sheet.texts:
        grid.add_column(Text(name), overflow="fold")
    for heading, name in sheet.columns:
        grid.add_column(Text(f"{heading}\n{name}"), justify="right")
    for number, (name, rows) in enumerate(groups(sheet)):
        if name:
            if number:
                grid.add_section()
            grid.add_row(Text(name, style="italic"))
        for row in rows:
            texts = [Text(row.texts.get(column, "") or ABSENT) for column in sheet.texts]
            if row.marks:
                texts[0].append(f" [{','.join(row.marks)}]")
            grid.add_row(*texts, *map(terminal_value, row.values))
    return grid


def to_terminal(sheets: Sequence[Sheet]) -> Group:
    """Return all tables for a terminal."""
    parts: list[RenderableType] = []
    for sheet in sheets:
        parts += [terminal_table(sheet), Text("\n".join(notes(sheet)) + "\n")]
    return Group(*parts)
