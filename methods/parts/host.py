"""What the host knows, brought to a device without a wait: rows, labels and masks that were drawn on the CPU.

A GPU works behind the host, which must not ask it anything within an iteration. So whatever decides the shape of a
result (which rows are visible, how often a cluster was drawn) is worked out from the host's own copy of the draws, and
only index tensors travel.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to a device; those on the CPU go by way of pinned memory to CUDA, which alone needs no wait."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def rows_where(mask: Tensor, device: torch.device) -> Tensor:
    """Return the rows where a mask (b,) of the host holds, as an int64 index on a device."""
    return to_device(mask.nonzero().flatten(), device)
