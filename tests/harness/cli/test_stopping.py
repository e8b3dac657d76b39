"""How the command ends when it is stopped, and what it writes to."""

from __future__ import annotations

import io
import os
import signal
import sys

import pytest

from harness.cli import app
from harness.cli.console import write_anywhere


def stopped_by(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> object:
    """Return the exit code of a command that gets a signal, and what it had to tidy up."""
    tidied = []

    def command(**_: object) -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            tidied.append(True)

    monkeypatch.setattr(app, "app", command)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
    before = signal.getsignal(signal.SIGTERM)
    try:
        app.main([])
    except (SystemExit, KeyboardInterrupt) as end:
        return getattr(end, "code", "interrupt"), tidied, signal.getsignal(signal.SIGTERM) is before
    return None


def test_sigterm_tidies_up_and_ends_with_75(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stopped_by(monkeypatch, signal.SIGTERM) == (75, [True], True)


def test_an_interrupt_is_no_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stopped_by(monkeypatch, signal.SIGINT) == ("interrupt", [True], True)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "1 +- 2 - a\\xe9\\udcba"), ("latin-1", "1 ± 2 - aé\\udcba"), ("utf-8", "1 ± 2 – aé\\udcba")],
)
def test_any_text_goes_to_any_output(monkeypatch: pytest.MonkeyPatch, encoding: str, shown: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    write_anywhere()
    stream.write("1 ± 2 – aé\udcba")
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding) == shown  # type: ignore[attr-defined]
