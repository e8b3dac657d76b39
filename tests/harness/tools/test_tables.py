from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.tools.tables import Comparison, checkpoints_shown, compare_methods, render, write_report
from results.formats import LAST_STAGE_LEAK
from tests.results.cases import regdb_rows, write_run, write_scored_run


def test_the_last_stages_best_is_shown_on_request(tmp_path: Path) -> None:
    write_run(tmp_path, regdb_rows())
    shown = checkpoints_shown(["best-of-last-stage"])
    assert shown == ("last", "best-on-test", "best-of-last-stage")
    assert LAST_STAGE_LEAK in render([tmp_path], "md", None, False, shown)
    assert LAST_STAGE_LEAK not in render([tmp_path], "md", None, False)
    write_report([tmp_path], tmp_path / "report.html", shown)
    assert f">{LAST_STAGE_LEAK}</th>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_checkpoint_rule_that_is_none_is_refused() -> None:
    with pytest.raises(HarnessError, match="--checkpoint best: expected one of last, best-on-test, best-of"):
        checkpoints_shown(["best"])


def test_methods_are_compared_in_words_and_as_csv(tmp_path: Path) -> None:
    for method in ("dmic", "pgm", "adca"):
        write_scored_run(tmp_path, method)
    words = compare_methods([tmp_path], Comparison(("dmic", "pgm")))
    assert "dmic - pgm: " in words
    assert "adca" not in words
    everything = compare_methods([tmp_path], Comparison(every=True, reference="adca"), "csv")
    assert everything.splitlines()[0].startswith("protocol,setting,metric,seeds")
    assert everything.count("dmic,adca") == 2


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Comparison(), "give two methods"),
        (Comparison(("dmic",)), "give two methods"),
        (Comparison(("dmic", "pgm"), every=True), "give two methods"),
        (Comparison(("dmic", "pgm"), reference="pgm"), "--reference goes with --all"),
        (Comparison(("dmic", "pgm"), checkpoint="best"), "--checkpoint best: expected one of last"),
    ],
)
def test_a_comparison_that_contradicts_itself_is_refused(
    tmp_path: Path, wanted: Comparison, words: str
) -> None:
    with pytest.raises(HarnessError, match=words):
        compare_methods([tmp_path], wanted)
