"""The distances that a user can ask for by name, and what each of them needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from methods.clustering.camera_aware import CameraAware
from methods.clustering.expansion import MIE, Capped, Expansion, MeanExpansion, ModalityMean

EXPANSIONS: Mapping[str, type[Expansion] | type[CameraAware]] = {
    "none": MeanExpansion,
    "plain": MeanExpansion,
    "modality-mean": ModalityMean,
    "mie": MIE,
    "capped": Capped,
    "camera-aware": CameraAware,
}
"""``none`` is another name of ``plain``; ``camera-aware`` has lists and an expansion of its own."""
ARRAYS = ("modality", "camera")
"""What can be known of every sample beside its features; other fields of an expansion are numbers."""


def arrays_of(name: str) -> tuple[str, ...]:
    """Name the arrays (n,) that an expansion needs beside the features."""
    return tuple(sorted(_fields(name) & {*ARRAYS}, key=ARRAYS.index))


def settings_of(name: str) -> frozenset[str]:
    """Name the settings that an expansion reads."""
    return frozenset(_fields(name) - {*ARRAYS})


def make_expansion(name: str, values: Mapping[str, Any]) -> Expansion | CameraAware:
    """Make an expansion of the settings and arrays among `values`; what it does not read is left aside."""
    return EXPANSIONS[name](**{key: values[key] for key in _fields(name) & values.keys()})


def _fields(name: str) -> set[str]:
    return {field.name for field in fields(EXPANSIONS[name])}  # type: ignore[arg-type]
