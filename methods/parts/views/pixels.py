"""From levels to normalised channels, and from draws to the pixels of views."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from methods.parts.views import batched
from methods.parts.views.constants import OFFSET, SCALE
from methods.parts.views.recipes import Draws


def normalise(images: Tensor) -> Tensor:
    """Scale to [0, 1] and normalise by ImageNet's mean and standard deviation.

    Parameters
    ----------
    images : uint8 tensor (..., 3, h, w)

    Returns
    -------
    float32 tensor (..., 3, h, w)
    """
    return batched.normalise_(images.float())


def apply_views(images: Tensor, draws: Draws) -> Tensor:
    """Change the pixels of images as was drawn for them; the same bits on every device that computes as the CPU does.

    Parameters
    ----------
    images : uint8 tensor (n, 3, h, w)
        On any device.
    draws : Draws
        For n images.

    Returns
    -------
    float32 tensor (n, 3, h, w)
        On the device of the images.
    """
    if images.device.type != "cpu":
        return batched.change(images, draws)
    from methods.parts.views import compiled  # numba, which only a training's batches need

    out = np.empty(images.shape, dtype=np.float32)
    compiled.change(images.numpy(), draws, SCALE, OFFSET, out)
    return torch.from_numpy(out)
