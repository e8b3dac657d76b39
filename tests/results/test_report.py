from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from results.checksums import COMPLETE, checksums
from results.comparisons import compare
from results.notices import environment_differences, notices
from results.report import render, section, sections, write_report
from results.report_parts import against
from results.schema import HISTORY
from results.store import FoundRuns, find_runs, write_frame
from tests.results.cases import finish, history, regdb_rows, sysu_rows, write_run, write_scored_run


def found(root: Path) -> FoundRuns:
    for method, seed, split in itertools.product(("dmic", "source-only<b>"), (0, 1), (1, 2)):
        write_scored_run(root, method, seed, split=split)
    return find_runs([root])


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures, which take most of the time."""
    monkeypatch.setattr("results.report.drawings", lambda *_: [])


class Links(HTMLParser):
    """Collects addresses, checks that elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    for method in ("dmic", "source-only<b>"):
        write_scored_run(tmp_path, method, 1, split=2)
        write_scored_run(tmp_path, method, 1)
    text = render(find_runs([tmp_path]))
    links = Links()
    links.feed(text)
    assert links.open == []
    assert links.addresses == ["#content", "#regdb-synthetic-data"]
    assert not re.search(r"https?://|@import|url\((?!#)| style=", text)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)
    assert {one or other for one, other in used} <= set(ids)
    assert text.count('role="img"') == 2 * 4
    assert "#1b1f24" not in text.partition("</style>")[2]  # figures follow the page's colours
    for words in (
        "2 of 10 trials, synthetic",
        "best on test: leak",
        "Stage timings as numbers",
        "has the highest mAP of the last epoch",
        "All data are synthetic",
        f"reidbench run --from {tmp_path}/regdb/dmic/dmic-1-2/manifest.json",
        "jaccard",
        "dmic-1-2",
        "0123abc",
    ):
        assert words in text


@pytest.mark.usefixtures("undrawn")
def test_names_are_escaped(tmp_path: Path) -> None:
    text = render(found(tmp_path))
    assert "source-only&lt;b&gt;" in text
    assert "<b>" not in text


@pytest.mark.usefixtures("undrawn")
def test_equal_runs_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    runs = found(tmp_path)
    assert render(runs) == render(FoundRuns(runs.runs[::-1], runs.unfinished))
    write_report(runs, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == render(runs)


@pytest.mark.usefixtures("undrawn")
def test_unfinished_runs_are_counted(tmp_path: Path) -> None:
    runs = found(tmp_path)
    text = render(FoundRuns(runs.runs, (tmp_path / "stopped",)))
    assert "1 unfinished, left out" in text
    assert str(tmp_path / "stopped") in text


@pytest.mark.usefixtures("undrawn")
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
    assert "Training" not in [one.title for one in section("x", runs.runs).drawings]
    assert "Training</h3>" not in render(runs)


@pytest.mark.usefixtures("undrawn")
def test_timings_are_of_one_run_and_shares_add_up(tmp_path: Path) -> None:
    (part,) = sections(found(tmp_path).runs)
    frame = part.timings
    train = frame[(frame["method"] == "dmic") & (frame["stage"] == "train")].iloc[0]
    assert train["seconds"] == pytest.approx(11.0 + 11.1 + 11.2)
    assert train["calls"] == 3
    assert train["peak_memory_mib"] == 802
    assert frame.groupby("method")["share"].sum().tolist() == pytest.approx([100, 100])


@pytest.mark.usefixtures("undrawn")
def test_what_a_reader_must_know_first_comes_first(tmp_path: Path) -> None:
    path = write_run(
        tmp_path,
        regdb_rows("dmic", stage_init="best-of-stage"),
        environment={"dirty": True, "python": "3.12"},
    )
    write_run(tmp_path, regdb_rows("adca", seed=1))
    frame = history().assign(skipped=1)
    write_frame(frame, path / "history.csv", HISTORY)
    finish(path)
    runs = find_runs([tmp_path]).runs
    said = {notice.text.partition(":")[0]: notice.runs for notice in notices(runs)}
    dmic = ("dmic-0-1",)
    assert said["Leak"] == said["Uncommitted code"] == said["Nothing was trained"] == dmic
    assert said["Skipped epochs"] == ("adca-1-1",)
    assert said["All data are synthetic"] == ()
    assert "Incomplete" in said
    assert "Partial data" not in said
    differences = dict(environment_differences(runs))
    assert differences["python"] == [("3.11", ["adca-1-1"]), ("3.12", ["dmic-0-1"])]
    text = render(FoundRuns(runs, ()))
    assert text.index("Leak: a stage of training") < text.index('<table class="main"')


def test_differences_to_one_method_are_those_of_a_comparison_with_it(tmp_path: Path) -> None:
    for method, shift in (("a", 0.0), ("b", 1.0), ("c", -1.0)):
        for seed in (0, 1):
            write_scored_run(tmp_path, method, seed, shift=shift)
    runs = find_runs([tmp_path]).runs
    keys = ["protocol", "setting", "a", "b"]
    columns = ["difference", "low", "high", "training_low", "training_high", "p", "p_holm"]
    wanted = compare(runs, reference="b").query("b != ''").set_index(keys)[columns].sort_index()
    found = against(compare(runs), "b").set_index(keys)[columns].sort_index()
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


def test_the_summary_says_who_is_best_and_whether_that_can_be_told(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_scored_run(tmp_path, "good", seed, shift=2.0)
        write_scored_run(tmp_path, "bad", seed, shift=-2.0)
    (part,) = sections(find_runs([tmp_path]).runs)
    assert len(part.summary) == 2
    assert all(
        "good has the highest mAP" in one and "good is better with 3 seeds" in one for one in part.summary
    )
    assert [one.title for one in part.drawings] == [
        "Differences to good",
        "Cumulative matching, last epoch",
        "Training",
        "Where the time of a run goes",
    ]
    assert all(one.lacking == "" for one in part.drawings)
