"""Cross-memory association embedding (GUR, ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


def memory_embedding(features: Tensor, banks: Sequence[Tensor], scale: float = 20.0) -> Tensor:
    """Describe samples by their similarities to memories: one softmax per bank, concatenated.

    Parameters
    ----------
    features : float32 tensor (n, d), unit rows
    banks : sequence of float32 tensors (K_b, d), unit rows
        One per camera (or modality); ``torch.cat(banks).split(sizes)`` expresses any other cuts.
    scale : float
        Inverse temperature.

    Returns
    -------
    float32 tensor (n, sum of K_b)
        Every non-empty block sums to 1; the rows are not unit (quirk Q29).
    """
    blocks = [torch.softmax(scale * (features @ bank.T), dim=1) for bank in banks]
    return torch.cat([features.new_empty(len(features), 0), *blocks], dim=1)


def misread_block_sizes(sizes: Sequence[int]) -> list[int]:
    """Return the block sizes that the public code cuts when the banks have `sizes` rows (quirk Q30).

    Cumulative sizes are read as if they were sizes; the last block is the rest, often nothing.
    """
    total = sum(sizes)
    cut: list[int] = []
    for size in list(accumulate(sizes))[:-1]:
        cut.append(min(size, total - sum(cut)))
    return [*cut, total - sum(cut)] if sizes else []
