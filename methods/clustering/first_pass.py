"""The approximate first pass of the search, and how far off it can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HALF_ULP = 2.0**-8
"""Largest relative error of rounding to bfloat16 (8 significant bits)."""


class ErrorBound(NamedTuple):
    """An approximation v differs from the exact similarity by at most ``absolute + relative * |v|``."""

    absolute: float
    relative: float


NO_ERROR = ErrorBound(0.0, 0.0)


@dataclass(frozen=True)
class FirstPass:
    """Rows in the precision of the first pass.

    Attributes
    ----------
    rows : bfloat16 or float32 tensor (n, d)
    bound : ErrorBound
        Of their inner products.
    """

    rows: Tensor
    bound: ErrorBound

    @property
    def bits(self) -> int:
        """Return the width of the numbers that blocks hold."""
        return 16 if self.rows.dtype == torch.bfloat16 else 32

    @property
    def key_dtype(self) -> type[np.signedinteger]:
        """Return the integer type that holds a number's bits."""
        return np.int16 if self.bits == 16 else np.int32

    def block(self, rows: slice, columns: slice) -> NDArray[np.signedinteger]:
        """Return the bits of a block of approximate similarities (CPU)."""
        product = self.rows[rows] @ self.rows[columns].T
        return product.view(torch.int16 if self.bits == 16 else torch.int32).numpy()


def has_bfloat16_units(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def float32_pass(features: Tensor) -> FirstPass:
    """Return the rows as they are; sums of d products are off by at most about d 2^-24 |x||y|."""
    return FirstPass(features, ErrorBound(summation_error(features), 0.0))


def bfloat16_pass(features: Tensor) -> FirstPass:
    """Round the rows to bfloat16.

    With x = x' + e: |x.y - x'.y'| <= |e_x||y'| + |x||e_y| by Cauchy and Schwarz, with the largest lengths of
    the actual rounding errors; then the float32 summation, and the rounding of the result to bfloat16.
    """
    rows = features.bfloat16()
    error = 1.001 * max(
        _longest(p - r.float()) for p, r in zip(features.split(1024), rows.split(1024), strict=True)
    )
    length = _longest(features)
    absolute = error * (2.01 * length + error) + 1.05 * summation_error(features)
    return FirstPass(rows, ErrorBound(absolute, HALF_ULP * 1.001))


def summation_error(features: Tensor) -> float:
    """Bound the error of a float32 inner product of two rows."""
    return (features.shape[1] + 2) * 2.0**-24 * _longest(features) ** 2 * 1.01


def _longest(rows: Tensor) -> float:
    return float(torch.linalg.vector_norm(rows, dim=1).max())
