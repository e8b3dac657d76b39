from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from results.checksums import COMPLETE, checksums
from results.figures import COLOURS, cmc_curves, looks, to_png, to_svg, training_curves
from results.report import render, section, sections, write_report
from results.schema import HISTORY, ResultsError
from results.store import FoundRuns, find_runs, write_frame
from tests.results.cases import history, regdb_rows, several, sysu_rows, write_run


def found(root: Path) -> FoundRuns:
    for i, rows in enumerate(several(["dmic", "source-only<b>"], [0, 1], [1, 2])):
        write_run(root, rows, shift=0.02 * i)
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


def test_figures_draw_every_method_and_quantity() -> None:
    rows = pd.concat(several(["dmic", "source-only"], [0, 1], [1, 2]))
    cmc = cmc_curves(rows)
    assert [axis.get_title(loc="left") for axis in cmc.axes] == [
        "regdb, visible-to-thermal",
        "regdb, thermal-to-visible",
    ]
    line = cmc.axes[0].lines[0]
    wanted = rows.query("method == 'dmic' and setting == 'visible-to-thermal' and checkpoint == 'last'")
    assert list(line.get_xdata()) == [1, 5, 10, 20]
    assert line.get_ydata()[0] == pytest.approx(wanted[wanted["metric"] == "rank-1"]["value"].mean())
    curves = training_curves({"dmic": [history(), history(shift=0.1)], "source-only": [history(0)]})
    titles = [axis.get_title(loc="left") for axis in curves.axes]
    assert titles == [
        "test mAP (%)",
        "ARI, infrared",
        "ARI, visible",
        "clusters, infrared",
        "clusters, visible",
        "eps",
        "k2",
    ]
    thin, other, mean = curves.axes[1].lines
    assert mean.get_ydata() == pytest.approx((thin.get_ydata() + other.get_ydata()) / 2)


def test_the_last_phase_of_an_epoch_is_drawn() -> None:
    two = pd.concat([history(3), history(3, shift=0.2).assign(phase="second")]).sort_values(
        "epoch", kind="stable"
    )
    (line,) = training_curves({"m": [two]}).axes[1].lines
    assert list(line.get_ydata()) == pytest.approx(history(3, shift=0.2)["ari_infrared"].tolist())


def test_figures_hold_no_time_and_repeat_byte_for_byte() -> None:
    def draw() -> tuple[str, bytes]:
        figure = training_curves({"dmic": [history()]})
        return to_svg(figure), to_png(figure)

    (svg, png), again = draw(), draw()
    assert (svg, png) == again
    assert "<dc:date>" not in svg
    assert b"Software" not in png


def test_many_methods_have_looks_of_their_own() -> None:
    chosen = looks([f"m{i}" for i in range(20)])
    assert len({(look["color"], look["linestyle"]) for look in chosen.values()}) == 20
    assert len({look["color"] for look in list(chosen.values())[: len(COLOURS)]}) == len(COLOURS)


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ResultsError, match="do not train"):
        training_curves({"source-only": [history(0)]})
    with pytest.raises(ResultsError, match="no rank-k rows"):
        cmc_curves(regdb_rows().query("metric == 'mAP'"))
