"""What the tensor back end cuts its work with: blocks of rows, so that memory stays linear in the samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 25
"""Largest number of elements of a block's temporary."""


def blocks(n: int, per_row: int, device: torch.device, largest: int = 1 << 14) -> Iterator[Tensor]:
    """Yield consecutive ranges of n rows of which each needs `per_row` elements."""
    size = max(1, min(largest, BLOCK // max(1, per_row)))
    for first in range(0, n, size):
        yield torch.arange(first, min(n, first + size)).to(device)


def row_starts(sizes: Tensor) -> Tensor:
    """Return where every row starts, and where the last one ends: (n + 1,)."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def entries_of(indptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for the sparse rows listed, which of them each entry belongs to, and where the entry lies."""
    sizes = indptr[rows + 1] - indptr[rows]
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), sizes)
    first = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    return owner, indptr[rows][owner] + torch.arange(len(owner), device=rows.device) - first


def pair_similarity(features: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return inner products of pairs of rows, summed in float64 and rounded once to float32."""
    return (features[i].double() * features[j].double()).sum(1).float()
