"""Work in a process of its own."""

from __future__ import annotations

import os

import pytest

from harness.cli.apart import apart
from harness.errors import HarnessError
from results.selection import conditions_of


def test_a_process_of_its_own_answers_and_its_mistakes_are_told() -> None:
    assert apart(os.getpid) != os.getpid()
    with pytest.raises(HarnessError, match="expected key=value"):
        apart(conditions_of, ["eps"])


def test_a_bug_there_is_one_here(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="divmod has failed"):
        apart(divmod, 1, 0)
    assert "ZeroDivisionError" in capfd.readouterr().err
