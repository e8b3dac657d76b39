from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from results import comparison, rich_table, to_csv, to_latex, to_markdown
from results.formats import HEADLINE, LEAK, Table, cell, escape
from tests.results.cases import history, regdb_rows, several


def table() -> Table:
    rows = pd.concat(several(["dmic", "a_b & c%|<x>"], [0, 1], [1, 2]), ignore_index=True)
    return comparison(rows, {run: history() for run in rows["run"].unique()})


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b", r"a\_b"),
        ("50% & #1 $x$", r"50\% \& \#1 \$x\$"),
        ("{~^}", r"\{\textasciitilde{}\textasciicircum{}\}"),
        ("\\_", r"\textbackslash{}\_"),
        ("<|>", r"\textless{}\textbar{}\textgreater{}"),
        ("1 ± 2", r"1 $\pm$ 2"),
        ("–", "--"),
        ("[x]*", "{[}x{]}{*}"),
    ],
)
def test_latex_escapes(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_latex_has_no_bare_special_character_and_equal_columns() -> None:
    text = to_latex(table())
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns is not None
    for line in body:
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == len(columns.group(1)) - 1
        assert not re.search(r"(?<!\\)[_%#<>|±–]", line)
    assert text.isascii()
    assert rf"\multicolumn{{2}}{{c}}{{{LEAK}}}" in text
    for rule in ("toprule", "midrule", "bottomrule", "cmidrule(lr){"):
        assert f"\\{rule}" in text
    assert text.count("{") == text.count("}")


def test_markdown_lines_have_equal_cells_and_the_caption_follows() -> None:
    lines = to_markdown(table()).splitlines()
    body = [line for line in lines if line.startswith("|")]
    counts = {len(re.findall(r"(?<!\\)\|", line)) for line in body}
    assert len(counts) == 1
    assert len(body) == 2 + 4
    assert r"a_b & c%\|<x>" in body[2] + body[3]
    assert [line[2:] for line in lines if line.startswith("- ")] == list(table().caption)


def test_csv_holds_every_attribute_and_all_digits() -> None:
    made = table()
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert [row["method"] for row in rows] == made.about["method"].tolist()
    assert [float(row["mAP"]) for row in rows] == made.mean[HEADLINE, "mAP"].tolist()
    assert [float(row["mAP std"]) for row in rows] == made.std[HEADLINE, "mAP"].tolist()
    assert [float(row[f"mAP ({LEAK})"]) for row in rows] == made.mean[LEAK, "mAP"].tolist()
    assert set(rows[0]) >= {
        "data",
        "division",
        "supervision",
        "weights",
        "stage_init",
        "trials",
        "seeds",
        "± over",
    }


def test_cells() -> None:
    nan = float("nan")
    assert [cell(1.005, 2.0), cell(3.14159, nan), cell(nan, nan)] == ["1.00 ± 2.00", "3.14", "–"]


def test_a_terminal_of_80_columns_shows_every_number_whole() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rich_table(table()))
    text = console.export_text()
    assert "…" not in text
    assert "regdb, visible-to-thermal, division open" in text
    assert "best on" in text
    assert "2 of 10 trials, synthetic" in text
    made = table()
    for line in range(len(made.about)):
        assert (
            f"{made.mean.loc[line, (HEADLINE, 'mAP')]:.1f}±{made.std.loc[line, (HEADLINE, 'mAP')]:.1f}"
            in text
        )


def test_square_brackets_are_no_markup() -> None:
    made = comparison(regdb_rows("[red]x[/red]"))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(rich_table(replace(made, caption=("[bold]c[/bold]",))))
    text = console.export_text()
    assert "[red]x[/red]" in text
    assert "[bold]c[/bold]" in text
