"""What the clustering core refuses, with the words that a person reads."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.errors import MethodError

UNIT_TOLERANCE = 1e-3
"""Largest accepted difference of a row's length from one (half-precision features stay within it)."""


def check_features(features: Tensor, *, unit: bool = True) -> None:
    """Refuse features that are not a finite float32 matrix, of unit rows where `unit` asks for it.

    Parameters
    ----------
    features : tensor (n, d)

    Raises
    ------
    MethodError
        Naming the first sample at fault.
    """
    if features.ndim != 2 or features.dtype != torch.float32:
        raise MethodError(
            f"features must be a float32 matrix (n, d), not {features.dtype} {tuple(features.shape)}"
        )
    length = torch.linalg.vector_norm(features, dim=1)
    if not bool(torch.isfinite(length).all()):
        first = int((~torch.isfinite(length)).nonzero()[0, 0])
        raise MethodError(
            f"features contain NaN or infinity, first in sample {first}; "
            "look for diverged training or a broken image there"
        )
    if not unit:
        return
    wrong = (length - 1).abs() > UNIT_TOLERANCE
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0, 0])
        raise MethodError(
            f"features are not of unit length, first in sample {first} "
            f"(length {float(length[first]):.6g}); divide each row by its L2 norm"
        )


def check_k(n: int, k: int, name: str = "k1") -> None:
    """Refuse a number of neighbours that is not in 1..n."""
    if k < 1:
        raise MethodError(f"{name} = {k} must be at least 1")
    if k > n:
        raise MethodError(f"{name} = {k} is larger than the number of samples, {n}; choose {name} <= {n}")


def check_eps(eps: float) -> None:
    """Refuse a radius outside (0, 1]."""
    if not 0 < eps <= 1:
        raise MethodError(f"eps = {eps} is outside (0, 1], the range of Jaccard distances")


def check_min_samples(min_samples: int) -> None:
    """Refuse a core-point threshold below one."""
    if min_samples < 1:
        raise MethodError(f"min_samples = {min_samples} must be at least 1 (the sample itself counts)")


def check_group(name: str, group: Tensor, n: int) -> None:
    """Refuse a modality or camera array that does not fit the features."""
    if group.shape != (n,):
        raise MethodError(
            f"{name} has shape {tuple(group.shape)}, but there are {n} samples: expected ({n},)"
        )
