"""A first pass in the leading directions of the features, where no bfloat16 units make products cheap.

Features of trained networks fill few of their directions. With Q an orthonormal basis of the leading ones, z = Qᵀx
and e = x - Qz, x.y differs from z_x.z_y by at most |e_x||e_y| (Cauchy and Schwarz) and rounding: products cost a
quarter or an eighth, and what was left out of a row's candidates is proved to be farther than its k-th nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.clustering.first_pass import summation_error

DIMENSION_DIVISORS = (8, 4)
"""Directions are a share of the features' dimensions: divided by these, the cheapest first."""
SAMPLE = 4096
"""Rows that decide the directions."""
PART = 1024
"""Rows that are projected at a time."""
PROBES = 128
"""Rows that are searched exactly, to see whether the proof would succeed."""
UNPROVEN_PROBES = 1 / 32
"""Share of the probes that may fail: rows without a proof are searched one by one."""
MIN_SAMPLES_PER_DIMENSION = 8
"""Minimum samples per dimension for projection to pay off."""
ROUNDING = 1e-6
"""Far above the rounding of a similarity, or of a squared length, to float32."""


@dataclass(frozen=True)
class Projection:
    """Coordinates in the leading directions, and how far inner products of them can be off.

    Attributes
    ----------
    rows : float32 tensor (n, r)
    residual : float64 array (n,)
        Lengths of what lies outside the directions.
    slack : float
        x.y differs from the float32 product of rows by at most ``slack + residual[x] residual[y]``.
    """

    rows: Tensor
    residual: NDArray[np.float64]
    slack: float

    def first(self, r: int) -> Projection:
        """Return the coordinates in the first `r` directions alone."""
        if r == self.rows.shape[1]:
            return self
        left_out = self.rows[:, r:].double().square().sum(1).numpy()
        return Projection(self.rows[:, :r].contiguous(), np.sqrt(self.residual**2 + left_out), self.slack)


def leading_projection(features: Tensor, k: int, keep: int, group: Tensor) -> Projection | None:
    """Project on as few leading directions as prove the k nearest from `keep` candidates a row.

    Parameters
    ----------
    features : float32 tensor (n, d)
        Unit rows in main memory.
    group : int32 tensor (n,)
        Pairs of one group (>= 0) do not count.

    Returns
    -------
    Projection or None
        None if there are too few samples to pay for it, or the features fill too many directions.
    """
    n, d = features.shape
    if n < MIN_SAMPLES_PER_DIMENSION * d or d < 16 * DIMENSION_DIVISORS[-1]:
        return None
    widest = project(
        features, leading_directions(features[:: max(1, n // SAMPLE)], d // DIMENSION_DIVISORS[-1])
    )
    probes = Probes(features, k, group)
    candidates = (widest.first(d // divisor) for divisor in DIMENSION_DIVISORS)
    return next((candidate for candidate in candidates if proves(candidate, probes, keep)), None)


def leading_directions(sample: Tensor, r: int) -> Tensor:
    """Return an orthonormal basis (d, r), float64, near the leading directions, the first ones first.

    By subspace iteration, and the principal axes of the sample within the subspace.
    """
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(sample.shape[1], r, generator=generator)
    for _ in range(2):
        basis = torch.linalg.qr(sample.T @ (sample @ basis)).Q
    within = sample @ basis
    axes = torch.linalg.eigh(within.T @ within).eigenvectors.flip(1)
    return torch.linalg.qr((basis @ axes).double()).Q


def project(features: Tensor, basis: Tensor) -> Projection:
    """Return coordinates of features (n, d) in an orthonormal basis (d, r), computed in float64."""
    rows = torch.empty(len(features), basis.shape[1])
    outside = torch.empty(len(features), dtype=torch.float64)
    for part, out, left in zip(*(rows.split(PART) for rows in (features, rows, outside)), strict=True):
        exact = part.double()
        out.copy_(exact @ basis)
        left.copy_(exact.square_().sum(1) - out.double().square_().sum(1))
    skew = float((basis.T @ basis - torch.eye(basis.shape[1], dtype=torch.float64)).norm())
    # the summation error of all d products is above that of r of them and the rounding of the coordinates
    slack = summation_error(features) + 4 * skew
    return Projection(rows, np.sqrt(outside.clamp(min=0).numpy() + ROUNDING), slack)


class Probes:
    """Some rows, and what an exact search finds for them.

    Attributes
    ----------
    rows : int64 tensor (p,)
    same : bool tensor (p, n)
        Pairs of one group.
    kth : float64 tensor (p, 1)
        Similarity of the k-th nearest.
    """

    def __init__(self, features: Tensor, k: int, group: Tensor) -> None:
        self.rows = torch.arange(0, len(features), max(1, len(features) // PROBES))
        self.same = (group[self.rows, None] == group[None]) & (group[self.rows, None] >= 0)
        exact = (features[self.rows] @ features.T).masked_fill_(self.same, -torch.inf)
        self.kth = exact.topk(k, dim=1).values[:, -1:].double()


def proves(projection: Projection, probes: Probes, keep: int) -> bool:
    """Say whether `keep` candidates prove the k nearest of nearly every probe."""
    residual = torch.from_numpy(projection.residual)
    near = (projection.rows[probes.rows] @ projection.rows.T).masked_fill_(probes.same, -torch.inf)
    margin = projection.slack + residual[probes.rows, None] * residual.max() + 2 * ROUNDING
    candidates = (near.double() >= probes.kth - margin).sum(1)
    return float((candidates > keep).double().mean()) <= UNPROVEN_PROBES
