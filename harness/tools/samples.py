"""Reads anybody's features, and what is known of the samples, from an ``.npz`` file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.tools.array_files import Arrays, labels_of, read_arrays, refuse_odd_features
from harness.training.diagnostics import cluster_quality
from methods.clustering.registry import arrays_of
from protocols.base import Modality
from protocols.files import DataWarning

INTEGERS = ("modality", "camera", "identity")
"""Arrays (n,) that a file may have beside the features."""


@dataclass(frozen=True)
class Samples:
    """Features and what is known of the samples.

    Attributes
    ----------
    features : float32 tensor (n, d), unit rows
    groups : mapping of str to int64 tensor (n,)
        ``modality`` and ``camera`` where the file has them.
    identity : int64 array (n,), optional
        For diagnostics only.
    """

    features: Tensor
    groups: Mapping[str, Tensor]
    identity: np.ndarray | None

    def __len__(self) -> int:
        return len(self.features)

    def missing(self, expansion: str) -> list[str]:
        """Name the arrays that an expansion needs and that are not there."""
        return [name for name in arrays_of(expansion) if name not in self.groups]

    def quality(self, labels: Tensor) -> dict[str, float]:
        """Compare labels with the identities; empty without them."""
        if self.identity is None:
            return {}
        known = {name: group.cpu().numpy() for name, group in self.groups.items()}
        return cluster_quality(labels.cpu().numpy(), self.identity, **known)


def read_samples(path: Path, device: torch.device) -> Samples:
    """Read ``features`` and, where present, ``modality``, ``camera`` and ``identity`` of an ``.npz`` file.

    Raises
    ------
    HarnessError
        Whatever is wrong with the file, by array name.
    """
    arrays = read_arrays(path, ("features", *INTEGERS))
    features = _features_of(path, arrays)
    integers: dict[str, np.ndarray] = {key: labels_of(path, arrays, key) for key in INTEGERS if key in arrays}
    for key, values in integers.items():
        if len(values) != len(features):
            raise HarnessError(f"{path}: {key} has {len(values)} entries, features {len(features)} rows")
    if "modality" in integers and (odd := sorted({*integers["modality"].tolist()} - {*Modality})):
        raise HarnessError(f"{path}: modality holds {odd[0]}; expected 0 (visible) and 1 (infrared)")
    if "camera" in integers and (integers["camera"] < 0).any():
        unknown = int((integers["camera"] < 0).sum())
        warnings.warn(
            f"{path}: camera holds {unknown} negative numbers; samples of one such number count as one camera's",
            DataWarning,
            stacklevel=2,
        )
    identity = integers.pop("identity", None)
    groups = {name: torch.from_numpy(values).to(device) for name, values in integers.items()}
    return Samples(torch.from_numpy(features).to(device), groups, identity)


def _features_of(path: Path, arrays: Arrays) -> np.ndarray:
    if "features" not in arrays:
        raise HarnessError(
            f"{path}: the array 'features' is missing; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    features = arrays["features"]
    refuse_odd_features(path, "features", features)
    return np.ascontiguousarray(features, dtype=np.float32)
