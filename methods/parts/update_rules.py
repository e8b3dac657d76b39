"""Which samples of a batch move a memory's row, and how: the update rules of the papers.

Groups are on the CPU, where it is worked out which sample goes where; rows and features are on their device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.errors import MethodError
from methods.parts.host import to_device

UpdateRule = Callable[[Tensor, Tensor, Tensor, float, torch.Generator | None], Tensor]
"""``rule(rows (u, d), features (b, d), group (b,), momentum, generator) -> rows (u, d)``; `group` says which
row a feature belongs to, on the CPU, and every row has a feature."""


def member_table(group: Tensor) -> Tensor:
    """List the positions of every group's members in batch order.

    Parameters
    ----------
    group : int64 tensor (b,), numbered from 0 without gaps

    Returns
    -------
    int64 tensor (groups, size of the largest), padded with -1
    """
    order = group.argsort(stable=True)
    counts = group.bincount()
    rank = torch.arange(len(group), device=group.device) - (counts.cumsum(0) - counts).repeat_interleave(
        counts
    )
    table = group.new_full((len(counts), int(counts.max())), -1)
    table[group[order], rank] = order
    return table


def momentum_update(rows: Tensor, features: Tensor, momentum: float) -> Tensor:
    """Return normalise(momentum * rows + (1 - momentum) * features)."""
    return normalize(momentum * rows + (1 - momentum) * features)


def sequential(
    rows: Tensor, features: Tensor, group: Tensor, momentum: float, generator: torch.Generator | None = None
) -> Tensor:
    """Apply every sample of the batch to its row, in batch order (cluster contrast's default)."""
    table = member_table(group)
    if not momentum:  # each row becomes its last sample
        return normalize(features[to_device(table.max(1).values, rows.device)])
    for position in to_device(table, rows.device).T:
        moved = momentum_update(rows, features[position.clamp(min=0)], momentum)
        rows = torch.where((position >= 0)[:, None], moved, rows)
    return rows


def hardest(
    rows: Tensor, features: Tensor, group: Tensor, momentum: float, generator: torch.Generator | None = None
) -> Tensor:
    """Apply to each row the sample least similar to it before the update, the first one on ties."""
    return momentum_update(rows, features[hardest_members(rows, features, group)], momentum)


def hardest_members(rows: Tensor, features: Tensor, group: Tensor) -> Tensor:
    """Return the place (u,) in the batch of each row's least similar sample, the first one on ties."""
    table, group = to_device(member_table(group), rows.device), to_device(group, rows.device)
    similarity = (features * rows[group]).sum(1)
    candidates = similarity[table.clamp(min=0)].masked_fill(table < 0, torch.inf)
    return table.gather(1, candidates.argmin(1, keepdim=True)).flatten()


def mean(
    rows: Tensor, features: Tensor, group: Tensor, momentum: float, generator: torch.Generator | None = None
) -> Tensor:
    """Apply to each row the mean of its samples."""
    total = torch.zeros_like(rows).index_add_(0, to_device(group, rows.device), features)
    return momentum_update(rows, total / to_device(group.bincount(), rows.device)[:, None], momentum)


def random(
    rows: Tensor, features: Tensor, group: Tensor, momentum: float, generator: torch.Generator | None
) -> Tensor:
    """Apply every sample to its row, in shuffled order; momentum 0 leaves one uniformly drawn sample (DMIC).

    Raises
    ------
    MethodError
        Without a generator.
    """
    if generator is None:
        raise MethodError(
            "the random memory update needs a generator; pass ClusterMemory(..., generator=...)"
        )
    order = torch.randperm(len(group), generator=generator, device=generator.device).to(group.device)
    return sequential(rows, features[to_device(order, rows.device)], group[order], momentum)


UPDATE_RULES: dict[str, UpdateRule] = {
    "sequential": sequential,
    "hardest": hardest,
    "mean": mean,
    "random": random,
}
