"""Bundles: finished runs in one file, to give to others; neither images nor weights.

A bundle is a ZIP archive with a folder a run, named by its id, and in it the files of :data:`LIMITS`, byte for byte
those of the run's directory. Nothing in it is compressed anew (``ranks.npz`` is already), members are sorted and bear
no times: equal runs give equal bytes. Reading one unpacks nothing to disk: members are found by the names that we
give them, any other member is refused, and as none is compressed, none is larger than the file.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.checksums import COMPLETE
from results.errors import ResultsError
from results.files import Folder, whole

__all__ = ["is_bundle", "open_bundle", "write_bundle"]

MIB = 2**20
LIMITS = {
    COMPLETE: MIB,
    "history.csv": 64 * MIB,
    "manifest.json": 4 * MIB,
    "metrics.csv": 64 * MIB,
    "profile.csv": 64 * MIB,
    "ranks.npz": 1024 * MIB,
}
"""The files of a run that a bundle has, and the most bytes that each may have."""
MOST_RUNS = 10_000
RUN = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)
"""What a run's folder may be called."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP archive can name; all members have it."""


def is_bundle(path: Path) -> bool:
    """Say whether a path is that of a file called ``.zip``."""
    return path.suffix.lower() == ".zip" and path.is_file()


def write_bundle(runs: Mapping[str, Folder], out: Path) -> None:
    """Write a bundle whole, or not at all.

    Parameters
    ----------
    runs : mapping of run id to folder
        Directories of finished runs, or folders within bundles.

    Raises
    ------
    ResultsError
        If an id cannot name a folder, or a file is missing or too large.
    OSError
        If it cannot be written.
    """
    for run in runs:
        if not RUN.fullmatch(run):
            raise ResultsError(f"{runs[run]}: {run!a} is not the id of a run; use an unchanged manifest")
    with whole(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for run, folder in sorted(runs.items()):
            for name, limit in LIMITS.items():
                entry = zipfile.ZipInfo(f"{run}/{name}", EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16  # whatever system writes it
                archive.writestr(entry, content(folder / name, limit))


def content(path: Folder, limit: int) -> bytes:
    """Return the bytes of a file that may have so many."""
    try:
        data = path.read_bytes()
    except (OSError, KeyError) as error:
        raise ResultsError(f"{path} is not readable: {error}") from error
    if len(data) > limit:
        raise ResultsError(f"{path} has {len(data)} bytes; a bundle takes {limit} of {path.name}")
    return data


def open_bundle(path: Path) -> list[Folder]:
    """Return the folders of the runs of a bundle, sorted; they stay readable as long as somebody has them.

    Raises
    ------
    ResultsError
        If it is damaged, or is not what :func:`write_bundle` writes; names the member.
    """
    try:
        archive = zipfile.ZipFile(path)
        problem = fault(archive.infolist())
        damaged = None if problem else archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise ResultsError(f"{path} is not a readable bundle: {error}; get it again") from error
    if problem or damaged:
        archive.close()
        raise ResultsError(
            f"{path}: {problem or f'{damaged!a} is damaged'}; a bundle is what `reidbench bundle` writes, unchanged"
        )
    runs = sorted({name.split("/")[0] for name in archive.namelist()})
    return [zipfile.Path(archive, run) for run in runs]


def fault(entries: Sequence[zipfile.ZipInfo]) -> str:
    """Say what is not as in a bundle; empty if nothing is."""
    found: dict[str, set[str]] = {}
    if not entries:
        return "it holds no run"
    for entry in entries:
        run, slash, name = entry.filename.partition("/")
        if not RUN.fullmatch(run) or not slash or name not in LIMITS:
            return f"it has a member {entry.filename[:100]!a}"
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            return f"{entry.filename} is compressed"
        if entry.flag_bits & 1:
            return f"{entry.filename} is encrypted"
        if entry.file_size > LIMITS[name]:
            return f"{entry.filename} has {entry.file_size} bytes, more than the {LIMITS[name]} allowed"
        if name in found.setdefault(run, set()):
            return f"{entry.filename} stands twice"
        found[run].add(name)
    if len(found) > MOST_RUNS:
        return f"it holds {len(found)} runs, more than the {MOST_RUNS} allowed"
    lacking = [
        f"{run}/{name}" for run, names in sorted(found.items()) for name in LIMITS if name not in names
    ]
    return f"it lacks {lacking[0]}" if lacking else ""
