"""The digest of a method's code: what counts and what does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.runs.sources import source_digest
from tests.conftest import process_environment


@pytest.mark.parametrize(
    ("name", "statement", "use", "counted"),
    [
        ("plugged_relative", "from .helpers import x", "x", True),
        ("plugged_from", "from plugged_from.helpers import x", "x", True),
        ("plugged_whole", "import plugged_whole.helpers", "plugged_whole.helpers.x", True),
        ("plugged_alone", "import json", "json", False),
    ],
)
def test_modules_of_a_plug_in_count(
    name: str, statement: str, use: str, counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text(
        f"{statement}\nfrom methods.dmic import DMIC\n\ndef used():\n    return {use}, DMIC\n"
    )
    (package / "helpers.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest(f"{name}.method")
    (package / "helpers.py").write_text("x = 2\n")
    assert (source_digest(f"{name}.method") != before) == counted


METHOD = """
\"\"\"A method.\"\"\"
from {package}.shared import DEMO, FACTOR

RATE = 0.5
PAPER = {{"regdb": {{"rate": 2}}}}


class Example:
    \"\"\"An example.\"\"\"

    summary = "short"
    reference = ("A paper", 2024)
    presets = {{"paper": PAPER, "demo": DEMO}}

    def loss(self, x):
        \"\"\"Return it.\"\"\"
        return RATE * FACTOR * x  # weighted
"""
SHARED = "BASE = {'iterations': 6}\nDEMO = {**BASE, 'epochs': 2}\nFACTOR = 3\n"


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "counted"),
    [
        ("docstring", "method", "Return it.", "Return the loss.", False),
        ("comment", "method", "# weighted", "# by two factors", False),
        ("layout", "method", "RATE = 0.5", "RATE  =  0.5", False),
        ("summary", "method", "short", "shorter", False),
        ("reference", "method", "2024", "2025", False),
        ("preset", "method", '"demo": DEMO', '"demo": DEMO, "large": PAPER', False),
        ("constant_of_presets", "method", '"rate": 2', '"rate": 3', False),
        ("shared_constant_of_presets", "shared", "6", "7", False),
        ("constant", "method", "0.5", "0.25", True),
        ("shared_constant", "shared", "FACTOR = 3", "FACTOR = 4", True),
        ("algorithm", "method", "FACTOR * x", "FACTOR * x * x", True),
    ],
)
def test_code_counts_and_what_is_told_of_it_does_not(
    name: str, file: str, old: str, new: str, counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / f"told_{name}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text(METHOD.format(package=package.name))
    (package / "shared.py").write_text(SHARED)
    monkeypatch.syspath_prepend(tmp_path)
    before = source_digest(f"{package.name}.method")
    edited = package / f"{file}.py"
    text = edited.read_text()
    assert old in text
    edited.write_text(text.replace(old, new))
    assert (source_digest(f"{package.name}.method") != before) == counted


def test_the_digest_does_not_depend_on_the_process() -> None:
    code = "from harness.runs.sources import source_digest; print(source_digest('methods.timing'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=process_environment() | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1
