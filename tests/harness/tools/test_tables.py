from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.tools.tables import checkpoints_shown, render, write_report
from results.formats import LAST_STAGE_LEAK
from tests.results.cases import regdb_rows, write_run


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
