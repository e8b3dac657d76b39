from __future__ import annotations

from harness.cli import explain
from harness.errors import HarnessError, RunHeldError


def test_exit_codes() -> None:
    assert explain(HarnessError("wrong")) == ("wrong", 2)
    assert explain(RunHeldError("held")) == ("held", 3)
