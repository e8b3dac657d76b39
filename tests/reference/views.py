"""Views one image at a time: the draws of the public transforms, call by call, and the pixels by plain steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tv

from methods.parts.views import Draws, Erasing, Recipe, pad_width
from methods.parts.views.recipes import AS_THEY_ARE, WEIGHTED, unchanged

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
JITTER = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def draw_one(recipe: Recipe, shape: tuple[int, int], generator: Any) -> Draws:
    """Draw for one image what the public transforms draw, in their order; `generator` may deal out given numbers."""
    drawn = unchanged(1)
    if recipe.crop:
        pad = pad_width(shape[0])
        corner = np.asarray(generator.integers(2 * pad + 1, size=2), dtype=np.int64)
        drawn = drawn._replace(shift=corner[None] - pad)
    if recipe.grey:
        drawn = drawn._replace(grey=np.array([generator.random() < 0.5]))
    if recipe.mirror:
        drawn = drawn._replace(mirrored=np.array([generator.random() < 0.5]))
    if recipe.jitter:
        amounts = [*generator.uniform(0.5, 1.5, size=3), generator.uniform(-0.5, 0.5)]
        order = np.array([generator.permutation(4)], dtype=np.int64)
        drawn = drawn._replace(amounts=np.array([amounts], dtype=np.float32), order=order)
    if recipe.erasing is not None:
        box = draw_box(recipe.erasing, shape, generator)
        drawn = drawn._replace(box=np.array([box]), fill=np.array([recipe.erasing.fill], dtype=np.float32))
    if recipe.channels != "keep":
        drawn = drawn._replace(channel=np.array([draw_channel(recipe, generator)]))
    return drawn


def draw_box(erasing: Erasing, shape: tuple[int, int], generator: Any) -> tuple[int, int, int, int]:
    """Draw one box; zeros if nothing is erased or no try fits."""
    height, width = shape
    if generator.random() < 0.5:
        for _ in range(erasing.tries):
            area = generator.uniform(*erasing.area) * height * width
            low, high = erasing.ratio
            if erasing.logarithmic:
                ratio = math.exp(generator.uniform(math.log(low), math.log(high)))
            else:
                ratio = generator.uniform(low, high)
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1))
                return top, top + h, left, left + w
    return 0, 0, 0, 0


def draw_channel(recipe: Recipe, generator: Any) -> int:
    """Draw the channel that all become."""
    if recipe.channels == "exchange":
        return int(generator.integers(3))
    channel = int(generator.integers(4))
    return channel if channel < 3 else (WEIGHTED if generator.random() < 0.5 else AS_THEY_ARE)


def change_one(image: np.ndarray, draws: Draws) -> np.ndarray:
    """Change one uint8 image (3, h, w) as was drawn; float32 (3, h, w)."""
    one = Draws(*(array[0] for array in draws))
    height, width = image.shape[1:]
    view = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            row, column = y + one.shift[0], x + one.shift[1]
            if 0 <= row < height and 0 <= column < width:
                view[:, y, width - 1 - x if one.mirrored else x] = image[:, row, column]
    if one.grey:
        red, green, blue = view.astype(np.int64)
        view[:] = (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536
    view = jittered(view, one)
    values = ((view / 255 - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)
    top, bottom, left, right = one.box
    values[:, top:bottom, left:right] = one.fill[:, None, None]
    if one.channel == WEIGHTED:
        values[:] = 0.2989 * values[0] + 0.5870 * values[1] + 0.1140 * values[2]
    elif one.channel != AS_THEY_ARE:
        values[:] = values[one.channel].copy()
    return values


def jittered(view: np.ndarray, one: Draws) -> np.ndarray:
    """Adjust the colours of one image by torchvision's functions on tensors."""
    pixels = torch.from_numpy(view)
    for kind in one.order.tolist():
        if kind >= 0:
            pixels = JITTER[kind](pixels, float(one.amounts[kind]))
    return pixels.numpy()
