"""Files written whole or not at all, and what a killed process may have left of one.

This is the one place that writes the files of runs, caches and tables.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

__all__ = ["clear_leftovers", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through a temporary one in the same folder and a rename, so that no reader sees half of it.

    A link of that name is replaced, not followed; the mode follows the user's umask.

    Raises
    ------
    OSError
        If it cannot be written; names `path`, and nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = (
                str(path),
                None,
            )  # a full disk does not say what it had no room for
        raise


def clear_leftovers(folder: Path, name: str = "") -> None:
    """Delete the temporary files that killed processes left in a folder, by default of any file; nobody may write."""
    of = re.escape(name) or ".+"
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if re.fullmatch(rf"\.{of}\.(\d+-[0-9a-f]{{8}}|[a-z0-9_]{{8}})", path.name) and path.is_file():
                path.unlink(missing_ok=True)
