"""Files written whole or not at all, folders that must be there for them, and turns at what several processes make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import HarnessError
from results.files import write_whole as write_atomic

__all__ = ["check_folder", "waiting_for", "write_atomic"]


def check_folder(path: Path | None) -> None:
    """Refuse, before any work, a file to write whose folder is not there."""
    if path is None or path.parent.is_dir():
        return
    if path.parent.exists():
        raise HarnessError(f"{path}: {path.parent} is a file, not a folder; choose another place")
    raise HarnessError(f"{path}: the folder {path.parent} does not exist; make it first")


@contextmanager
def waiting_for(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file; say so if another process has to finish first."""
    turn = FileLock(lock)
    try:
        turn.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process that holds {lock}")
        turn.acquire()
    try:
        yield
    finally:
        turn.release()
