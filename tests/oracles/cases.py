"""What the comparisons with public code share: arrays, closeness, networks in place of the ResNet, one step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness.runs.fields import merged, with_group_defaults
from methods.base import Batch, Epoch, Method, TrainingData
from methods.values import Optimisation

Arrays = Mapping[str, np.ndarray]
Comparison = Callable[[Arrays], dict[str, float]]
"""Takes the arrays of a file, asserts, and returns the largest difference of each thing compared."""


@dataclass(frozen=True)
class Kind:
    """Recorded files that are known by what is in them, whatever their names.

    Attributes
    ----------
    suffix : str
        End of the file's name; the first kind whose suffix and keys fit is the file's.
    keys : tuple of str
        What a file of this kind holds, beside other things.
    compare : callable
        Takes the file's path, asserts, and returns the largest difference of each thing compared.
    """

    suffix: str
    keys: tuple[str, ...]
    compare: Callable[[Path], dict[str, float]]


@dataclass(frozen=True)
class Mutation:
    """A wrong change to the code, which the named tests must notice.

    Attributes
    ----------
    about : str
        What is wrong, in words.
    file : str
        From the repository's root.
    old, new : str
        `old` stands in the file exactly once.
    caught_by : tuple of str
        Files of ``tests/data`` (without suffix), or pytest node ids.
    """

    about: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


def load(path: Path) -> dict[str, np.ndarray]:
    """Read a file of arrays."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def cases_of(arrays: Arrays, suffix: str) -> list[str]:
    """Return the names of a file's cases: what stands before `suffix` in its keys, in order."""
    return list(dict.fromkeys(key[: -len(suffix)] for key in arrays if key.endswith(suffix)))


class Differences:
    """The largest difference of each kind in a comparison of many steps; refuses what is too large at once."""

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}

    def close(
        self, kind: str, ours: Any, theirs: Any, absolute: float, relative: float = 0.0, where: str = ""
    ) -> None:
        """Assert ``|ours - theirs| <= absolute + relative * |theirs|`` everywhere, and equal shapes."""
        a, b = (as_array(x).astype(np.float64) for x in (ours, theirs))
        assert a.shape == b.shape, f"{where} {kind}: shape {a.shape}, public code {b.shape}"
        assert np.isfinite(a).all(), f"{where} {kind}: not finite"
        gap = np.abs(a - b)
        self.largest[kind] = max(self.largest.get(kind, 0.0), float(gap.max(initial=0.0)))
        allowed = absolute + relative * np.abs(b)
        assert bool((gap <= allowed).all()), f"{where} {kind}: differs by {gap.max():.3g}"

    def equal(self, kind: str, ours: Any, theirs: Any, where: str = "") -> None:
        """Assert equality of every element, and equal shapes."""
        self.close(kind, ours, theirs, 0.0, where=where)

    def same(self, kind: str, ours: Any, theirs: Any, where: str = "") -> None:
        """Assert that two values, as lists of names, are equal."""
        assert ours == theirs, f"{where} {kind}: {ours!r}, public code {theirs!r}"
        self.largest.setdefault(kind, 0.0)


def as_array(value: Any) -> np.ndarray:
    """Return a tensor, an array or a number as an array."""
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)


def seed(purpose: str, *indices: int | str) -> int:
    """Seeds of a method under comparison; what it draws by itself is replaced, so that any will do."""
    return int.from_bytes(hashlib.sha256(repr((purpose, *indices)).encode()).digest()[:4], "big")


def training_data(
    dataset: str, modality: Tensor, camera: Tensor, architecture: str = "resnet18"
) -> TrainingData:
    """Training data of a method under comparison."""
    return TrainingData(dataset, modality, camera, architecture, None, seed)


def configured(method: type[Method], dataset: str, *presets: str, **changes: Any) -> Any:
    """Return a method's configuration: ``paper``, then `presets`, then `changes`."""
    values: dict[str, Any] = {}
    for name in ("paper", *presets):
        preset = method.presets.get(name, {})
        values = merged(merged(values, preset.get("*", {})), preset.get(dataset, {}))
    return method.Config(**with_group_defaults(method.Config, merged(values, changes)))


def network(replacement: Callable[..., nn.Module]) -> AbstractContextManager[Any]:
    """Build two-stream methods on another network than the ResNet while the context lasts."""
    return mock.patch("methods.parts.two_stream.TwoStreamResNet", replacement)


def take_step(
    method: Method, batch: Batch, epoch: Epoch, optimisation: Optimisation | None
) -> dict[str, Tensor]:
    """Take one step as the harness does; None leaves the weights, but gradients are there. Return the terms."""
    if optimisation:
        optimisation.optimiser.zero_grad(set_to_none=True)
    seen = method.forward(batch)
    terms = dict(method.loss(seen, batch, epoch))
    torch.stack(list(terms.values())).sum().backward()
    if optimisation:
        optimisation.optimiser.step()
    with torch.no_grad():
        method.update(seen, batch, epoch)
    return terms
