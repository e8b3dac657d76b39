"""Errors that a person can fix; the command line shows their message and exits with their code."""

from __future__ import annotations

import errno
import sys


class HarnessError(ValueError):
    """What is wrong, where, and how to fix it; exit code 2."""


class RunHeldError(HarnessError):
    """Another process holds the run; exit code 3."""


def format_error(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code for an error that a person can fix."""
    if isinstance(error, RunHeldError):
        return str(error), 3
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        fix = "free some space" if error.errno == errno.ENOSPC else "check the path and its permissions"
        return f"{where}{error.strerror or error}; {fix}", 2
    if isinstance(error, (MemoryError, *device_memory_errors())):
        reason = str(error).partition("\n")[0]
        fix = "free some, or use a larger device; a stopped run goes on after its last finished epoch"
        return f"out of memory ({reason}); {fix}", 2
    assert isinstance(error, ValueError)
    return str(error), 2


def device_memory_errors() -> tuple[type[BaseException], ...]:
    """Return torch's error for a full device, where torch is loaded at all."""
    return (sys.modules["torch"].OutOfMemoryError,) if "torch" in sys.modules else ()


def user_errors() -> tuple[type[BaseException], ...]:
    """Return the error types that carry a message for the user; anything else is a bug and keeps its traceback."""
    types: list[type[BaseException]] = [HarnessError, OSError, MemoryError, *device_memory_errors()]
    for module, name in (
        ("protocols.base", "DataError"),
        ("methods.errors", "MethodError"),
        ("results.schema", "ResultsError"),
    ):
        if module in sys.modules:
            types.append(getattr(sys.modules[module], name))
    return tuple(types)
