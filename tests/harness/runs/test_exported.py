"""Exported lists, read back to score features by path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.registry import load_protocols
from harness.runs.exported import export, exported
from harness.tools.score_paths import score_by_path
from protocols.regdb import RegDB
from tests.harness.tools.test_score import features_by_path, saved


def damaged(lists: Path) -> str:
    (lists / "gallery_2.csv").write_text("path,identity,camera\na.bmp,1\n")
    return r"gallery_2\.csv: line 2 is not a path, an identity and a camera"


def headless(lists: Path) -> str:
    (lists / "query_2.csv").write_text("a.bmp,1,1\n")
    return r"query_2\.csv: line 1 is not path,identity,camera"


def halved(lists: Path) -> str:
    (lists / "gallery_2.csv").unlink()
    return r"gallery_2\.csv is not readable"


@pytest.mark.parametrize("spoil", [damaged, headless, halved])
def test_what_is_wrong_with_exported_lists_is_named(
    tmp_path: Path, tiny_regdb: Path, spoil: Callable[[Path], str]
) -> None:
    content, _ = features_by_path(tiny_regdb, [2])
    export(RegDB(), tiny_regdb, tmp_path / "lists")
    message = spoil(tmp_path / "lists")
    with pytest.raises(HarnessError, match=message):
        score_by_path(saved(tmp_path, content), RegDB(), str(tmp_path / "lists"))


def test_lists_of_one_training_give_its_own_trials_of_each_setting(tmp_path: Path, tiny_sysu: Path) -> None:
    protocols = load_protocols("sysu")
    for protocol in protocols:
        export(protocol, tiny_sysu, tmp_path / "lists" / protocol.id)
    trials = exported(tmp_path / "lists", protocols[0])
    expected = protocols[0].trials(tiny_sysu, 0)
    found = {(one.setting, one.number): one.query.images.paths + one.gallery.images.paths for one in trials}
    assert found == {
        (one.setting, one.number): one.query.images.paths + one.gallery.images.paths for one in expected
    }
