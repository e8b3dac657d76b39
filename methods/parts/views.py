"""Augmentation recipes: one resized uint8 image and a generator in, one normalised tensor out.

As in the public code of ADCA, PGM, GUR and PCA, of OTLA, and of AGW and CAJ; docs/methods.md has the distributions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

UInt8Image = npt.NDArray[np.uint8]
FloatImage = npt.NDArray[np.float32]
Generator = np.random.Generator
Recipe = Callable[[UInt8Image, Generator], Tensor]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
ERASED = (0.4914, 0.4822, 0.4465)
"""Filled in after normalisation, though they are means of images before it (quirk Q9)."""
GREY = (0.2989, 0.5870, 0.1140)
PAD, PAD_HEIGHT = 10, 288


def normalise(images: Tensor) -> Tensor:
    """Scale to [0, 1] and normalise by ImageNet's mean and standard deviation.

    Parameters
    ----------
    images : uint8 tensor (..., h, w, 3)

    Returns
    -------
    float32 tensor (..., 3, h, w)
    """
    mean, std = (torch.tensor(v, device=images.device) for v in (MEAN, STD))
    return ((images.float() / 255 - mean) / std).movedim(-1, -3).contiguous()


def pad_width(height: int) -> int:
    """Return the zeros padded on each side: 10 at height 288, else in proportion (ours)."""
    return round(PAD * height / PAD_HEIGHT)


def pad_and_crop(image: UInt8Image, generator: Generator) -> UInt8Image:
    """Pad with zeros on all sides, and crop the original size at a uniformly drawn place."""
    height, width, channels = image.shape
    pad = pad_width(height)
    padded = np.zeros((height + 2 * pad, width + 2 * pad, channels), dtype=np.uint8)
    padded[pad : pad + height, pad : pad + width] = image
    top, left = generator.integers(2 * pad + 1, size=2)
    return padded[top : top + height, left : left + width]


def random_flip(image: UInt8Image, generator: Generator) -> UInt8Image:
    """Mirror left and right with probability 1/2."""
    return image[:, ::-1] if generator.random() < 0.5 else image


def colour_jitter(image: UInt8Image, generator: Generator) -> UInt8Image:
    """Jitter brightness, contrast, saturation (factors 0.5 to 1.5) and hue (+-0.5) in random order (PGM)."""
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    amount = [*generator.uniform(0.5, 1.5, size=3), generator.uniform(-0.5, 0.5)]
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    for i in generator.permutation(len(adjust)):
        pixels = adjust[i](pixels, float(amount[i]))
    jittered: UInt8Image = pixels.numpy().transpose(1, 2, 0)
    return jittered


def random_grey(image: UInt8Image, generator: Generator) -> UInt8Image:
    """Replace the channels by their luminance (Pillow's integer weights) with probability 1/2."""
    if generator.random() >= 0.5:
        return image
    red, green, blue = (image[..., c].astype(np.uint32) for c in range(3))
    grey = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def channel_values(values: tuple[float, ...]) -> FloatImage:
    """Return one float32 value per channel, shaped (3, 1, 1)."""
    return np.array(values, dtype=np.float32)[:, None, None]


def to_float(image: UInt8Image) -> FloatImage:
    """Normalise one image (h, w, 3) to float32 (3, h, w), as :func:`normalise` does."""
    scaled = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    scaled /= np.float32(255)
    scaled -= channel_values(MEAN)
    scaled /= channel_values(STD)
    return scaled


def draw_box(
    shape: tuple[int, int],
    generator: Generator,
    area: tuple[float, float],
    ratio: Callable[[Generator], float],
    tries: int,
) -> tuple[slice, slice] | None:
    """Draw a box of random area (share of the image) and height to width ratio; None if no try fits."""
    height, width = shape
    for _ in range(tries):
        size, aspect = generator.uniform(*area) * height * width, ratio(generator)
        h, w = round(math.sqrt(size * aspect)), round(math.sqrt(size / aspect))
        if h < height and w < width:
            top, left = generator.integers(height - h + 1), generator.integers(width - w + 1)
            return slice(top, top + h), slice(left, left + w)
    return None


def channel_random_erasing(image: FloatImage, generator: Generator) -> FloatImage:
    """Fill a box with constants, with probability 1/2; ratio uniform in 0.3 .. 1/0.3, area in 0.02 .. 0.4."""
    if generator.random() <= 0.5:
        box = draw_box(image.shape[1:], generator, (0.02, 0.4), lambda g: g.uniform(0.3, 1 / 0.3), 100)
        if box:
            image[:, box[0], box[1]] = channel_values(ERASED)
    return image


def random_erasing(image: FloatImage, generator: Generator) -> FloatImage:
    """Fill a box with 0, with probability 1/2; ratio log-uniform in 0.3 .. 3.3, area 0.02 .. 0.33 (OTLA)."""
    if generator.random() < 0.5:
        limits = math.log(0.3), math.log(3.3)
        box = draw_box(image.shape[1:], generator, (0.02, 0.33), lambda g: math.exp(g.uniform(*limits)), 10)
        if box:
            image[:, box[0], box[1]] = 0
    return image


def channel_exchange(image: FloatImage, generator: Generator) -> FloatImage:
    """Copy one channel, uniformly drawn, to all three (visible -> augmented view)."""
    return np.repeat(image[generator.integers(3)][None], 3, axis=0)


def channel_adapt_gray(image: FloatImage, generator: Generator) -> FloatImage:
    """Copy R, G or B to all channels (1/4 each), else grey (1/8) or nothing (1/8) (infrared)."""
    channel = generator.integers(4)
    if channel < 3:
        return np.repeat(image[channel][None], 3, axis=0)
    if generator.random() < 0.5:
        return np.repeat((channel_values(GREY) * image).sum(0, keepdims=True), 3, axis=0)
    return image


PixelStep = Callable[[UInt8Image, Generator], UInt8Image]
FloatStep = Callable[[FloatImage, Generator], FloatImage]


def recipe(before: tuple[PixelStep, ...], after: tuple[FloatStep, ...]) -> Recipe:
    """Chain steps on pixels, normalisation, and steps on the normalised image.

    Returns
    -------
    callable
        ``(uint8 image (h, w, 3), generator) -> float32 tensor (3, h, w)``.
    """

    def apply(image: UInt8Image, generator: Generator) -> Tensor:
        for change in before:
            image = change(image, generator)
        normalised = to_float(image)
        for adapt in after:
            normalised = adapt(normalised, generator)
        return torch.from_numpy(normalised)

    return apply


GEOMETRY = (pad_and_crop, random_flip)
RECIPES: dict[str, Recipe] = {
    "plain": recipe(GEOMETRY, (channel_random_erasing,)),
    "channel-exchange": recipe(GEOMETRY, (channel_random_erasing, channel_exchange)),
    "channel-adapt-gray": recipe(GEOMETRY, (channel_random_erasing, channel_adapt_gray)),
    "jitter-exchange": recipe((*GEOMETRY, colour_jitter), (channel_random_erasing, channel_exchange)),
    "jitter-adapt-gray": recipe((*GEOMETRY, colour_jitter), (channel_random_erasing, channel_adapt_gray)),
    "weak": recipe(GEOMETRY, ()),
    "grey-erasing": recipe((random_grey, random_flip), (random_erasing,)),
    "erasing": recipe((random_flip,), (random_erasing,)),
    "none": recipe((), ()),
}
"""Views by name: the first five of ADCA, PGM, GUR, PCA and DMIC, ``weak`` AGW's, then OTLA's visible and
infrared ones."""
