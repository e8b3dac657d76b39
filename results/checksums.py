"""The SHA-256 of every file of a finished run, kept in its ``COMPLETE`` and compared when a file is read.

``COMPLETE`` has a line a file, as ``sha256sum -c COMPLETE`` takes them in the run's directory. ``log.txt`` is not
among them: it decides no number.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

from results.errors import ResultsError
from results.files import Folder

__all__ = ["COMPLETE", "ChecksumWarning", "changed_files", "check_files", "checksums", "read_checksums"]

COMPLETE = "COMPLETE"
TABLES = ("manifest.json", "metrics.csv", "history.csv", "profile.csv", "ranks.npz")
LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


class ChecksumWarning(UserWarning):
    """Nothing says whether the files of a run are those that it wrote."""


def digest(path: Folder) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()


def checksums(run: Path) -> str:
    """Return the content of ``COMPLETE`` for the files that a run's directory holds now."""
    names = [name for name in TABLES if (run / name).is_file()]
    names += sorted(path.relative_to(run).as_posix() for path in run.glob("checkpoints/*.ckpt"))
    return "".join(f"{digest(run / name)}  {name}\n" for name in names)


def read_checksums(run: Folder) -> dict[str, str]:
    """Return the SHA-256 of every file that ``COMPLETE`` names; none for a run that finished before it held any.

    Raises
    ------
    ResultsError
        If it is not there, or damaged.
    """
    path = run / COMPLETE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} is not readable: {error}") from error
    found = [LINE.fullmatch(line) for line in lines]
    if not all(found):
        raise ResultsError(f"{path} is damaged; run it again with --force")
    return {match[2]: match[1] for match in found if match}


def changed_files(run: Folder, names: Iterable[str] | None = None) -> list[str]:
    """Say what is wrong with files of a finished run, a line each; by default with all that ``COMPLETE`` names.

    A run that finished before digests were kept gives a :class:`ChecksumWarning` instead.
    """
    known = read_checksums(run)
    if not known:
        warnings.warn(
            f"{run} finished before digests were kept: nothing says whether its files are still what it wrote",
            ChecksumWarning,
            stacklevel=2,
        )
        return []
    wrong = []
    for name in known if names is None else names:
        if not (run / name).is_file():
            wrong.append(f"{name}: it is missing")
        elif name not in known:
            wrong.append(f"{name}: it was not there when the run finished")
        elif digest(run / name) != known[name]:
            wrong.append(
                f"{name}: it has changed since the run finished (its SHA-256 is not that of COMPLETE)"
            )
    return wrong


def check_files(run: Folder, names: Iterable[str]) -> None:
    """Refuse files of a finished run that are not what it wrote.

    Raises
    ------
    ResultsError
        Names the first of them, and how to get it back.
    """
    if wrong := changed_files(run, names):
        raise ResultsError(f"{run}/{wrong[0]}; restore the file, or run it again with --force")
