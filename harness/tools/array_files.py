"""Reads named arrays from anybody's files, without pandas, which would take longer to import than to read them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError
from protocols.base import DataError
from protocols.matlab import read_matlab
from results.arrays import member

LABELS = ("query_ids", "gallery_ids", "query_cams", "gallery_cams")
"""Integer vectors of a result; see :func:`harness.tools.score.score_file`."""
VECTORS = (*LABELS, "modality", "camera", "identity")
Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(path: Path, wanted: Collection[str]) -> Arrays:
    """Read arrays of an ``.npz``, ``.mat`` or PyTorch file; nothing is unpickled, what is not wanted is left empty.

    Raises
    ------
    HarnessError
        If it is not such a file, or holds Python objects.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise HarnessError(
            f"{path}: {what}; expected an .npz with {', '.join(wanted)}, as far as they are needed"
        )
    if path.suffix.lower() == ".mat":
        return read_mat(path, wanted)
    if path.suffix.lower() in (".pt", ".pth"):
        return read_torch(path, wanted)
    arrays: Arrays = {}
    key = ""
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise HarnessError(f"{path} holds a single array; write named arrays with numpy.savez")
        with loaded:
            for key in loaded.files:
                arrays[key] = member(loaded, key) if key in wanted else np.empty(0)
    except HarnessError:
        raise
    except Exception as error:  # damaged headers and archives make NumPy and zipfile raise almost anything
        where = f": the array {key!a}" if key else ""
        # NumPy goes on with the advice to load it unsafely
        reason = str(error).partition(". ")[0].partition(", ")[0] if "unsafely" in str(error) else error
        raise HarnessError(
            f"{path}{where} is not readable as .npz of plain arrays ({reason or type(error).__name__}); "
            "write it with numpy.savez"
        ) from error
    return arrays


def read_mat(path: Path, wanted: Collection[str]) -> Arrays:
    """Read matrices of a MATLAB file; a matrix of one row or column is a vector there."""
    try:
        found = read_matlab(path, wanted)
    except DataError as error:
        raise HarnessError(f"{path}: {error}") from error
    return {
        name: array.ravel() if name in VECTORS and min(array.shape) == 1 else array
        for name, array in found.items()
    }


def read_torch(path: Path, wanted: Collection[str]) -> Arrays:
    """Read the tensors of a dict that ``torch.save`` wrote."""
    import torch  # no other file needs it

    from harness.runs.weights import read_weights

    state = read_weights(path)
    return {
        name: tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
        for name, tensor in state.items()
        if name in wanted
    }


def labels_of(path: Path, arrays: Arrays, key: str) -> npt.NDArray[np.int64]:
    """Return one of the integer vectors.

    Raises
    ------
    HarnessError
        If it is missing, not one-dimensional, not integer, or beyond 64 bits with a sign.
    """
    if key not in arrays:
        raise HarnessError(
            f"{path}: the array {key!r} is missing; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    values = arrays[key]
    if values.ndim == 2 and 1 in values.shape:  # a column, as other programs write vectors
        values = values.ravel()
    if values.ndim != 1:
        raise HarnessError(f"{path}: {key} has shape {values.shape}; expected one number an image")
    if values.dtype.kind not in "iu":
        whole = values.dtype.kind == "f" and bool(np.all(values == np.round(values)))
        hint = f"; write {key}.astype('int64')" if whole else ""
        raise HarnessError(f"{path}: {key} holds {values.dtype}; expected integers{hint}")
    integers = values.astype(np.int64)
    if values.dtype.kind == "u" and (integers < 0).any():
        raise HarnessError(f"{path}: {key} has numbers of 2**63 and more; number the images from 0")
    return integers


def refuse_odd_features(path: Path, key: str, features: npt.NDArray[Any]) -> None:
    """Refuse features that are no matrix of floating-point numbers."""
    if features.dtype.kind != "f" or features.ndim != 2 or 0 in features.shape:
        raise HarnessError(
            f"{path}: {key} has shape {features.shape} and type {features.dtype}; expected a matrix of "
            "floating-point numbers, one row an image"
        )
