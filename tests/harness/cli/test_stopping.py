"""How the command ends when it is stopped, and what it writes to."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from numba.core import event

from harness.cli import app
from harness.cli.console import write_anywhere
from harness.inputs.workers import signals_later
from harness.runs.stopping import SIGNALS, Stopped, state, unbroken
from harness.training.kernels import on_compilation


class Ended:
    """How a command ended that did something in the place of its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, work: Callable[[list[str]], object]) -> None:
        self.did: list[str] = []

        def command(**_: object) -> None:
            try:
                work(self.did)
            finally:
                self.did.append("tidied")

        monkeypatch.setattr(app, "app", command)
        # a shell in the background ignores it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before = list(map(signal.getsignal, SIGNALS))
        with pytest.raises(SystemExit) as end:
            app.main([])
        self.code = end.value.code
        assert list(map(signal.getsignal, SIGNALS)) == before
        assert (state.asked, state.depth) == (0, 0)


def ask(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


CODES = [(signal.SIGTERM, 75), (signal.SIGUSR2, 75), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_tidies_up_and_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def work(did: list[str]) -> None:
        ask(number)
        did.append("went on")

    ended = Ended(monkeypatch, work)
    assert (ended.code, ended.did) == (code, ["tidied"])


@pytest.mark.parametrize(("number", "code"), CODES)
def test_what_must_not_be_broken_is_finished_first(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def work(did: list[str]) -> None:
        with unbroken():
            with unbroken():
                ask(number, signal.SIGTERM)
                did.append("inner")
            did.append("outer")
        did.append("went on")

    ended = Ended(monkeypatch, work)
    assert (ended.code, ended.did) == (code, ["inner", "outer", "tidied"])


def test_an_interrupt_that_another_thread_takes_waits_until_workers_have_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hooks of a fork cannot raise: what is raised there is printed, and forgotten."""
    over = threading.Event()
    other = threading.Thread(target=over.wait)

    def work(did: list[str]) -> None:
        other.start()
        with signals_later():
            ask(signal.SIGINT)
            time.sleep(0.1)  # until the other thread has taken it
            did.append("started")
        did.append("went on")

    try:
        ended = Ended(monkeypatch, work)
    finally:
        over.set()
        other.join()
    assert (ended.code, ended.did) == (130, ["started", "tidied"])


def test_a_compilation_is_finished_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(did: list[str]) -> None:
        with on_compilation(lambda: did.append("told")):
            for name in ("first", "second"):
                with event.trigger_event("numba:compile"):
                    with event.trigger_event("numba:compile"):
                        ask(signal.SIGINT)
                    did.append(name)

    ended = Ended(monkeypatch, work)
    assert (ended.code, ended.did) == (130, ["told", "first", "tidied"])


def test_a_second_interrupt_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(did: list[str]) -> None:
        with unbroken():
            ask(signal.SIGINT)
            did.append("first")
            ask(signal.SIGINT)
            did.append("second")

    ended = Ended(monkeypatch, work)
    assert (ended.code, ended.did) == (130, ["first", "tidied"])


def test_tidying_up_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(did: list[str]) -> None:
        try:
            ask(signal.SIGUSR2)
        except Stopped:
            ask(signal.SIGTERM, signal.SIGUSR2)
            with unbroken():
                did.append("wrote")
            did.append("all of it")
            raise

    ended = Ended(monkeypatch, work)
    assert (ended.code, ended.did) == (75, ["wrote", "all of it", "tidied"])


def test_a_stop_that_a_library_swallows_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(did: list[str]) -> None:
        with suppress(BaseException):
            ask(signal.SIGTERM)
        with unbroken():
            did.append("next iteration")
        did.append("went on")

    ended = Ended(monkeypatch, work)
    assert (ended.code, ended.did) == (75, ["next iteration", "tidied"])


def test_without_signals_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_did: list[str]) -> None:
        with unbroken():
            pass
        raise SystemExit(7)

    assert Ended(monkeypatch, work).code == 7


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
