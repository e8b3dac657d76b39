"""Recipes of views, and what is drawn for the images that go through them.

As in the public code of ADCA, PGM, GUR and PCA, of OTLA, and of AGW and CAJ; docs/methods.md has the distributions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

PAD, PAD_HEIGHT = 10, 288
ADJUSTMENTS = 4
"""Brightness, contrast, saturation and hue."""
NO_JITTER = -1
AS_THEY_ARE, WEIGHTED = -1, 3
"""Channels that stay, and that become their weighted sum; 0 to 2 stand for copies of red, green, blue."""


class Draws(NamedTuple):
    """What is drawn for one view of each of n images, or for several views one after the other.

    Attributes
    ----------
    shift : int64 (n, 2)
        Where the window's top left corner is in the image, which has zeros around it.
    mirrored, grey : bool (n,)
        Whether left and right are exchanged, and whether colours become their grey level.
    order : int64 (n, 4)
        Colour jitter: the adjustments (0 brightness, 1 contrast, 2 saturation, 3 hue) in their order;
        :data:`NO_JITTER` everywhere for none.
    amounts : float32 (n, 4)
        Factors of brightness, contrast and saturation, and the turn of the hue.
    box : int64 (n, 4)
        Erased rows and columns: top, bottom, left, right, the second and the last not included; zeros for none.
    fill : float32 (n, 3)
        Values of the channels in the box.
    channel : int64 (n,)
        The channel that all become, :data:`WEIGHTED` or :data:`AS_THEY_ARE`.
    """

    shift: Longs
    mirrored: Bools
    grey: Bools
    order: Longs
    amounts: Floats
    box: Longs
    fill: Floats
    channel: Longs

    def of(self, rows: Longs | slice) -> Draws:
        """Return the draws of some of the images."""
        return Draws._make(array[rows] for array in self)


def concatenated(parts: Sequence[Draws]) -> Draws:
    """Return the draws of several lists of images, one after the other."""
    return Draws._make(map(np.concatenate, zip(*parts, strict=True)))


@dataclass(frozen=True)
class Erasing:
    """Random erasing with probability 1/2: the first box of several tries that fits is filled.

    Attributes
    ----------
    area : (float, float)
        Limits of the box's share of the image, uniformly drawn.
    ratio : (float, float)
        Limits of height to width.
    logarithmic : bool
        Whether the logarithm of the ratio is uniform, or the ratio itself.
    tries : int
    fill : (float, float, float)
        Written into the normalised channels.
    """

    area: tuple[float, float]
    ratio: tuple[float, float]
    logarithmic: bool
    tries: int
    fill: tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """What a view of an image goes through, in the order of the fields; pixels are normalised before erasing.

    Attributes
    ----------
    crop : bool
        A window of the image's size at a random place of the image with zeros around it.
    mirror, grey : bool
        With probability 1/2 each.
    jitter : bool
        Brightness, contrast and saturation times 0.5 to 1.5, hue turned by up to half, in random order (PGM).
    erasing : Erasing or None
    channels : str
        ``exchange`` copies one of the three channels to all; ``adapt-gray`` does so with probability 3/4, and makes
        them grey with probability 1/8.
    """

    crop: bool = True
    mirror: bool = True
    grey: bool = False
    jitter: bool = False
    erasing: Erasing | None = None
    channels: Literal["keep", "exchange", "adapt-gray"] = "keep"


CHANNEL_ERASING = Erasing((0.02, 0.4), (0.3, 1 / 0.3), False, 100, (0.4914, 0.4822, 0.4465))
"""Filled in after normalisation, though they are means of images before it (quirk Q9)."""
PLAIN_ERASING = Erasing((0.02, 0.33), (0.3, 3.3), True, 10, (0.0, 0.0, 0.0))
RECIPES: dict[str, Recipe] = {
    "plain": Recipe(erasing=CHANNEL_ERASING),
    "channel-exchange": Recipe(erasing=CHANNEL_ERASING, channels="exchange"),
    "channel-adapt-gray": Recipe(erasing=CHANNEL_ERASING, channels="adapt-gray"),
    "jitter-exchange": Recipe(jitter=True, erasing=CHANNEL_ERASING, channels="exchange"),
    "jitter-adapt-gray": Recipe(jitter=True, erasing=CHANNEL_ERASING, channels="adapt-gray"),
    "weak": Recipe(),
    "grey-erasing": Recipe(crop=False, grey=True, erasing=PLAIN_ERASING),
    "erasing": Recipe(crop=False, erasing=PLAIN_ERASING),
    "none": Recipe(crop=False, mirror=False),
}
"""Views by name: the first five of ADCA, PGM, GUR, PCA and DMIC, ``weak`` AGW's, then OTLA's visible and
infrared ones."""


def pad_width(height: int) -> int:
    """Return the zeros on each side of an image: 10 at height 288, else in proportion (ours)."""
    return round(PAD * height / PAD_HEIGHT)


def draw_views(recipe: Recipe, n: int, shape: tuple[int, int], generator: np.random.Generator) -> Draws:
    """Draw what decides one view of each of n images.

    Parameters
    ----------
    recipe : Recipe
    n : int
    shape : (int, int)
        Height and width of the images.
    generator : numpy Generator
        What a recipe does not have is not drawn.
    """
    drawn = unchanged(n)
    if recipe.crop:
        pad = pad_width(shape[0])
        drawn = drawn._replace(shift=generator.integers(-pad, pad + 1, size=(n, 2)))
    if recipe.mirror:
        drawn = drawn._replace(mirrored=generator.random(n) < 0.5)
    if recipe.grey:
        drawn = drawn._replace(grey=generator.random(n) < 0.5)
    if recipe.jitter:
        amounts = generator.uniform((0.5, 0.5, 0.5, -0.5), (1.5, 1.5, 1.5, 0.5), size=(n, ADJUSTMENTS))
        order = generator.permuted(np.tile(np.arange(ADJUSTMENTS), (n, 1)), axis=1)
        drawn = drawn._replace(amounts=amounts.astype(np.float32), order=order)
    if recipe.erasing is not None:
        fill = np.tile(np.array(recipe.erasing.fill, dtype=np.float32), (n, 1))
        drawn = drawn._replace(box=draw_boxes(recipe.erasing, n, shape, generator), fill=fill)
    if recipe.channels == "exchange":
        drawn = drawn._replace(channel=generator.integers(3, size=n))
    elif recipe.channels == "adapt-gray":
        channel = generator.integers(4, size=n)
        rest = np.where(generator.random(n) < 0.5, WEIGHTED, AS_THEY_ARE)
        drawn = drawn._replace(channel=np.where(channel < 3, channel, rest))
    return drawn


def unchanged(n: int) -> Draws:
    """Return the draws that leave images as they are, normalised."""
    return Draws(
        shift=np.zeros((n, 2), dtype=np.int64),
        mirrored=np.zeros(n, dtype=np.bool_),
        grey=np.zeros(n, dtype=np.bool_),
        order=np.full((n, ADJUSTMENTS), NO_JITTER, dtype=np.int64),
        amounts=np.zeros((n, ADJUSTMENTS), dtype=np.float32),
        box=np.zeros((n, 4), dtype=np.int64),
        fill=np.zeros((n, 3), dtype=np.float32),
        channel=np.full(n, AS_THEY_ARE, dtype=np.int64),
    )


def draw_boxes(erasing: Erasing, n: int, shape: tuple[int, int], generator: np.random.Generator) -> Longs:
    """Draw the boxes (n, 4) to erase; zeros where nothing is erased, or no try fits."""
    height, width = shape
    erased = generator.random(n) < 0.5
    area = generator.uniform(*erasing.area, size=(n, erasing.tries)) * height * width
    ratio = draw_ratios(erasing, (n, erasing.tries), generator)
    # a half goes to the even number, as Python rounds
    rows = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    columns = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (rows < height) & (columns < width)
    first = np.arange(n), fits.argmax(axis=1)
    kept = erased & fits[first]
    rows, columns = (np.where(kept, side[first], 0) for side in (rows, columns))
    top, left = generator.integers(height - rows + 1), generator.integers(width - columns + 1)
    return np.stack([top, top + rows, left, left + columns], axis=1) * kept[:, None]


def draw_ratios(erasing: Erasing, size: tuple[int, int], generator: np.random.Generator) -> Doubles:
    """Draw ratios of height to width."""
    low, high = erasing.ratio
    if erasing.logarithmic:
        return np.exp(generator.uniform(math.log(low), math.log(high), size=size))
    return generator.uniform(low, high, size=size)
