"""How a process stops when it is asked to: by Ctrl-C, by SIGTERM, or by SIGUSR2.

A signal ends the process where it stands, with :class:`Stopped`, unless it is within :func:`unbroken`: an iteration of
training, or the writing of what belongs together. There the process goes on to the end first. Batch systems send
SIGUSR2 ahead of a time limit and SIGTERM at one; both end in exit code 75, which says that the same command goes on.
SIGUSR1 is left alone: libraries that pass data between devices use it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

TERMINATED = 75
"""Exit code after SIGTERM or SIGUSR2: for batch systems, a temporary failure (EX_TEMPFAIL)."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR2") if hasattr(signal, name)
)  # not every system has SIGUSR2


class Stopped(KeyboardInterrupt):
    """Somebody has asked the process to stop; says how."""


@dataclass
class State:
    """Which signal has come (0: none), and how many sections that must not be broken are open."""

    asked: int = 0
    depth: int = 0

    def error(self) -> Stopped:
        """Return what ends the process."""
        name = signal.Signals(self.asked).name
        return Stopped("interrupted" if self.asked == signal.SIGINT else f"stopped by {name}")


state = State()


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn signals into :class:`Stopped` within this context, and that into an exit code at its end.

    Without effect outside the main thread, where Python takes no signals.

    Raises
    ------
    SystemExit
        With code 75 or 130, if the process was asked to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handler = handler_of(os.getpid())
    for number, old in before.items():
        if (
            number != signal.SIGINT or old is not signal.SIG_IGN
        ):  # shells ignore it for jobs in the background
            signal.signal(number, handler)
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        if state.asked:
            raise SystemExit(INTERRUPTED if state.asked == signal.SIGINT else TERMINATED) from None
        raise
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        state.asked = state.depth = 0


def handler_of(process: int) -> Callable[[int, object], None]:
    """Return the handler of a process; a second Ctrl-C ends it at once, all else is asked once."""

    def ask(number: int, _frame: object) -> None:
        if os.getpid() != process:  # a worker process that has not set its own handler yet
            os._exit(128 + number)
        again = bool(state.asked)
        state.asked = state.asked or number
        if (again and number == signal.SIGINT) or (not again and not state.depth):
            raise state.error()

    return ask


@contextmanager
def unbroken() -> Iterator[None]:
    """Let signals wait for the end of this context; :class:`Stopped` is raised there if one has come."""
    state.depth += 1
    try:
        yield
    finally:
        state.depth -= 1
    if state.asked and not state.depth and sys.exception() is None:
        raise state.error()
