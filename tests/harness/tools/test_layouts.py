from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.registry import methods
from harness.tools.layouts import FORMATS, render_layout, wanted_of
from harness.tools.papers import paper_of
from harness.tools.tables import render
from results import ResultsError, published_figures
from results.checksums import COMPLETE, checksums
from results.sheets import Wanted
from tests.results.cases import regdb_rows, sysu_rows, write_run, write_scored_run

PAGE = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs,graphicx,amssymb}
\begin{document}
%s
\end{document}
"""
MAP = wanted_of("r1,map", published=False, deviations=True, against=None, checkpoints=["last"])


def write_configured(folder: Path, method: str, data: str = "synthetic", **config: object) -> None:
    """Write a run whose specification has a configuration."""
    rows = regdb_rows(method, base=40 + len(method), data=data)
    path = write_run(folder, rows)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    manifest["spec"]["config"] = config
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (path / COMPLETE).write_text(checksums(path), encoding="utf-8")


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Return a folder with runs of four methods."""
    for i, method in enumerate(("source-only", "adca", "pgm", "dmic")):
        supervision = "none" if method == "source-only" else "usl"
        write_run(tmp_path, regdb_rows(method, base=20.0 + 3 * i, supervision=supervision))
    return tmp_path


FULL = {
    "expansion": "mie",
    "eps_schedule": "exponential",
    "k2_schedule": "rising",
    "memory_update": "random",
    **{"epochs_intra": 50, "epochs_joint": 50, "instance_weight": 1.0, "instance_terms": "all"},
}
"""Parts of DMIC."""


@pytest.fixture
def ablated(tmp_path: Path) -> Path:
    """Return a folder with DMIC, and with DMIC without parts."""
    write_configured(tmp_path, "dmic", **FULL)
    write_configured(tmp_path, "dmic:mie", **FULL | {"eps_schedule": "fixed", "k2_schedule": "fixed"})
    write_configured(tmp_path, "dmic:vc+dnc", **FULL | {"expansion": "plain"})
    return tmp_path


def test_names_are_read_off_the_files_as_the_classes_have_them() -> None:
    from harness.registry import load_method

    for name in methods():
        cls, paper = load_method(name), paper_of(name)
        assert (paper.venue, paper.year) == (cls.reference.venue, cls.reference.year), name
        assert paper.ablations == cls.ablations, name
        written = {"": cls.written} if isinstance(cls.written, str) else dict(cls.written)
        assert paper.name == (written.pop("", "") or name)
        assert paper.variants == written
    assert paper_of("of-nobody").name == "of-nobody"


def test_settings_that_are_not_the_presets_are_told_below(four: Path) -> None:
    assert "Measured here: preset demo;" in render_layout([four], "paper", "md", None, MAP)
    write_run(
        four, regdb_rows("adca", base=33.0, seed=1), spec={"config": {"eps": 0.5}}, changed={"eps": 0.5}
    )
    write_run(four, regdb_rows("pca", base=33.0), spec={"config": {"eps": 0.7}}, changed={"eps": 0.7})
    text = render_layout([four], "paper", "md", None, MAP)
    assert r"ADCA\[eps=0.5\]" in text  # there is an ADCA with another eps
    assert r"preset demo\[eps=0.7\]: PCA;" in text


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_has_the_same_numbers(four: Path, format_: str) -> None:
    text = render_layout([four], "paper", format_, None, MAP)
    rows = pd.concat([regdb_rows(m, base=20.0 + 3 * i) for i, m in enumerate(("source-only", "adca"))])
    shown = rows.query("checkpoint == 'last' and metric in ['rank-1', 'mAP']")["value"]
    for value in shown:
        assert f"{value:.2f}" in text or f"{value:.6g}" in text, value
    for name in ("DMIC", "PGM", "ADCA", "Unsupervised" if format_ != "csv" else "DMIC"):
        assert name in text
    assert "synthetic" in text


def test_the_best_of_a_group_is_bold_and_the_second_underlined_ties_both(tmp_path: Path) -> None:
    for method, base in (("adca", 50.0), ("pgm", 50.0), ("pca", 40.0), ("dmic", 30.0)):
        write_run(tmp_path, regdb_rows(method, base=base))
    lines = {
        re.split(r" ?\|", line)[1].strip(): line
        for line in render_layout([tmp_path], "paper", "md", None, MAP).splitlines()
        if line.count("|") > 4
    }
    assert lines["ADCA"].count("**") == lines["PGM"].count("**") == 8
    assert lines["PCA"].count("<u>") == 4
    assert "**" not in lines["DMIC"] + lines["PCA"]
    assert "<u>" not in lines["DMIC"]
    assert "Best of a group in bold" in render_layout([tmp_path], "paper", "md", None, MAP)
    assert render_layout([tmp_path], "paper", "terminal", None, MAP).count("¹") == 8


