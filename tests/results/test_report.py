from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from results.checksums import COMPLETE, checksums
from results.report import render, section, sections, write_report
from results.schema import HISTORY
from results.store import FoundRuns, find_runs, write_frame
from tests.results.cases import regdb_rows, sysu_rows, write_run, write_scored_run


def found(root: Path) -> FoundRuns:
    for method, seed, split in itertools.product(("dmic", "source-only<b>"), (0, 1), (1, 2)):
        write_scored_run(root, method, seed, split=split)
    return find_runs([root])


class Links(HTMLParser):
    """Collects addresses, checks that elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    text = render(found(tmp_path))
    links = Links()
    links.feed(text)
    assert links.open == []
    assert len(links.addresses) == 2
    assert all(address.startswith("data:image/svg+xml;base64,") for address in links.addresses)
    assert not re.search(r"https?://|@import|url\(", text)
    for words in (
        "2 of 10 trials, synthetic",
        "best on test: leak",
        "Stage timings",
        "jaccard",
        "dmic-1-2",
        "0123abc",
    ):
        assert words in text


def test_names_are_escaped(tmp_path: Path) -> None:
    text = render(found(tmp_path))
    assert "source-only&lt;b&gt;" in text
    assert "<b>" not in text


def test_equal_runs_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    runs = found(tmp_path)
    assert render(runs) == render(FoundRuns(runs.runs[::-1], runs.unfinished))
    write_report(runs, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == render(runs)


def test_unfinished_runs_are_counted(tmp_path: Path) -> None:
    runs = found(tmp_path)
    text = render(FoundRuns(runs.runs, (tmp_path / "stopped",)))
    assert "1 unfinished, left out" in text
    assert str(tmp_path / "stopped") in text


def test_data_sets_and_kinds_of_data_are_sections_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path, regdb_rows("dmic"))
    write_run(tmp_path, regdb_rows("source-only", data="real", list_digest="x"))
    write_run(tmp_path, sysu_rows("dmic"), spec={"dataset": "sysu-mm01"})
    titles = [part.title for part in sections(find_runs([tmp_path]).runs)]
    assert titles == ["regdb, real data", "regdb, synthetic data", "sysu-mm01, synthetic data"]


def test_a_method_without_training_has_no_curves(tmp_path: Path) -> None:
    path = write_run(tmp_path, regdb_rows("source-only"))
    write_frame(pd.DataFrame(columns=list(HISTORY.names)), path / "history.csv", HISTORY)
    (path / COMPLETE).write_text(checksums(path), encoding="utf-8")  # as the run would have left it
    runs = find_runs([tmp_path])
    assert section("x", runs.runs).curves == ""
    assert "Training</h3>" not in render(runs)


def test_timings_are_of_one_run_and_shares_add_up(tmp_path: Path) -> None:
    (part,) = sections(found(tmp_path).runs)
    frame = part.timings
    train = frame[(frame["method"] == "dmic") & (frame["stage"] == "train")].iloc[0]
    assert train["seconds"] == pytest.approx(11.0 + 11.1 + 11.2)
    assert train["calls"] == 3
    assert train["peak_memory_mib"] == 802
    assert frame.groupby("method")["share"].sum().tolist() == pytest.approx([100, 100])
