r"""Tables of papers as LaTeX: booktabs, decimals in line, no wider than a column where that is readable.

Needs the packages booktabs and graphicx. A table that would be too small in one column of a two-column page takes both
(``table*``); one that is wider still is scaled to the line by ``\resizebox``, so that nothing is ever cut off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from results.formats import ABSENT, escape
from results.sheets.forms import groups, headings, notes
from results.sheets.values import DIGITS, TICK, Row, Sheet, Value

HEAD = r"""% needs \usepackage{booktabs,graphicx}; ticks are those of amssymb where it is loaded
\providecommand{\checkmark}{$\surd$}
"""
COLUMN_POINTS = 229.0
"""Width of a column of LaTeX's own two-column article; those of conferences and journals are wider."""
SIZES = (("small", 9.0), ("footnotesize", 8.0), ("scriptsize", 7.0))
"""Font sizes to try, and their points."""
TINY, GAP = 5.0, 3.0
"""Points of what stands beside a number, and of the space on either side of a column."""
PAGE_POINTS = 480.0
"""Height of a page's text without the lines around a table's body."""
NOTE_LINE, NOTE_LETTER = 8.5, 3.6
"""Points of a line, and of a letter, of the notes below a table."""
SMALLEST = 0.9
"""How far a table at the smallest font may be scaled before it takes two columns."""
NARROW, WIDE = set("ijlt.,:;'|![]()/ "), set("mwMW±Δ✓")


def text_points(text: str, size: float) -> float:
    """Estimate the width of a text in Computer Modern."""
    ems = (0.3 if c in NARROW else 0.8 if c in WIDE else 0.7 if c.isupper() else 0.5 for c in text)
    return size * sum(ems)


def has_aside(sheet: Sheet, column: int) -> bool:
    """Whether a column of numbers has deviations or intervals, which stand in a column of their own."""
    return any(row.values[column].aside for row in sheet.rows)


def points(sheet: Sheet, size: float) -> float:
    """Estimate the width of a table in points at a font size."""
    width = 0.0
    for name in sheet.texts:
        cells = [name, *(row.texts.get(name, "") for row in sheet.rows)]
        width += max(text_points(text, size) for text in cells) + 2 * GAP
    for j, (_, name) in enumerate(sheet.columns):
        mains = max(text_points(row.values[j].main, size) for row in sheet.rows)
        asides = max(text_points(row.values[j].aside, TINY) for row in sheet.rows)
        width += max(mains + asides, text_points(name, size)) + 2 * GAP
    return width


def fitting(sheet: Sheet) -> tuple[str, str]:
    """Return environment and font size: the largest that fits one column, else both columns."""
    for name, size in SIZES:
        if points(sheet, size) <= COLUMN_POINTS:
            return "table", name
    if points(sheet, SIZES[-1][1]) * SMALLEST <= COLUMN_POINTS:
        return "table", SIZES[-1][0]
    for name, size in SIZES:
        if points(sheet, size) <= 2 * COLUMN_POINTS:
            return "table*", name
    return "table*", SIZES[-1][0]


def number(value: Value) -> str:
    """Return a number, its decimals in line with those of others; the best bold, the second underlined."""
    if not value.main:
        return ABSENT_CELL
    decimals = len(value.main.partition(".")[2])
    text = escape(value.main).replace("-", "$-$").replace("+", "$+$")
    text = {1: rf"{{\bfseries {text}}}", 2: rf"\underline{{{text}}}"}.get(value.place, text)
    missing = "0" * (DIGITS - decimals) if decimals else "." + "0" * DIGITS
    return text if decimals >= DIGITS else rf"{text}\phantom{{{missing}}}"


ABSENT_CELL = escape(ABSENT)


def aside(value: Value) -> str:
    """Return what stands beside a number, in a tiny font."""
    text = escape(value.aside.replace("± ", "±")).replace("-", "$-$")
    return rf"{{\tiny {text}}}" if text else ""


def text_cell(text: str, marks: Sequence[str] = ()) -> str:
    """Return the cell of a text, and its marks."""
    cell = r"\checkmark" if text == TICK else escape(text)
    return cell + (rf"\textsuperscript{{{','.join(marks)}}}" if marks else "")


def body_row(sheet: Sheet, row: Row) -> str:
    """Return one line of the table."""
    cells = [
        text_cell(row.texts.get(name, ""), row.marks if i == 0 else ()) for i, name in enumerate(sheet.texts)
    ]
    for j, value in enumerate(row.values):
        cells.append(number(value))
        if has_aside(sheet, j):
            cells.append(aside(value))
    return " & ".join(cells) + r" \\"


