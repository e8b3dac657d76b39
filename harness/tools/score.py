"""Scores anybody's distances or features by a protocol's rules (``reidbench score``)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import HarnessError
from harness.registry import load_protocols
from harness.tools.array_files import LABELS, Arrays, labels_of, read_arrays
from protocols.base import DataError, Protocol, Scores, metric_values
from protocols.files import DataWarning
from protocols.metrics import distances

CAMERAS = LABELS[2:]
NO_CAMERA = -1
FEATURES = ("query_features", "gallery_features")
KNOWN = (*LABELS, *FEATURES, "distance", "distances")


def numbered(arrays: Arrays) -> Arrays:
    """Return the arrays with identities that are texts on both sides as numbers; equal texts, equal numbers."""
    sides = LABELS[:2]
    if any(key not in arrays or arrays[key].dtype.kind != "U" for key in sides):
        return arrays
    query, gallery = (arrays[key].ravel() for key in sides)
    codes = np.unique(np.concatenate([query, gallery]), return_inverse=True)[1]
    return {**arrays, sides[0]: codes[: len(query)], sides[1]: codes[len(query) :]}


def refuse_junk(path: Path, labels: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """Refuse negative identities: images of nobody, or of no one known, would be ranked as a person.

    Raises
    ------
    HarnessError
        Says how many there are, and what to do.
    """
    for side in ("query", "gallery"):
        junk = int((labels[f"{side}_ids"] < 0).sum())
        if junk:
            raise HarnessError(
                f"{path}: {side}_ids has {junk} negative numbers; person re-identification marks junk images so, "
                f"which are ranked as nobody: leave these images out of {side}_ids, {side}_cams and the distances"
            )


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
    for key in given:
        norms = np.linalg.norm(arrays[key].astype(np.float64), axis=1)
        if (np.abs(norms - 1) > 0.01).any():
            text = (
                f"{path}: {key} has rows whose norm is not 1; their inner products are compared as they are"
            )
            warnings.warn(f"{text}, normalise them for the cosine", DataWarning, stacklevel=2)
    return distances(*(arrays[key] for key in FEATURES))


def values_of(scores: Scores) -> dict[str, float]:
    """Return the metrics of a trial in percent, and say how many queries count where not all do."""
    if scores.n_valid < scores.n_query:
        warnings.warn(
            f"{scores.n_query} queries, {scores.n_valid} valid queries; those without a match in the gallery "
            "that they see are left out of all means",
            DataWarning,
            stacklevel=3,
        )
    return metric_values(scores)


def warn_of_similarity(
    path: Path, protocol: Protocol, distance: npt.NDArray[Any], labels: Arrays, mean: float
) -> None:
    """Say so if the ranking is better upside down: then larger numbers mean nearer, as of a similarity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inverse = protocol.score(-distance, **labels).mAP
    if inverse > 2 * mean:
        warnings.warn(
            f"{path}: read from the far end, this ranking would have mAP {100 * inverse:.2f} instead of "
            f"{100 * mean:.2f}: 'distance' looks like a similarity; write its negative, smaller must be nearer",
            DataWarning,
            stacklevel=3,
        )


def one_protocol(name: str) -> Protocol:
    """Return the protocol of a name.

    Raises
    ------
    HarnessError
        If there is none, or the name stands for several.
    """
    chosen = load_protocols(name)
    if len(chosen) != 1:
        raise HarnessError(
            f"--protocol {name} stands for several; name one of {', '.join(p.id for p in chosen)}"
        )
    return chosen[0]


def score_file(path: Path, protocol_id: str) -> pd.DataFrame:
    """Score the arrays of a file.

    Parameters
    ----------
    path : Path
        ``.npz``, ``.mat`` or ``.pt`` with ``distance`` or ``distances`` (q, g), or ``query_features`` (q, d) and
        ``gallery_features`` (g, d), which are compared by their inner product as they are, and the integer
        vectors ``query_ids``, ``gallery_ids``, ``query_cams``, ``gallery_cams`` (which RegDB does without).
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
    protocol = one_protocol(protocol_id)
    arrays = numbered(read_arrays(path, KNOWN))
    if "distances" in arrays:
        arrays.setdefault("distance", arrays.pop("distances"))
    without = [key for key in CAMERAS if key not in arrays]
    labels = {key: labels_of(path, arrays, key) for key in LABELS if key not in without}
    for key in without:  # a protocol that looks at no cameras needs none; others refuse these
        labels[key] = np.full_like(labels[key.replace("cams", "ids")], NO_CAMERA)
    refuse_junk(path, labels)
    for side in ("query", "gallery"):
        ids, cams = labels[f"{side}_ids"], labels[f"{side}_cams"]
        if len(ids) != len(cams):
            raise HarnessError(f"{path}: {side}_ids has {len(ids)} entries, {side}_cams {len(cams)}")
    if protocol.from_features and "distance" in arrays:
        raise HarnessError(
            f"{path}: {protocol.id} makes its own distances; give query_features and gallery_features"
        )
    try:
        if protocol.from_features:
            distance = protocol.distances(*(np.asarray(arrays[key], np.float32) for key in FEATURES))
        else:
            distance = distance_of(path, arrays)
        scores = protocol.score(distance, **labels)
    except DataError as error:
        lacking = f"the array {without[0]!r} is missing: " if without and "_cams" in str(error) else ""
        raise HarnessError(f"{path}: {lacking}{error}") from error
    if "distance" in arrays:
        warn_of_similarity(path, protocol, distance, labels, scores.mAP)
    return pd.DataFrame(list(values_of(scores).items()), columns=["metric", "value"])
