"""Colour jitter with an amount for each image: what torchvision's functions do to one image, to many at once.

Everything works in place on float32 tensors (n, 3, h, w) that hold whole grey levels, 0 to 255, before and after
every adjustment. Results are those of torchvision on uint8 tensors, bit for bit, which is why sums of products are
taken in float64 and rounded once: torchvision adds a multiple without rounding the product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from methods.parts.host import to_device
from methods.parts.views.constants import LUMINANCE
from methods.parts.views.recipes import Floats

TINY = 1e-30
"""In place of a divisor of 0, whose dividend is 0 too."""


def of_each(amounts: Floats, values: Tensor) -> Tensor:
    """Return an amount for each image (n, 1, 1, 1) on the device of `values`."""
    return to_device(torch.from_numpy(amounts), values.device)[:, None, None, None]


def whole_levels(values: Tensor) -> Tensor:
    """Cut down to whole grey levels."""
    return values.clamp(0, 255).floor_()


def grey_levels(values: Tensor) -> Tensor:
    """Return the whole grey levels (n, 1, h, w) of colours."""
    red, green, blue = values.split(1, dim=1)
    return red.mul(LUMINANCE[0]).add_(green, alpha=LUMINANCE[1]).add_(blue, alpha=LUMINANCE[2]).floor_()


def blend_(values: Tensor, others: Tensor, ratios: Floats) -> None:
    """Mix ``ratio * values + (1 - ratio) * others``, where the second product is not rounded."""
    rest = (1 - ratios.astype(np.float64)).astype(np.float32)
    product = others.double() * of_each(rest, values)
    values.copy_(whole_levels((product + values * of_each(ratios, values)).float()))


def brightness_(values: Tensor, factors: Floats) -> None:
    """Multiply by a factor."""
    values.copy_(whole_levels(values * of_each(factors, values)))


def contrast_(values: Tensor, factors: Floats) -> None:
    """Draw away from, or towards, the image's mean grey level."""
    # whole numbers, whose sum float64 holds in any order
    blend_(values, grey_levels(values).mean((1, 2, 3), keepdim=True, dtype=torch.float64).float(), factors)


def saturation_(values: Tensor, factors: Floats) -> None:
    """Draw away from, or towards, the grey level of each pixel."""
    blend_(values, grey_levels(values), factors)


def hue_(values: Tensor, turns: Floats) -> None:
    """Turn the hue by a part of the circle; the largest and the smallest of a pixel's three levels stay.

    The side of the colour hexagon on which the turned hue lies says which channel is largest, between and smallest,
    and its place on that side how large the one between is.
    """
    levels_top, levels_bottom = values.amax(1), values.amin(1)
    colours = values * (1 / 255)
    value, bottom = colours.amax(1), colours.amin(1)
    spread = value - bottom
    saturation = spread / value.clamp_min(TINY)
    turned = hexagon(colours, value, spread).add_(of_each(turns, values)[:, 0])
    turned = turned.sub_(turned.floor()).mul_(6)
    side = turned.floor()
    place = (turned - side) * saturation
    between = torch.where(side % 2 == 1, 1 - place, (1 - saturation) + place) * value
    levels_between = between.mul_(255.999).floor_()
    # rounding may give side 6, which is side 0 at its beginning: the one between is the smallest there
    red = torch.where((side < 1) | (side >= 5), levels_top, levels_between)
    red = torch.where((side >= 2) & (side < 4), levels_bottom, red)
    green = torch.where((side >= 1) & (side < 3), levels_top, levels_between)
    green = torch.where(side >= 4, levels_bottom, green)
    blue = (levels_top + levels_bottom + levels_between) - red - green
    values.copy_(torch.stack([red, green, blue], dim=1))


def hexagon(colours: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """Return the hue (n, h, w) in 0 .. 1, by how far the channels are below the largest."""
    below = (value[:, None] - colours) / spread.clamp_min(TINY)[:, None]
    red, green, blue = below.unbind(1)
    of_others = torch.where(green == 0, (red + 2) - blue, (green + 4) - red)
    return torch.where(red == 0, blue - green, of_others).mul_(1 / 6).add_(1).frac_()


ADJUSTMENTS: tuple[Callable[[Tensor, Floats], None], ...] = (brightness_, contrast_, saturation_, hue_)
