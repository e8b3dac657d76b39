"""A run is a value: what is trained, on what, and from which seed."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

TRAINING_VERSION = 2
"""Raised whenever `harness/training`, `harness/inputs` or `methods/parts/views` moves a number; a test compares with
recorded ones."""


class RunSpec(BaseModel):
    """What decides a run's numbers, apart from hardware and library versions.

    Attributes
    ----------
    label : str
        How tables call it: the method, with its variant (``dmic:mie``).
    config, engine : dict
        Validated configurations of the method and of the engine.
    split : int
        Training split of the data set (RegDB: the trial).
    data_digest : str
        Fingerprint of the data root.
    data : str
        ``real``, ``real-partial`` or ``synthetic``.
    weights : str
        Identity of the weights it starts from (a digest, or the recipe of a source training), and of those of files
        that later stages start from.
    sources : str
        Digest of the code of the method's file and of every module of `methods` that it imports.
    training_version : int
        :data:`TRAINING_VERSION` of the harness that trains it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    label: str
    preset: str
    config: dict[str, Any]
    engine: dict[str, Any]
    dataset: str
    split: int
    seed: int
    data_digest: str
    data: Literal["real", "real-partial", "synthetic"]
    weights: str
    sources: str
    training_version: int

    @property
    def id(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON of what decides the numbers."""
        identity = self.model_dump(exclude={"label", "preset"})
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no blanks: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
