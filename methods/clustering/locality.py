"""An order of the samples in which those that resemble each other lie side by side.

What the stages after the search read together then lies together in memory, and their time per sample hardly
grows once the lists no longer fit in the caches. The order decides no result.
"""

from __future__ import annotations

import torch
from torch import Tensor

HASHED_NEIGHBOURS = 16
"""First neighbours by which samples are grouped."""


def locality_order(index: Tensor) -> Tensor:
    """Return the samples, those that have near neighbours in common next to each other.

    The smallest index among a sample's first neighbours is a minimum hash of them: lists that have much in
    common tend to share it. Taking the median over the neighbours makes the hash robust to one outlier.

    Parameters
    ----------
    index : int64 tensor (n, k)
        Neighbour lists.

    Returns
    -------
    int64 tensor (n,)
    """
    near = index[:, :HASHED_NEIGHBOURS]
    smallest = near.int().amin(1)
    return torch.take(smallest, near).median(1).values.argsort(stable=True)


def ranks(order: Tensor) -> Tensor:
    """Return the place of every sample in an order of all: int64 tensor (n,)."""
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank
