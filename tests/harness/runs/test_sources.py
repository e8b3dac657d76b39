"""The identity of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.runs.sources import source_digest


@pytest.mark.parametrize(
    ("name", "statement", "counted"),
    [
        ("plugged_relative", "from .helpers import x", True),
        ("plugged_from", "from plugged_from.helpers import x", True),
        ("plugged_whole", "import plugged_whole.helpers", True),
        ("plugged_alone", "import json", False),
    ],
)
def test_modules_of_a_plug_in_count(
    name: str, statement: str, counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text(f"{statement}\nfrom methods.dmic import DMIC\n")
    (package / "helpers.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest(f"{name}.method")
    (package / "helpers.py").write_text("x = 2\n")
    assert (source_digest(f"{name}.method") != before) == counted
