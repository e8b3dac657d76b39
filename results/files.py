"""Files written whole or not at all, and what a killed process may have left of one.

This is the one place that writes the files of runs, caches and tables, by ``os.open``, ``os.write``, ``os.fsync`` and
``os.replace`` alone; tests make a disk lie by replacing these four.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Folder", "append_line", "appending", "clear_leftovers", "new_file", "whole", "write_whole"]

Folder = Path | zipfile.Path
"""A run's directory: on disk, or within a bundle."""
Put = Callable[[bytes | memoryview], None]


class Output(io.RawIOBase):
    """A file that can only be written, front to end."""

    def __init__(self, put: Put) -> None:
        self.put = put

    def writable(self) -> bool:
        """Say that it is."""
        return True

    def write(self, content: Any, /) -> int:
        """Write all of some bytes."""
        self.put(content)
        return len(content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through a temporary one in the same folder and a rename, so that no reader sees half of it.

    A link of that name is replaced, not followed; the mode follows the user's umask.

    Raises
    ------
    OSError
        If it cannot be written; names `path`, and nothing is left behind.
    """
    with whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Output]:
    """Yield a file to write piece by piece that becomes `path` when all is written, as :func:`write_whole` says."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with new_file(temporary, path) as write:
            yield Output(write)
        with naming(path):
            os.replace(temporary, path)  # noqa: PTH105 - what tests replace
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_file(path: Path, named: Path | None = None) -> Iterator[Put]:
    """Open a file that is not there yet; what the given function takes is on the disk at the end.

    Parameters
    ----------
    named : Path, optional
        What errors call it, where `path` is a temporary name.

    Raises
    ------
    OSError
        If it is there, or cannot be written; names the file, which is left to who called.
    """
    name = named or path
    with naming(name):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def put(content: bytes | memoryview) -> None:
        with naming(name):
            write_all(handle, content)

    try:
        yield put
        with naming(name):
            os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, line: str) -> None:
    """Write a line at the end of a file; it is not followed if it is a link.

    Raises
    ------
    OSError
        If it cannot be written; names `path`, which is left as it was.
    """
    with naming(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            before = os.fstat(handle).st_size
            try:
                write_all(handle, (line + "\n").encode())
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)


@contextlib.contextmanager
def appending(path: Path) -> Iterator[int]:
    """Open a file that a child process is to write on from its end; it is not followed if it is a link.

    Raises
    ------
    OSError
        If it cannot be opened; names `path`.
    """
    with naming(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def write_all(handle: int, content: bytes | memoryview) -> None:
    """Write bytes to an open file; a system may take some of them at a time."""
    rest = memoryview(content)
    while len(rest):
        rest = rest[os.write(handle, rest) :]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in what a system says of it: a full disk does not say what it had no room for."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def clear_leftovers(folder: Path, name: str = "", *, shared: bool = False) -> None:
    """Delete the temporary files that killed processes left in a folder, by default of any file.

    Parameters
    ----------
    shared : bool
        Others may be writing there: what processes of this machine that live have begun stays.
    """
    import psutil  # not at the top: what only reads needs none

    of = re.escape(name) or ".+"
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            left = re.fullmatch(rf"\.{of}\.(?:(\d{{1,9}})-[0-9a-f]{{8}}|[a-z0-9_]{{8}})", path.name)
            if left and path.is_file() and not (shared and left[1] and psutil.pid_exists(int(left[1]))):
                path.unlink(missing_ok=True)