def test_an_ablation_is_ticked_by_configurations_and_named_as_in_the_paper(ablated: Path) -> None:
    text = render_layout([ablated], "ablation", "md", None, MAP)
    assert "as in its Table IV" in text
    assert "Table III" not in text  # all three rows have its parts
    rows = [line.split(" | ") for line in text.splitlines() if "✓" in line]
    ticked = {row[0].removeprefix("| "): row[1:4] for row in rows}
    assert ticked == {
        "VC + DNC + HMCL": ["–", "✓", "✓"],
        "MIE + HMCL": ["✓", "–", "✓"],
        "full DMIC": ["✓", "✓", "✓"],
    }


@pytest.mark.parametrize(
    ("printed", "parts", "variant", "lacking"),
    [
        ("Table III", ["CC-1", "IC-1", "CC-2", "IC-2"], "cc1", {"epochs_joint": 0, "instance_terms": "none"}),
        ("Table IV", ["MIE", "DNC", "HMCL"], "mie", {"eps_schedule": "fixed", "k2_schedule": "fixed"}),
    ],
)
def test_an_ablation_has_every_row_that_its_paper_prints_with_the_same_ticks(
    tmp_path: Path, printed: str, parts: list[str], variant: str, lacking: dict[str, object]
) -> None:
    write_configured(tmp_path, "dmic", "real", **FULL)
    write_configured(tmp_path, f"dmic:{variant}", "real", **FULL | lacking)
    wanted = wanted_of("r1,map", published=True, deviations=False, against=None, checkpoints=["last"])
    text = render_layout([tmp_path], "ablation", "md", "regdb", wanted)
    assert f"as in its {printed}" in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "<sup>" in line]
    shown = {
        re.sub(r"<sup>.*", "", row[0]): [re.sub(r"<[^>]*>|\*", "", cell) for cell in row[1:]] for row in rows
    }
    figures = published_figures()
    table = figures[figures["note"].str.contains("ablation: ") & (figures["protocol"] == "regdb")]
    table = table[table["quote_locator"].str.partition(",")[0] == printed]
    assert len(table) == 3
    for row in table.to_dict("records"):
        has = row["method"].removeprefix("DMIC (").removesuffix(")").split(" + ")
        cells = shown[" + ".join(has)]
        assert [cell == "✓" for cell in cells[: len(parts)]] == [part in has for part in parts]
        assert [row["rank1"], row["mAP"]] == [float(cell) for cell in cells[len(parts) :][:2]]
    whole = figures[(figures["method"] == "DMIC") & (figures["protocol"] == "regdb")]
    direct = whole[whole["setting"] == "visible-to-thermal"].iloc[0]
    full = shown["full DMIC"]
    assert full[: len(parts)] == ["✓"] * len(parts)
    assert [float(cell) for cell in full[len(parts) :][:2]] == [direct["rank1"], direct["mAP"]]


def test_a_layout_has_only_the_metrics_that_were_asked_for(four: Path) -> None:
    wanted = wanted_of("r10,minp", published=False, deviations=False, against=None, checkpoints=["last"])
    assert wanted.metrics == ("rank-10", "mINP")
    text = render_layout([four], "paper", "md", None, wanted)
    assert "R-10" in text
    assert "mINP" in text
    assert "mAP" not in text
    assert "±" not in text


def test_differences_have_their_interval(tmp_path: Path) -> None:
    for method in ("dmic", "pgm", "adca"):
        write_scored_run(tmp_path, method)
    wanted = Wanted(("mAP",), against="adca")
    text = render_layout([tmp_path], "paper", "md", None, wanted)
    assert "Δ mAP" in text
    assert len(re.findall(r"[+-]\d+\.\d\d \\\[-?\d+\.\d\d, -?\d+\.\d\d\\\]", text)) == 4
    assert "difference from adca, with its interval of 95 %" in text
    with pytest.raises(ResultsError, match="nobody"):
        render_layout([tmp_path], "paper", "md", None, Wanted(("mAP",), against="nobody"))


def test_an_epoch_picked_on_the_test_set_is_never_the_best_and_says_what_it_is(four: Path) -> None:
    wanted = Wanted(("mAP",), ("last", "best-on-test"))
    lines = render_layout([four], "paper", "md", None, wanted).splitlines()
    leaks = [line for line in lines if "best on test (leak)" in line and line.startswith("|")]
    assert len(leaks) == 4
    assert not any("**" in line or "<u>" in line for line in leaks)


