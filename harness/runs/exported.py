"""Lists of queries and galleries as CSV, for anybody's code (``reidbench data export``), and back again."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.errors import HarnessError
from harness.runs.files import write_atomic
from protocols.base import Images, LabelledImages, Protocol, Trial
from protocols.files import DataWarning
from results.files import clear_leftovers

COLUMNS = ("path", "identity", "camera")
QUERY, GALLERY = "query_{}.csv", "gallery_{}.csv"
NAME = re.compile(r"(query|gallery)_([0-9]{1,9})\.csv")
RULE = "exported"
"""How galleries that were read back came about, as far as their lists say."""
INTEGER = re.compile("-?[0-9]{1,18}")


def export(protocol: Protocol, root: Path, out: Path, *, allow_partial: bool = False) -> list[Path]:
    """Write the lists of all trials as CSV, for anybody's code.

    Files are ``query_<trial>.csv`` and ``gallery_<trial>.csv`` with the columns ``path,identity,camera``, in
    evaluation order: those of the protocol's first setting in `out`, of another in ``<out>/<setting>``. Lists that
    are there already, from an export that was stopped, stay if they are the same.

    Raises
    ------
    HarnessError
        If `out` has other lists.
    """
    contents: dict[Path, bytes] = {}
    first = ""
    for split in protocol.dataset.splits:
        for trial in protocol.trials(root, split, allow_partial=allow_partial):
            first = first or trial.setting
            folder = out if trial.setting == first else out / trial.setting
            contents |= {folder / name: content for name, content in trial_lists(trial)}
    if not contents:
        warnings.warn(f"{protocol.id} has no trials on {root}", DataWarning, stacklevel=2)
    there = {path for folder in {path.parent for path in contents} for path in lists_in(folder)}
    if others := [path for path in there if path not in contents or path.read_bytes() != contents[path]]:
        raise HarnessError(
            f"{out} holds other lists already, as {min(others)}; delete them, or choose another folder with --out"
        )
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path not in there:
            write_atomic(path, content)
    for folder in {path.parent for path in contents}:
        clear_leftovers(folder, shared=True)
    return list(contents)


def lists_in(folder: Path) -> Iterator[Path]:
    """Yield the query and gallery lists of a folder."""
    yield from folder.glob("query_*.csv")
    yield from folder.glob("gallery_*.csv")


def trial_lists(trial: Trial) -> Iterator[tuple[str, bytes]]:
    """Yield file names and contents of one trial's two lists."""
    for name, side in ((QUERY, trial.query), (GALLERY, trial.gallery)):
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(COLUMNS)
        lines.writerows(
            zip(side.images.paths, side.identity.tolist(), side.images.camera.tolist(), strict=True)
        )
        yield name.format(trial.number), text.getvalue().encode(errors="surrogateescape")


def exported(folder: Path, protocol: Protocol) -> list[Trial]:
    """Read the trials that :func:`export` wrote into a folder; none where there are no lists.

    The lists in the folder itself are those of the setting that heads the data set's tables. Modalities are not known.

    Raises
    ------
    HarnessError
        If a list is damaged, or lacks its other half; says which, and the line.
    """
    if not folder.is_dir():
        return []
    if (folder / protocol.id).is_dir():  # of several protocols that were exported together
        folder = folder / protocol.id
    settings = {protocol.dataset.headline.setting: folder}
    settings |= {below.name: below for below in sorted(folder.iterdir()) if below.is_dir()}
    return [
        Trial(
            setting,
            number,
            read_list(where / QUERY.format(number)),
            read_list(where / GALLERY.format(number)),
            RULE,
        )
        for setting, where in settings.items()
        for number in numbers_in(where)
    ]


def numbers_in(folder: Path) -> list[int]:
    """Return the numbers of the trials that a folder has a list of."""
    names = (NAME.fullmatch(path.name) for path in lists_in(folder))
    return sorted({int(name[2]) for name in names if name})


def read_list(path: Path) -> LabelledImages:
    """Read a list of images; errors as of :func:`exported`."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, csv.Error) as error:
        raise HarnessError(f"{path} is not readable ({error}); export the lists again") from error
    if not rows or tuple(rows[0]) != COLUMNS:
        raise HarnessError(f"{path}: line 1 is not {','.join(COLUMNS)}, as `reidbench data export` writes it")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(COLUMNS) or not all(INTEGER.fullmatch(one) for one in row[1:]):
            raise HarnessError(
                f"{path}: line {line} is not a path, an identity and a camera; export the lists again"
            )
    paths = tuple(row[0] for row in rows[1:])
    identity, camera = (np.array([int(row[place]) for row in rows[1:]], dtype=np.int64) for place in (1, 2))
    return LabelledImages(Images(path.parent, paths, np.zeros_like(camera), camera), identity)