def header_rows(sheet: Sheet) -> list[str]:
    """Return the two lines of headings and the rules between them."""
    widths = [1 + has_aside(sheet, j) for j in range(len(sheet.columns))]
    spans, rules, start, column = [""] * len(sheet.texts), [], len(sheet.texts) + 1, 0
    for name, count in headings(sheet):
        width = sum(widths[column : column + count])
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start, column = start + width, column + count
    names = [escape(name) for name in sheet.texts]
    for (_, name), width in zip(sheet.columns, widths, strict=True):
        names.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}")
    return [" & ".join(spans) + r" \\", " ".join(rules), " & ".join(names) + r" \\"]


def column_types(sheet: Sheet) -> str:
    """Return the column specification."""
    ticks = {name for name in sheet.texts if any(row.texts.get(name) == TICK for row in sheet.rows)}
    types = ["c" if name in ticks else "l" for name in sheet.texts]
    types += [r"r@{\,}l" if has_aside(sheet, j) else "r" for j in range(len(sheet.columns))]
    return "".join(types)


def pages(sheet: Sheet, environment: str, size: float) -> list[list[Row]]:
    """Part the rows so that each float fits a page, the last one with the notes."""
    line = 1.25 * size
    width = COLUMN_POINTS if environment == "table" else 2 * COLUMN_POINTS
    letters = sum(len(text) + 4 for text in notes(sheet))
    below = NOTE_LINE * (3 + letters * NOTE_LETTER / width)
    # headings of groups take a line and a rule each
    room = PAGE_POINTS - 2 * line * len(dict(groups(sheet)))
    most, with_notes = (max(5, int((room - taken) / line)) for taken in (0.0, below))
    rest, parts = list(sheet.rows), []
    while len(rest) > with_notes:
        taken = min(most, len(rest) - 1)
        parts.append(rest[:taken])
        rest = rest[taken:]
    return [*parts, rest]


def latex_float(sheet: Sheet, rows: Sequence[Row], continued: bool, last: bool) -> list[str]:
    """Return the lines of one float; a continued one keeps the number of the first, the last has the notes."""
    environment, size = fitting(sheet)
    types = column_types(sheet)
    width = len(re.findall("[lrc]", types))
    key = re.sub(r"[^a-z0-9-]+", "-", sheet.key)
    lines = [
        rf"\begin{{{environment}}}[t]",
        r"\centering",
        *([r"\addtocounter{table}{-1}"] if continued else []),
        rf"\caption{{{escape(sheet.title)}{' (continued)' * continued}.}}",
        *([] if continued else [rf"\label{{tab:{key}}}"]),
        rf"\{size}",
        rf"\setlength{{\tabcolsep}}{{{GAP:g}pt}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{types}}}",
        r"\toprule",
        *header_rows(sheet),
    ]
    for name, members in groupby(rows, key=lambda row: row.group):
        lines.append(r"\midrule")
        if name:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(name)}}}}} \\")
        lines += [body_row(sheet, row) for row in members]
    lines += [r"\bottomrule", r"\end{tabular}}", *(note_lines(sheet) if last else [])]
    return [*lines, rf"\end{{{environment}}}"]


def latex_table(sheet: Sheet) -> list[str]:
    """Return the lines of a table: a float, or several where its rows fill more than a page."""
    environment, size = fitting(sheet)
    parts = pages(sheet, environment, dict(SIZES)[size])
    ends = [i == len(parts) - 1 for i in range(len(parts))]
    floats = [latex_float(sheet, part, i > 0, ends[i]) for i, part in enumerate(parts)]
    return [line for lines in floats for line in lines]


def note_lines(sheet: Sheet) -> list[str]:
    """Return the sentences and sources as one small paragraph below the table."""
    said = " ".join(sentence_text(sentence) for sentence in sheet.caption)
    sources = "; ".join(
        rf"\textsuperscript{{{mark}}}\,{sentence_text(source)}" for mark, source in sheet.footnotes.items()
    )
    return [
        r"\par\smallskip",
        r"\parbox{\linewidth}{\raggedright\scriptsize",
        said,
        *([r"\par", sources + "."] if sources else []),
        "}",
    ]


def sentence_text(text: str) -> str:
    """Escape a sentence; long names may break after a slash."""
    return escape(text).replace("/", r"/\allowbreak{}")


def to_latex(sheets: Sequence[Sheet]) -> str:
    """Return a float for every table; all texts are escaped."""
    return HEAD + "\n" + "\n\n".join("\n".join(latex_table(sheet)) for sheet in sheets) + "\n"