def test_papers_rows_have_footnotes_and_stand_beside_no_synthetic_data(tmp_path: Path) -> None:
    write_run(tmp_path, regdb_rows(data="real", list_digest="x"))
    wanted = wanted_of("r1,map", published=True, deviations=False, against=None, checkpoints=["last"])
    text = render_layout([tmp_path], "paper", "md", "regdb", wanted)
    assert "<sup>" in text
    assert "copied as printed from the source" in text
    marks = set(re.findall(r"<sup>([a-z,]+)</sup>", text))
    letters = {letter for mark in marks for letter in mark.split(",")}
    notes = set(re.findall(r"^- ([a-z]+): ", text, flags=re.MULTILINE))
    assert letters == notes
    twin = tmp_path / "twin"
    write_run(twin, regdb_rows())
    with pytest.raises(ResultsError, match="do not go into a table of synthetic data"):
        render_layout([twin], "paper", "md", None, wanted)


@pytest.mark.parametrize(
    ("layout", "format_", "words"),
    [
        ("wide", "md", "--layout wide: expected one, paper, ablation"),
        ("paper", "pdf", "--format pdf: expected md, latex, csv, html, terminal"),
        ("ablation", "md", "no ablation among adca, dmic, pgm, source-only"),
    ],
)
def test_what_cannot_be_made_is_refused(four: Path, layout: str, format_: str, words: str) -> None:
    with pytest.raises((HarnessError, ResultsError), match=words):
        render_layout([four], layout, format_, None, MAP)
    with pytest.raises(ResultsError, match="no metric 'r7'"):
        wanted_of("r7", published=False, deviations=True, against=None, checkpoints=["last"])


NEEDS_TEX = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex: install texlive-latex-recommended"
)


def compile_page(folder: Path, source: str) -> str:
    """Compile a page, which must come out with nothing cut off; return what TeX said."""
    (folder / "page.tex").write_text(source, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Float too large" not in done.stdout
    assert (folder / "page.pdf").stat().st_size > 10_000
    return done.stdout


@NEEDS_TEX
@pytest.mark.parametrize("layout", ["paper", "ablation"])
@pytest.mark.parametrize("metrics", ["r1,map", "r1,r5,r10,r20,map,minp"])
def test_latex_compiles_and_fits_the_page(ablated: Path, tmp_path: Path, layout: str, metrics: str) -> None:
    for i, method in enumerate(("a_b$c", "[x] 100% & ~^\\ {#}", "*star")):
        write_run(ablated, regdb_rows(method, run=f"odd-{i}"))
    wanted = wanted_of(metrics, published=False, deviations=True, against=None, checkpoints=["last"])
    compile_page(tmp_path, PAGE % render_layout([ablated], layout, "latex", None, wanted))


@NEEDS_TEX
@pytest.mark.parametrize(("metrics", "environment"), [("r1,r10,map,minp", "table*"), ("r1,map", "table")])
def test_rows_beyond_a_page_go_to_the_next_float(tmp_path: Path, metrics: str, environment: str) -> None:
    rows = sysu_rows(data="real")
    both = pd.concat([rows, rows.assign(protocol="sysu-indoor")], ignore_index=True)
    write_run(tmp_path / "runs", both, spec={"dataset": "sysu-mm01"})
    wanted = wanted_of(metrics, published=True, deviations=False, against=None, checkpoints=["last"])
    latex = render_layout([tmp_path / "runs"], "paper", "latex", None, wanted)
    compile_page(tmp_path, PAGE % latex)
    assert latex.count(rf"\begin{{{environment}}}") == latex.count("(continued)") + 1 >= 2
    assert latex.count(r"\label{") == 1
    markdown = render_layout([tmp_path / "runs"], "paper", "md", None, wanted)
    assert latex.count(r"\textsuperscript") > markdown.count("<sup>") > 40
    assert r"\phantom" in latex  # figures with one decimal stay as printed


@NEEDS_TEX
def test_the_usual_table_fits_a_page(four: Path, tmp_path: Path) -> None:
    source = PAGE.replace("[twocolumn]", "") % render([four], "latex", None, False)
    compile_page(tmp_path, source)


def test_columns_are_headed_as_papers_do() -> None:
    from harness.tools.papers import headings, titles

    assert set(titles().values()) == {"SYSU-MM01", "RegDB", "LLCM"}
    found = headings()
    assert found["sysu-all"] == "All search"
    assert found["sysu-indoor"] == "Indoor search"
    assert found["sysu-all-official"] != found["sysu-all"]
    assert "llcm-script21" in found
    assert not {"regdb", "llcm"} & set(found)  # their settings say it
