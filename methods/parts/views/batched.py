"""Views of a whole batch by torch operations, on any device; the host waits for nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from methods.parts.host import to_device
from methods.parts.views.constants import LUMINANCE, OFFSET, PILLOW, SCALE
from methods.parts.views.jitter import ADJUSTMENTS
from methods.parts.views.recipes import NO_JITTER, WEIGHTED, Draws, Longs


def change(images: Tensor, draws: Draws) -> Tensor:
    """Change images (n, 3, h, w) as was drawn; see :func:`methods.parts.views.apply_views`."""
    cropped = windows(images, draws)
    if draws.grey.any():
        cropped = torch.where(on(images, draws.grey)[:, None, None, None], grey(cropped), cropped)
    values = normalise_(jittered(cropped.float(), draws))
    if draws.box.any():
        values = erased(values, draws)
    return with_channels(values, draws.channel)


def on(like: Tensor, array: np.ndarray) -> Tensor:
    """Return an array as a tensor on the device of another."""
    return to_device(torch.from_numpy(array), like.device)


def windows(images: Tensor, draws: Draws) -> Tensor:
    """Return the images cut out at their shifts, and mirrored where that was drawn."""
    height, width = images.shape[2:]
    reach = int(np.abs(draws.shift).max(initial=0))
    if reach:
        corner = on(images, draws.shift + reach)
        places = pad(images, [reach] * 4).unfold(2, height, 1).unfold(3, width, 1)
        images = places[torch.arange(len(images), device=images.device), :, corner[:, 0], corner[:, 1]]
    return torch.where(on(images, draws.mirrored)[:, None, None, None], images.flip(3), images)


def grey(images: Tensor) -> Tensor:
    """Return Pillow's luminance (n, 1, h, w), in its integer arithmetic."""
    red, green, blue = images.int().split(1, dim=1)
    total = red * PILLOW[0] + green * PILLOW[1] + blue * PILLOW[2]
    return ((total + 0x8000) >> 16).to(torch.uint8)


def jittered(values: Tensor, draws: Draws) -> Tensor:
    """Adjust colours step by step; at each step, images with the same adjustment stand together."""
    if (draws.order == NO_JITTER).all():
        return values
    image = np.arange(len(values))  # that stands at a place
    for step in range(len(ADJUSTMENTS)):
        kinds = draws.order[image, step]
        groups = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds).tolist()}
        pieces = [values.index_select(0, on(values, places)) for places in groups.values()]
        for (kind, places), piece in zip(groups.items(), pieces, strict=True):
            if kind != NO_JITTER:
                ADJUSTMENTS[kind](piece, draws.amounts[image[places], kind])
        values, image = torch.cat(pieces), image[np.concatenate(list(groups.values()))]
    return values.index_select(0, on(values, np.argsort(image)))


def normalise_(values: Tensor) -> Tensor:
    """Normalise levels (..., 3, h, w) in place."""
    for channel, (scale, offset) in enumerate(zip(SCALE.tolist(), OFFSET.tolist(), strict=True)):
        values[..., channel, :, :].mul_(scale).add_(offset)
    return values


def erased(values: Tensor, draws: Draws) -> Tensor:
    """Fill the boxes."""
    top, bottom, left, right = on(values, draws.box)[:, :, None].unbind(1)
    y, x = (torch.arange(size, device=values.device) for size in values.shape[2:])
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]
    return torch.where(inside[:, None], on(values, draws.fill)[:, :, None, None], values)


def with_channels(values: Tensor, channel: Longs) -> Tensor:
    """Copy one channel to all, or weigh them, where that was drawn."""
    if ((channel >= 0) & (channel < 3)).any():
        own = np.arange(3)[None]
        source = on(values, np.where((channel >= 0) & (channel < 3), channel, own.T).T)
        values = values[torch.arange(len(values), device=values.device)[:, None], source]
    if (channel == WEIGHTED).any():
        red, green, blue = values.split(1, dim=1)
        grey_value = red * LUMINANCE[0] + green * LUMINANCE[1] + blue * LUMINANCE[2]
        values = torch.where(on(values, channel == WEIGHTED)[:, None, None, None], grey_value, values)
    return values
