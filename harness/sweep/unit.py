"""One run of a sweep, as a child process; what engines call on the machines that compute, so it imports little."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.runs.holder import lives
from results.files import appending, write_whole

HELD, STOPPED = 3, 75
HELD_S = 180.0
"""How long a unit waits for a run that another process holds: longer than a dead machine's holder is believed."""
LOOK_S = 1.0
PR_SET_PDEATHSIG = 1


def start(
    words: Sequence[str],
    log: str,
    code: str,
    cwd: str,
    environment: Mapping[str, str],
    driver: tuple[int, float] | None = None,
) -> int:
    """Run ``reidbench`` with some words to its end, and return its exit code.

    Parameters
    ----------
    words : sequence of str
        What follows ``reidbench``.
    log, code : str
        Files that get its output, and its exit code at the end.
    cwd : str
    environment : mapping
        Variables beside those of this process.
    driver : (pid, time of its start), optional
        A process of this machine whose end stops the run, as SIGTERM does.
    """
    if not alive(driver):  # an engine that outlives its driver has handed it on
        return STOPPED
    Path(code).unlink(missing_ok=True)
    command = [sys.executable, "-m", "harness", *words]
    given_up = time.monotonic() + HELD_S
    while True:
        with appending(Path(log)) as output:
            child = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(),
            )
        result = wait_for(child, driver)
        if result != HELD or time.monotonic() > given_up or not alive(driver):
            break
        time.sleep(5 * LOOK_S)
    write_whole(Path(code), f"{result}\n".encode())
    return result


def wait_for(child: subprocess.Popen[bytes], driver: tuple[int, float] | None) -> int:
    """Wait for a process, and stop it if the driver ends; 128 and the signal's number if a signal has ended it."""
    while True:
        try:
            result = child.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            if not alive(driver):
                child.terminate()
                driver = None
            continue
        return result if result >= 0 else 128 - result


def alive(driver: tuple[int, float] | None) -> bool:
    """Say whether a driver still lives, or there is none to look for."""
    return driver is None or lives(*driver)


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child does first, so that it is asked to stop if this process is killed; Linux alone has it."""
    if not sys.platform.startswith("linux"):
        return None
    control = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        control(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended before
            os._exit(128 + signal.SIGTERM)

    return tie
