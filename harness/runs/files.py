"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.errors import HarnessError


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file through a temporary one in the same folder and a rename, so that no reader sees half of it."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk does not say which file it had no room for
        raise


def check_folder(path: Path | None) -> None:
    """Refuse, before any work, a file to write whose folder is not there."""
    if path is None or path.parent.is_dir():
        return
    if path.parent.exists():
        raise HarnessError(f"{path}: {path.parent} is a file, not a folder; choose another place")
    raise HarnessError(f"{path}: the folder {path.parent} does not exist; make it first")
