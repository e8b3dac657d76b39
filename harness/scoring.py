"""Scores anybody's distances or features by a protocol's rules (``reidbench score``)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import HarnessError
from harness.evaluation import metric_values
from harness.registry import load_protocols
from protocols.base import DataError
from protocols.metrics import distances

LABELS = ("query_ids", "gallery_ids", "query_cams", "gallery_cams")
FEATURES = ("query_features", "gallery_features")
Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(path: Path) -> Arrays:
    """Read the arrays of an ``.npz`` file; nothing is unpickled.

    Raises
    ------
    HarnessError
        If it is not such a file, or holds Python objects.
    """
    if not path.is_file():
        raise HarnessError(
            f"{path}: no such file; expected an .npz with {', '.join(LABELS)} and distance or features"
        )
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise HarnessError(f"{path} holds a single array; write named arrays with numpy.savez")
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        if isinstance(error, HarnessError):
            raise
        raise HarnessError(f"{path} is not a readable .npz of plain arrays: {error}") from error


def labels_of(path: Path, arrays: Arrays, key: str) -> npt.NDArray[np.int64]:
    """Return one of the integer vectors.

    Raises
    ------
    HarnessError
        If it is missing, not one-dimensional, or not integer.
    """
    if key not in arrays:
        raise HarnessError(
            f"{path}: the array {key!r} is missing; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    values = arrays[key]
    if values.ndim != 1:
        raise HarnessError(f"{path}: {key} has shape {values.shape}; expected one number an image")
    if values.dtype.kind not in "iu":
        whole = values.dtype.kind == "f" and bool(np.all(values == np.round(values)))
        hint = f"; write {key}.astype('int64')" if whole else ""
        raise HarnessError(f"{path}: {key} holds {values.dtype}; expected integers{hint}")
    return values.astype(np.int64)


def distance_of(path: Path, arrays: Arrays) -> npt.NDArray[np.floating]:
    """Return the distance matrix (q, g): as given, or from features.

    Raises
    ------
    HarnessError
        If there is neither, or both; or they are not matrices of real numbers.
    """
    given = [key for key in FEATURES if key in arrays]
    if ("distance" in arrays) == (len(given) == len(FEATURES)) or len(given) == 1:
        raise HarnessError(
            f"{path}: expected either 'distance' (queries x gallery, smaller is nearer) or both "
            f"'query_features' and 'gallery_features'; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    for key in given or ["distance"]:
        if arrays[key].dtype.kind not in "fiu" or arrays[key].ndim != 2:
            raise HarnessError(
                f"{path}: {key} has shape {arrays[key].shape} and type {arrays[key].dtype}; "
                "expected a matrix of numbers"
            )
    if not given:
        return arrays["distance"].astype(np.float64)
    return distances(*(arrays[key].astype(np.float64) for key in FEATURES))


def score_file(path: Path, protocol_id: str) -> pd.DataFrame:
    """Score the arrays of a file.

    Parameters
    ----------
    path : Path
        ``.npz`` with ``distance`` (q, g) or ``query_features`` (q, d) and ``gallery_features`` (g, d),
        compared by their inner product as they are (normalise them for the cosine), and the integer
        vectors ``query_ids``, ``gallery_ids``, ``query_cams``, ``gallery_cams``.
    protocol_id : str

    Returns
    -------
    DataFrame
        Columns metric (rank-1, rank-5, rank-10, rank-20, mAP, mINP) and value, in percent.

    Raises
    ------
    HarnessError
        Whatever is wrong with the file, by array name.
    """
    chosen = load_protocols(protocol_id)
    if len(chosen) != 1:
        raise HarnessError(
            f"--protocol {protocol_id} stands for several; name one of {', '.join(p.id for p in chosen)}"
        )
    arrays = read_arrays(path)
    labels = {key: labels_of(path, arrays, key) for key in LABELS}
    for side in ("query", "gallery"):
        ids, cams = labels[f"{side}_ids"], labels[f"{side}_cams"]
        if len(ids) != len(cams):
            raise HarnessError(f"{path}: {side}_ids has {len(ids)} entries, {side}_cams {len(cams)}")
    try:
        scores = chosen[0].score(distance_of(path, arrays), **labels)
    except DataError as error:
        raise HarnessError(f"{path}: {error}") from error
    return pd.DataFrame(list(metric_values(scores).items()), columns=["metric", "value"])
