"""Errors that a person can fix; the command line shows their message and exits with their code."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

WORST_FIRST = (1, 2, 75, 130, 3)
"""Exit codes: a bug, the user's mistake, stopped, interrupted, held by another process."""


LONGEST = 4000
"""Characters of a message."""


class HarnessError(ValueError):
    """What is wrong, where, and how to fix it; exit code 2."""


class RunHeldError(HarnessError):
    """Another process holds the run; exit code 3."""


def format_error(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code for an error that a person can fix."""
    text, code = message(error)
    return brief(text), code


def brief(text: str) -> str:
    """Return a text of at most :data:`LONGEST` characters: a damaged file may have its whole content quoted."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST * 3 // 4]} [... {len(text) - LONGEST} characters ...] {text[-LONGEST // 4 :]}"


def message(error: BaseException) -> tuple[str, int]:
    """Return what an error says, however long, and its exit code."""
    if isinstance(error, RunHeldError):
        return str(error), 3
    if isinstance(error, (MemoryError, *device_memory_errors())):
        reason = str(error).partition("\n")[0]
        fix = "free some, or use a larger device; a stopped run goes on after its last finished epoch"
        return f"out of memory ({reason}); {fix}", 2
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; {remedy(error)}", 2
    assert isinstance(error, ValueError)
    return str(error), 2


def code_of_many(codes: Iterable[int]) -> int:
    """Return the exit code for several runs: of theirs, the first that occurs of 1, 2, 75, 130, 3; 0 if all finished.

    Any other one, as after a signal or from a command that is not there, counts as 1.
    """
    found = {code if code in (0, *WORST_FIRST) else 1 for code in codes}
    return next((code for code in WORST_FIRST if code in found), 0)


def remedy(error: OSError) -> str:
    """Say what helps against an error of a file system; nothing of a run is lost by any of them."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space, or raise the quota; the same command goes on from there"
    if error.errno in (errno.EIO, errno.ESTALE, errno.ENODEV):
        return "the disk or its server fails: look after it, or take another folder"
    return "check the path and its permissions"


def understood(error: BaseException) -> BaseException:
    """Return the error that says to a person what a library's error means; the same one if that is not known.

    Libraries raise RuntimeError and the like for what a person can fix: memory or shared memory that is full, worker
    processes that were killed, a damaged cache of compiled kernels.
    """
    text = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return MemoryError(text)
    if isinstance(error, RuntimeError):
        lines = [line for line in text.splitlines() if "llocate" in line or "memory" in line.lower()]
        if "/dev/shm" in text or "shared memory" in text or "/torch_" in text:
            return HarnessError(
                "the shared memory is full, through which worker processes pass batches; "
                "enlarge /dev/shm (docker: --shm-size), or use --workers 0"
            )
        if "DataLoader worker" in text:
            return HarnessError(
                f"a worker process ended ({text.splitlines()[0]}); as a rule memory ran out: use fewer --workers. "
                "The same command goes on after the last finished epoch"
            )
        if (
            "allocate memory" in text
            or "out of memory" in text
            or "Storage size calculation overflowed" in text
        ):
            return MemoryError(lines[0] if lines else text)
        if "no locator available" in text:
            return HarnessError(f"{text}; set NUMBA_CACHE_DIR to a folder that you can write to")
        if "start new thread" in text:
            return HarnessError(
                f"{text}: no more threads may be started; raise the limits of memory or processes"
            )
    if folder := kernel_cache(error):
        return HarnessError(
            f"a compiled kernel in {folder} is damaged ({type(error).__name__}); delete the files *.nbi and *.nbc "
            "there, and they are compiled again"
        )
    return error


def kernel_cache(error: BaseException) -> str:
    """Return the folder of the cache of compiled kernels if an error comes from reading it; empty otherwise."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).parts[-3:] == ("numba", "core", "caching.py"):
            cache = frame.f_locals.get("self")
            folder = getattr(cache, "_cache_path", None) or getattr(cache, "cache_path", None)
            if folder:
                return str(folder)
    return ""


def printable(text: str) -> str:
    """Return a text without what would steer a terminal, or could not be encoded: such characters are spelled out."""
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def device_memory_errors() -> tuple[type[BaseException], ...]:
    """Return torch's error for a full device, where torch is loaded at all."""
    return (sys.modules["torch"].OutOfMemoryError,) if "torch" in sys.modules else ()


def user_errors() -> tuple[type[BaseException], ...]:
    """Return the error types that carry a message for the user; anything else is a bug and keeps its traceback."""
    types: list[type[BaseException]] = [HarnessError, OSError, MemoryError, *device_memory_errors()]
    for module, name in (
        ("protocols.base", "DataError"),
        ("methods.errors", "MethodError"),
        ("results.errors", "ResultsError"),
    ):
        if module in sys.modules:
            types.append(getattr(sys.modules[module], name))
    return tuple(types)
