"""Scores features that are named by their images' paths, on every trial of a protocol (``reidbench score --data``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from harness.errors import HarnessError
from harness.runs.data import find_root
from harness.runs.exported import exported
from harness.tools.array_files import Arrays, labels_of, read_arrays, refuse_odd_features
from harness.tools.score import values_of
from protocols.base import LabelledImages, Protocol, Trial
from protocols.metrics import distances

WANTED = ("features", "paths", "split")
NO_SPLIT = 0
"""Stands for features of weights that were not trained on the data set: they may be scored on every trial."""


def score_by_path(file: Path, protocol: Protocol, data: str | None) -> pd.DataFrame:
    """Score features on all trials; lists and identities are the protocol's.

    Parameters
    ----------
    file : Path
        ``.npz`` with ``features`` (n, d) and ``paths`` (n,), texts relative to the data root; where each trial has a
        training of its own also ``split`` (n,) or one number: the training split of the weights that each row is of,
        0 for weights that were not trained on the data set.
    data : str, optional
        Data root, by default that of the environment; or a folder of lists that ``reidbench data export`` wrote.

    Returns
    -------
    DataFrame
        setting, trial, metric, value in percent.

    Raises
    ------
    HarnessError, DataError
        Whatever is wrong with the file, the root or the lists.
    """
    arrays = read_arrays(file, WANTED)
    features, splits = features_of(file, arrays), splits_of(file, arrays, protocol)
    lists = exported(Path(data), protocol) if data else []
    root = Path(data or "") if lists else find_root(data, protocol, 0, lambda _line: None)
    names = [relative(str(name), root) for name in arrays["paths"].ravel()]
    rows = []
    # lists say no training split but by the number of a trial
    for split in protocol.dataset.splits[:1] if lists and not len(splits) else protocol.dataset.splits:
        chosen = (
            np.flatnonzero((splits == split) | (splits == NO_SPLIT)) if len(splits) else np.arange(len(names))
        )
        if not len(chosen):
            continue
        by_path = {names[i]: int(i) for i in chosen}
        if len(by_path) < len(chosen):
            raise HarnessError(
                f"{file}: {len(chosen) - len(by_path)} paths stand twice for one split; keep one each"
            )
        for trial in lists or protocol.trials(root, split):
            if trial.number == split or not len(splits):
                rows += list(trial_values(file, protocol, trial, features, by_path))
    if not rows:
        raise HarnessError(
            f"{file}: split names none of {protocol.dataset.splits}, the training splits there are"
            + (f", that has lists in {data}" if lists else "")
        )
    return pd.DataFrame(rows, columns=["setting", "trial", "metric", "value"])


def trial_values(
    file: Path,
    protocol: Protocol,
    trial: Trial,
    features: np.ndarray,
    by_path: dict[str, int],
) -> Iterator[tuple[str, int, str, float]]:
    """Yield setting, trial, metric and value of a trial."""
    query, gallery = (features[rows_of(file, side, by_path)] for side in (trial.query, trial.gallery))
    made = protocol.distances(query, gallery) if protocol.from_features else distances(query, gallery)
    scores = protocol.score(
        made,
        trial.query.identity,
        trial.gallery.identity,
        trial.query.images.camera,
        trial.gallery.images.camera,
    )
    for metric, value in values_of(scores).items():
        yield trial.setting, trial.number, metric, value


def features_of(file: Path, arrays: Arrays) -> np.ndarray:
    """Return the features (n, d) in float32."""
    for key in ("features", "paths"):
        if key not in arrays:
            raise HarnessError(
                f"{file}: the array {key!r} is missing; it has {', '.join(sorted(arrays)) or 'none'}. With --data, "
                "give features (n, d) and paths (n,), relative to the data root"
            )
    refuse_odd_features(file, "features", arrays["features"])
    if arrays["paths"].dtype.kind != "U" or arrays["paths"].size != len(arrays["features"]):
        raise HarnessError(
            f"{file}: paths has shape {arrays['paths'].shape} and type {arrays['paths'].dtype}; expected "
            f"{len(arrays['features'])} texts, as numpy.array([...], dtype=str) makes them"
        )
    return np.asarray(arrays["features"], dtype=np.float32)


def splits_of(file: Path, arrays: Arrays, protocol: Protocol) -> np.ndarray:
    """Return the training split of each row; empty where weights of any may be scored."""
    if not protocol.dataset.split_is_trial:
        return np.empty(0, dtype=np.int64)
    if "split" not in arrays:
        raise HarnessError(
            f"{file}: {protocol.dataset.name} has a training for each trial, and weights of one are never tested on "
            "another: add the array 'split', for each row the training split of its weights (0: not trained on the "
            "data set)"
        )
    given = arrays["split"]
    if given.size == 1:
        given = np.full(len(arrays["features"]), given.ravel()[0])
    return labels_of(file, {"split": given}, "split")


def relative(name: str, root: Path) -> str:
    """Return a path relative to the data root, with forward slashes."""
    text = name.replace("\\", "/").removeprefix(f"{root.as_posix()}/")
    return str(PurePosixPath(text))


def rows_of(file: Path, side: LabelledImages, by_path: dict[str, int]) -> list[int]:
    """Return the rows of a list's images.

    Raises
    ------
    HarnessError
        If some have none; says how many and names the first.
    """
    lacking = [path for path in side.images.paths if path not in by_path]
    if lacking:
        raise HarnessError(
            f"{file}: {len(lacking)} of {len(side.images.paths)} images of a list have no features, the first is "
            f"{lacking[0]!a}; paths are relative to the data root, as {next(iter(by_path), '')!a} here"
        )
    return [by_path[path] for path in side.images.paths]


def summary_lines(frame: pd.DataFrame, total: int) -> Sequence[str]:
    """Return a line for every setting and metric: mean ± standard deviation over trials."""
    lines = []
    for (setting, metric), part in frame.groupby(["setting", "metric"], sort=False):
        count = part["trial"].nunique()
        over = f"{count} of {total} trials" if total else f"{count} trials"
        spread = f" ± {part['value'].std(ddof=1):.2f}" if count > 1 else ""
        lines.append(f"{setting:20} {metric:8} {part['value'].mean():6.2f}{spread} %  ({over})")
    return lines
