"""A disk that lies: the four functions of ``os`` by which all files are written, with a fault at one call of one.

``results.files`` and ``protocols.files`` call ``os.open``, ``os.write``, ``os.fsync`` and ``os.replace`` through the
name ``os`` of their own; :func:`lying` puts a :class:`Disk` there, which does as ``os`` does, counts the calls, and
fails at one of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import protocols.files
import results.files

SHORT = 0
"""In place of an error's number: the system takes half of the bytes at a time, and says so."""
ERRORS = {
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EDQUOT": errno.EDQUOT,
    "EFBIG": errno.EFBIG,
    "short": SHORT,
}


class Call(NamedTuple):
    """One call: which function, on which file, and the how manieth of that function on that file."""

    operation: str
    name: str
    count: int


class Fault(NamedTuple):
    """What goes wrong at a call: an error's name, or ``short``. After ``ENOSPC`` nothing can be written any more."""

    call: Call
    error: str


class Disk:
    """What stands for ``os`` in the two files that write.

    Attributes
    ----------
    calls : list of Call
        All calls so far, in their order.
    met : bool
        Whether the fault's call was among them.
    """

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault, self.met, self.calls = fault, False, list[Call]()
        self.full = False
        self._counts: Counter[tuple[str, str]] = Counter()
        self._names: dict[int, str] = {}
        self._broken: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        """Open, or fail."""
        name = name_of(path)
        if self._fails("open", name):
            raise self._error(path)
        handle = os.open(path, flags, mode)
        self._names[handle] = name
        return handle

    def write(self, handle: int, content: Any) -> int:
        """Write; half of the bytes where the fault is, and nothing after it unless the fault is ``short``."""
        if handle in self._broken or self.full:
            raise self._error()
        if self._fails("write", self._names[handle]):
            if self.fault and self.fault.error != "short":
                self._broken.add(handle)
                self.full = self.fault.error == "ENOSPC"
            content = memoryview(content)[: max(1, len(content) // 2)]
        return os.write(handle, content)

    def fsync(self, handle: int) -> None:
        """Put on the disk, or fail."""
        if self._fails("fsync", self._names[handle]):
            raise self._error()

    def replace(self, old: Path, new: Path) -> None:
        """Rename, or fail."""
        if self._fails("replace", name_of(new)):
            raise self._error(old, new)
        os.replace(old, new)  # noqa: PTH105 - it stands for this function

    def close(self, handle: int) -> None:
        """Close; the system may give the number to another file."""
        self._broken.discard(handle)
        os.close(handle)

    def _fails(self, operation: str, name: str) -> bool:
        """Take a call down; say whether it is the fault's."""
        self._counts[operation, name] += 1
        call = Call(operation, name, self._counts[operation, name])
        self.calls.append(call)
        fails = self.fault is not None and self.fault.call == call
        self.met |= fails
        if fails and self.fault and self.fault.error == "ENOSPC" and operation != "write":
            self.full = True
        return fails

    def _error(self, *paths: Path) -> OSError:
        """Return the error as the system raises it: with the paths that the function was given."""
        assert self.fault is not None
        number = ERRORS[self.fault.error]
        names = [str(path) for path in paths]
        return OSError(number, os.strerror(number), *names[:1], *([None, names[1]] if names[1:] else []))


def name_of(path: Path) -> str:
    """Return a file's name, or that which a temporary file is to have."""
    name = re.sub(r"^\.(.+)\.\d+-[0-9a-f]{8}$", r"\1", Path(path).name)
    digests = {24: "fingerprint", 16: "compiled"}  # named by a digest of where it is, or of the code
    return digests.get(len(name), name) if re.fullmatch("[0-9a-f]+", name) else name


@contextlib.contextmanager
def lying(fault: Fault | None = None) -> Iterator[Disk]:
    """Put a disk with a fault (or none) below all that writes files."""
    disk = Disk(fault)
    results.files.os = protocols.files.os = disk  # type: ignore[attr-defined, assignment]
    try:
        yield disk
    finally:
        results.files.os = protocols.files.os = os  # type: ignore[attr-defined]
