"""Scores a backbone on every trial that its training split may be tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.inputs.store import ImageOpener
from harness.training.engine import Engine
from protocols.base import (
    Dataset,
    Distance,
    Headline,
    Images,
    LabelledImages,
    Protocol,
    Scores,
    Trial,
    joined,
    metric_values,
)
from protocols.lists import list_digest


@dataclass(frozen=True)
class Result:
    """What one evaluation gives.

    Attributes
    ----------
    rows : list of dict
        One per trial and metric, without the run's own columns.
    selection : float
        The score that picks epochs.
    ranks : mapping of str to array
        Per trial, under ``protocol/setting/number/``, what :func:`rank_arrays` keeps of every query.
    """

    rows: list[dict[str, Any]]
    selection: float
    ranks: dict[str, npt.NDArray[Any]]


class Evaluation:
    """The trials of a split, with their images opened once.

    Attributes
    ----------
    trials : list of (Protocol, Trial, digest of its lists)
    listed : LabelledImages
        Every image of every trial, once.
    images : ImageStore
        The pixels of `listed`.
    """

    def __init__(
        self, protocols: Sequence[Protocol], root: Path, split: int, opener: ImageOpener, allow_partial: bool
    ) -> None:
        self._headline = protocols[0].dataset.headline
        self.trials = [
            (protocol, trial, list_digest(trial))
            for protocol in protocols
            for trial in own_trials(protocol, root, split, allow_partial=allow_partial)
        ]
        self.listed = distinct([side for _, trial, _ in self.trials for side in (trial.query, trial.gallery)])
        self.images = opener.open(root, self.listed.images.paths, Image.Resampling.LANCZOS)

    def run(
        self,
        engine: Engine,
        backbone: nn.Module,
        feature: Literal["post-bn", "pooled"] = "post-bn",
        *,
        flip: bool = True,
    ) -> Result:
        """Extract every test image once, then score all trials."""
        features = self.extract(engine, backbone, feature, flip=flip)
        tracked = engine.reporter.track(self.trials, len(self.trials), "score")
        return score_trials(tracked, self.listed, features, engine.negated_products, self._headline)

    def extract(
        self,
        engine: Engine,
        backbone: nn.Module,
        feature: Literal["post-bn", "pooled"] = "post-bn",
        *,
        flip: bool = True,
    ) -> Tensor:
        """Return the features (n, d) of the images of `listed`."""
        images = self.listed.images
        features = engine.extract(
            backbone, self.images, images.modality, "extract test", feature=feature, flip=flip
        )
        refuse_features(features, images.paths, "test")
        return features


def score_trials(
    trials: Iterable[tuple[Protocol, Trial, str]],
    listed: LabelledImages,
    features: Tensor,
    products: Callable[[Tensor, Tensor], Distance],
    headline: Headline,
) -> Result:
    """Score the features (n, d) of the images of `listed` on every trial; `products` makes distances of two lists."""
    row_of = {path: i for i, path in enumerate(listed.images.paths)}
    rows: list[dict[str, Any]] = []
    ranks: dict[str, npt.NDArray[Any]] = {}
    for protocol, trial, digest in trials:
        query, gallery = (
            torch.tensor([row_of[path] for path in side.images.paths], device=features.device)
            for side in (trial.query, trial.gallery)
        )
        make = partial(own_distances, protocol) if protocol.from_features else products
        scores = protocol.score(
            make(features[query], features[gallery]),
            trial.query.identity,
            trial.gallery.identity,
            trial.query.images.camera,
            trial.gallery.images.camera,
        )
        rows.extend(trial_rows(protocol, trial, digest, scores))
        for name, array in rank_arrays(trial, scores).items():
            ranks[f"{protocol.id}/{trial.setting}/{trial.number}/{name}"] = array
    return Result(rows, selection_score(rows, headline), ranks)


def own_distances(protocol: Protocol, query: Tensor, gallery: Tensor) -> npt.NDArray[Any]:
    """Return the distances that a protocol makes from features.

    Raises
    ------
    HarnessError
        If they are no matrix of finite numbers of the right shape; names the protocol.
    """
    distance = np.asarray(protocol.distances(query.cpu().numpy(), gallery.cpu().numpy()))
    shape = len(query), len(gallery)
    if distance.shape != shape or distance.dtype.kind != "f" or not np.isfinite(distance).all():
        raise HarnessError(
            f"the protocol {protocol.id} gives distances of shape {distance.shape} and type {distance.dtype}; "
            f"expected {shape}, all of them finite floating-point numbers"
        )
    return distance


def distinct(sides: Sequence[LabelledImages]) -> LabelledImages:
    """Return the images of several lists, each once, in order of first appearance; a file has one identity."""
    everything = joined(sides)
    first: dict[str, int] = {}
    for row, path in enumerate(everything.images.paths):
        first.setdefault(path, row)
    rows = np.array(list(first.values()))
    images = everything.images
    kept = Images(images.root, tuple(first), images.modality[rows], images.camera[rows])
    return LabelledImages(kept, everything.identity[rows])


def own_trials(protocol: Protocol, root: Path, split: int, *, allow_partial: bool) -> Sequence[Trial]:
    """Return the trials that weights of a split may be scored on.

    Raises
    ------
    HarnessError
        If the protocol gives a trial of another split, where the split is the trial: its test identities were
        trained on.
    """
    trials = protocol.trials(root, split, allow_partial=allow_partial)
    foreign = [trial.number for trial in trials if trial.number != split]
    if protocol.dataset.split_is_trial and foreign:
        raise HarnessError(
            f"protocol {protocol.id} gives trial {foreign[0]} for weights of split {split}; weights of one split are "
            "never tested on another"
        )
    return trials


def refuse_features(features: Tensor, paths: Sequence[str], what: str) -> None:
    """Raise if a feature cannot be compared: no number can be trusted with it.

    Raises
    ------
    HarnessError
        If a row is NaN, infinite or zero; says how many and names the first image.
    """
    low, high = torch.aminmax(features, dim=1)
    bad = ~(low.isfinite() & high.isfinite()) | ((low == 0) & (high == 0))
    if bad.any():
        first = paths[int(bad.nonzero()[0])]
        raise HarnessError(
            f"{int(bad.sum())} of {len(features)} {what} features are NaN, infinite or zero, the first is that of "
            f"{first}; training has diverged: lower learning_rate, or use --precision 32"
        )


def rank_arrays(trial: Trial, scores: Scores) -> dict[str, npt.NDArray[Any]]:
    """Return what is kept of a trial's ranked lists: every CMC point, metric and interval follows from it.

    Returns
    -------
    dict
        query_identity, query_camera : int64 (q,); average_precision : float64 (q,), NaN without a match;
        hits : int32 (total,) and hit_offsets : int64 (q + 1,); first_rank : int32 (q,), 0 without a match;
        first_ten_rows : int32 (q, 10), rows of the trial's gallery list; first_ten_distances : float32 (q, 10).
    """
    return {
        "query_identity": trial.query.identity,
        "query_camera": trial.query.images.camera,
        "average_precision": scores.average_precision,
        "hits": scores.hits.astype(np.int32),
        "hit_offsets": scores.hit_offsets,
        "first_rank": scores.first_rank.astype(np.int32),
        "first_ten_rows": scores.first_rows.astype(np.int32),
        "first_ten_distances": scores.first_distances.astype(np.float32),
    }


def trial_rows(protocol: Protocol, trial: Trial, digest: str, scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield one row per metric of a trial."""
    for metric, value in metric_values(scores).items():
        yield {
            "protocol": protocol.id,
            "protocol_version": protocol.version,
            "list_digest": digest,
            "setting": trial.setting,
            "trial": trial.number,
            "gallery_rule": trial.gallery_rule,
            "metric": metric,
            "value": value,
            "unit": "percent",
            "n_query": scores.n_query,
            "n_gallery": scores.n_gallery,
            "n_valid": scores.n_valid,
            **({"division": protocol.division} if protocol.division == "open" else {}),
            **about_data_set(protocol.dataset),
        }


def about_data_set(dataset: Dataset) -> dict[str, Any]:
    """Return what rows say about their data set: what picks the best epochs, its trials, whose weights count."""
    return {
        "headline": str(dataset.headline),
        "n_trials": dataset.n_trials,
        "split_is_trial": int(dataset.split_is_trial),
    }


def selection_score(rows: Sequence[dict[str, Any]], headline: Headline) -> float:
    """Return the test mAP by which epochs are picked: the mean over trials of the data set's headline setting.

    Most public codes pick by it; OTLA's and AGW's take rank-1, ADCA's and GUR's the first gallery alone. NaN if
    there are no such rows.
    """
    picked = [
        row["value"]
        for row in rows
        if row["metric"] == "mAP" and (row["protocol"], row["setting"]) == headline
    ]
    return float(np.mean(picked)) if picked else float("nan")
