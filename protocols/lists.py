"""Reads the text files of data sets (identities on one line, or an image and its label a line), and digests lists."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from protocols.base import DataError, Trial


def read_lines(path: Path) -> list[str]:
    """Return a text file's lines; a file that is not UTF-8 is a :class:`DataError` naming it."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); get the original file") from error


def read_identities(path: Path) -> list[int]:
    """Read identities up to 9999 from one line, separated by commas; ascending in the result.

    Raises
    ------
    DataError
        With file, line and column of what is not an identity, or of a second line, or of a repeated identity.
    """
    lines = read_lines(path)
    if not lines or not lines[0].strip():
        raise DataError(f"{path}, line 1: empty; expected identities separated by commas")
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            raise DataError(f"{path}, line {number}: unexpected second line; all identities go on line 1")
    ids: list[int] = []
    column = 1
    for field in lines[0].split(","):
        if not re.fullmatch(r"\s*[0-9]+\s*", field):
            raise DataError(
                f"{path}, line 1, column {column}: {field.strip()[:40]!a} is not an identity number"
            )
        identity = int(field) if len(field.strip()) < 20 else 10**20
        if identity > 9999:
            raise DataError(f"{path}, line 1, column {column}: identity {field.strip()[:20]} is above 9999")
        if identity in ids:
            raise DataError(f"{path}, line 1, column {column}: identity {identity} stands twice; remove one")
        ids.append(identity)
        column += len(field) + 1
    return sorted(ids)


def read_labelled_paths(root: Path, path: Path) -> tuple[tuple[str, ...], list[int]]:
    """Read lines of an image's path below `root`, blanks and a label; in the order of the lines.

    Raises
    ------
    DataError
        With file and line of what is malformed, outside the root, or missing on disk.
    """
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path}: empty; expected one image and label a line")
    rows = [parse_line(root, path, number, line) for number, line in enumerate(lines, start=1)]
    return tuple(name for name, _ in rows), [label for _, label in rows]


def parse_line(root: Path, path: Path, number: int, line: str) -> tuple[str, int]:
    """Split a line at its last run of blanks into a relative path and a label; backslashes separate folders too."""
    match = re.fullmatch(r"(.*\S)[ \t]+([0-9]{1,18})\s*", line)
    if match is None:
        raise DataError(f"{path}, line {number}: {line!r} is not a path, a blank and an integer label")
    name, label = match.group(1), int(match.group(2))
    if "\\" in name and not (root / name).is_file():
        name = name.replace("\\", "/")
    pure = PurePosixPath(name)
    if re.match(r"[A-Za-z]:/", name):
        raise DataError(f"{path}, line {number}: {name} is an absolute path; paths begin below the data root")
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(f"{path}, line {number}: {name} leads outside the data root")
    if re.search(r"\s\d+$", name):
        raise DataError(f"{path}, line {number}: {line!r} has an extra field; expected a path and a label")
    if not (root / pure).is_file():
        raise DataError(f"{path}, line {number}: no image {name} below {root}; restore it from the original")
    return name, label


def list_digest(trial: Trial) -> str:
    """Digest the ordered query and gallery lists of a trial (paths, cameras, identities)."""
    digest = hashlib.sha256()
    for side in (trial.query, trial.gallery):
        digest.update("\n".join(side.images.paths).encode(errors="surrogateescape"))
        digest.update(side.images.camera.astype("<i8").tobytes())
        digest.update(side.identity.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
