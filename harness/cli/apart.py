"""Work in a process of its own, whose memory goes with it: the driver of a sweep lives for days and needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from harness.cli.console import show_warnings_once, write_anywhere
from harness.errors import HarnessError, format_error, understood, user_errors
from harness.runs.stopping import stoppable

T = TypeVar("T")


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a process of its own, which ends with this one; it writes where this one does.

    Parameters
    ----------
    function : callable
        Of a module, so that the process can import it; arguments and result go through a pipe.

    Raises
    ------
    HarnessError
        With the words of an error of the function's that a person can fix.
    RuntimeError
        If it failed otherwise; its traceback has been printed.
    """
    context = get_context("spawn")  # a fork would have this process's threads, and their locks
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(there, function, arguments), daemon=True)
    child.start()
    there.close()
    try:
        error, found = here.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} has failed in its process, as told above") from None
    finally:
        child.terminate()  # asks it to tidy up, if this process was stopped
        child.join()
    if error:
        raise HarnessError(error)
    result: T = found
    return result


def answer(there: Connection, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Send what a function returns, or the words of an error that a person can fix."""
    write_anywhere()
    show_warnings_once()
    with stoppable():
        try:
            there.send(("", function(*arguments)))
        except BaseException as error:
            known = understood(error)
            if not isinstance(known, user_errors()):
                raise
            there.send((format_error(known)[0], None))
