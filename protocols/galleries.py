"""Draws galleries: from the seeds that public evaluation code uses, or from the official permutation file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from protocols.base import DataError
from protocols.matlab import read_matlab

Permutations = npt.NDArray[np.object_]


class ImageRow(NamedTuple):
    """One image of a list: whom it shows, which camera took it, its file name."""

    identity: int
    camera: int
    name: str


class Folder(NamedTuple):
    """The sorted image names of an identity in a camera."""

    identity: int
    camera: int
    names: list[str]


def seeded_draw(folders: Sequence[Folder], trial: int, shots: int) -> list[ImageRow]:
    """Draw `shots` images a folder; the trial's number is the seed."""
    return single_shot(folders, trial) if shots == 1 else multi_shot(folders, trial, shots)


def single_shot(folders: Sequence[Folder], trial: int) -> list[ImageRow]:
    """Draw one image a folder, all from one stream seeded by the trial (docs/protocols.md).

    ``choice`` of ``random.Random`` draws the same in every version of Python 3.
    """
    stream = random.Random(trial)
    return [ImageRow(i, c, stream.choice(names)) for i, c, names in folders]


def multi_shot(folders: Sequence[Folder], trial: int, shots: int) -> list[ImageRow]:
    """Draw `shots` different images a folder from NumPy's legacy stream, seeded by the trial (docs/protocols.md)."""
    stream = np.random.RandomState(trial)  # the legacy stream is the protocol
    return [
        ImageRow(i, c, str(name))
        for i, c, names in folders
        for name in stream.choice(names, shots, replace=False)
    ]


def read_permutations(path: Path, cameras: int) -> Permutations:
    """Read a permutation file: per camera and identity a matrix (10, n) of permutations of 1..n.

    Raises
    ------
    DataError
        If it is not there, or no such file.
    """
    if not path.is_file():
        raise DataError(
            f"{path} not found; the official galleries need it (it comes with the official evaluation code)"
        )
    try:
        cells: Permutations = read_matlab(path, ("rand_perm_cam",))["rand_perm_cam"]
    except (DataError, KeyError) as error:
        raise DataError(f"{path} is not the official permutation file: {error}") from error
    if cells.shape != (cameras, 1) or not all(is_column_of_cells(cell) for cell in cells.flat):
        raise DataError(
            f"{path} is not the official permutation file: expected a cell of {cameras} x 1 cells"
        )
    return cells


def is_column_of_cells(cell: object) -> bool:
    """Say whether a camera's entry is a column of matrices."""
    return (
        isinstance(cell, np.ndarray)
        and cell.dtype == object
        and cell.shape[1:] == (1,)
        and all(isinstance(matrix, np.ndarray) and matrix.ndim == 2 for matrix in cell.flat)
        and all(matrix.dtype != object for matrix in cell.flat)
    )


def official_draw(
    permutations: Permutations, folders: Sequence[Folder], trial: int, shots: int
) -> list[ImageRow]:
    """Take the first `shots` entries of a trial's row, camera major, identity minor (docs/protocols.md).

    Raises
    ------
    DataError
        If a permutation is not one of its folder; names camera, identity and both counts.
    """
    rows = []
    for identity, camera, names in sorted(folders, key=lambda folder: (folder.camera, folder.identity)):
        known = permutations[camera - 1, 0]
        order = known[identity - 1, 0] if identity <= len(known) else np.empty((0, 0))
        if order.shape[1] != len(names):
            raise DataError(
                f"rand_perm_cam.mat has {order.shape[1]} images of identity {identity} in camera {camera}, "
                f"the folder {len(names)}; the file and the images must be of one release"
            )
        if len(order) <= trial or sorted(order[trial]) != list(range(1, len(names) + 1)):
            raise DataError(
                f"rand_perm_cam.mat, camera {camera}, identity {identity}: row {trial + 1} is missing or not a "
                f"permutation of 1..{len(names)}; get the original file"
            )
        rows += [ImageRow(identity, camera, names[k - 1]) for k in order[trial, :shots].astype(int)]
    return rows
