"""What ``reidbench time`` is asked to time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import HarnessError
from harness.registry import nearest

OURS, REFERENCE, FAISS = "reidbench", "reference", "faiss"


@dataclass(frozen=True)
class Plan:
    """What is timed.

    Attributes
    ----------
    dim : int
        Width of the features.
    k1, k2, eps, min_samples
        Settings of the core.
    repeat : int
        Runs of every size; tables give the shortest and the median.
    seed : int
        Of the synthetic features.
    reference_limit : int
        Largest size at which the public algorithm runs; beyond, its numbers are extrapolated.
    """

    dim: int
    repeat: int
    seed: int
    reference_limit: int
    k1: int = 30
    k2: int = 6
    eps: float = 0.6
    min_samples: int = 4


def parse_sizes(text: str) -> list[int]:
    """Return comma-separated numbers of samples, ascending, each once."""
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise HarnessError(f"--n {text}: expected whole numbers, for example 8000,16000") from None
    if sizes[0] < 2:
        raise HarnessError(f"--n {text}: sizes must be at least 2")
    return sizes


def sweep(plan: Plan, k1: str, k2: str, eps: str) -> list[Plan]:
    """Return a plan for every combination of comma-separated settings.

    Raises
    ------
    HarnessError
        If one is no number, or out of range.
    """
    values: list[list[Any]] = []
    for name, text, kind in (("k1", k1, int), ("k2", k2, int), ("eps", eps, float)):
        try:
            numbers = [kind(part) for part in text.split(",")]
        except ValueError:
            raise HarnessError(f"--{name} {text}: expected numbers separated by commas") from None
        if min(numbers) <= 0 or (name == "eps" and max(numbers) > 1):
            raise HarnessError(
                f"--{name} {text}: expected {'a radius from 0 to 1' if name == 'eps' else '1 or more'}"
            )
        values.append(list(dict.fromkeys(numbers)))
    return [replace(plan, k1=a, k2=b, eps=c) for a, b, c in itertools.product(*values)]


def parse_rivals(text: str) -> list[str]:
    """Return what to compare with: ``reference``, ``faiss``, both, or ``none``."""
    rivals = [part.strip() for part in text.split(",") if part.strip() != "none"]
    for name in rivals:
        if name not in (REFERENCE, FAISS):
            raise HarnessError(f"--against {name}: {nearest(name, (REFERENCE, FAISS, 'none'))}")
    return rivals
