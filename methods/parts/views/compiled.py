"""Views in main memory: compiled loops over the pixels of one image after the other, images shared among threads.

The same arithmetic as in :mod:`methods.parts.views.batched`, in the same order and with the same roundings, so that
both give the same bits; but a pixel is read and written once, where every torch operation walks over all of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from methods.parts.views.constants import LUMINANCE, PILLOW
from methods.parts.views.recipes import NO_JITTER, WEIGHTED, Bools, Draws, Floats, Longs

UInt8s = npt.NDArray[np.uint8]

ZERO, HALF, ONE, TWO, THREE, FOUR, FIVE, SIX = (np.float32(n) for n in (0, 0.5, 1, 2, 3, 4, 5, 6))
TOP, BOUND = np.float32(255), np.float32(255.999)
UNIT, SIXTH = np.float32(1 / 255), np.float32(1 / 6)
TINY = np.float32(1e-30)
RED, GREEN, BLUE = (np.float32(weight) for weight in LUMINANCE)
PILLOW_RED, PILLOW_GREEN, PILLOW_BLUE = PILLOW


def change(images: UInt8s, draws: Draws, scale: Floats, offset: Floats, out: Floats) -> None:
    """Write the views of images (n, 3, h, w) into `out`, float32 of that shape."""
    # contiguous is the one layout that is compiled for
    arrays = Draws._make(map(np.ascontiguousarray, draws))
    change_each(np.ascontiguousarray(images), *arrays, scale, offset, out)


@njit(parallel=True, cache=True, nogil=True)
def change_each(
    images: UInt8s,
    shift: Longs,
    mirrored: Bools,
    grey: Bools,
    order: Longs,
    amounts: Floats,
    box: Longs,
    fill: Floats,
    channel: Longs,
    scale: Floats,
    offset: Floats,
    out: Floats,
) -> None:
    """Change one image after the other, as was drawn."""
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    for i in prange(len(images)):
        planes = out[i].reshape(3, -1)
        corner = shift[i, 0], shift[i, 1]
        if grey[i] or order[i, 0] != NO_JITTER:
            place(images[i], corner, mirrored[i], (0, 3), ones, zeros, out[i])
            if grey[i]:
                make_grey(planes)
            adjust(planes, order[i], amounts[i])
            normalise(planes, scale, offset)
        else:
            copied = 0 <= channel[i] < 3
            needed = (channel[i], channel[i] + 1) if copied else (0, 3)
            place(images[i], corner, mirrored[i], needed, scale, offset, out[i])
        erase(out[i], box[i], fill[i])
        mix_channels(planes, channel[i])


@njit(cache=True, nogil=True)
def place(
    image: UInt8s,
    corner: tuple[int, int],
    mirrored: bool,
    channels: tuple[int, int],
    scale: Floats,
    offset: Floats,
    out: Floats,
) -> None:
    """Write ``scale * level + offset`` of the window at a corner of an image with zeros around it, in some channels."""
    height, width = image.shape[1:]
    top, left = corner
    first, last = max(0, -left), min(width, width - left)
    start = np.uint64(width - last) if mirrored else np.uint64(first)
    source_start, size = np.uint64(first + left), np.uint64(last - first)
    for c in range(channels[0], channels[1]):
        a, b = scale[c], offset[c]
        for y in range(height):
            row = out[c, y]
            if last - first < width or not 0 <= y + top < height:
                for x in range(width):
                    row[x] = b
            if 0 <= y + top < height:
                source = image[c, y + top]
                if mirrored:
                    end = start + size - np.uint64(1)
                    for x in range(size):
                        row[end - x] = np.float32(source[source_start + x]) * a + b
                else:
                    for x in range(size):
                        row[start + x] = np.float32(source[source_start + x]) * a + b


@njit(cache=True, nogil=True)
def make_grey(planes: Floats) -> None:
    """Replace levels by Pillow's luminance, in its integer arithmetic."""
    red, green, blue = planes[0], planes[1], planes[2]
    for i in range(len(red)):
        total = np.int32(red[i]) * np.int32(PILLOW_RED) + np.int32(green[i]) * np.int32(PILLOW_GREEN)
        total += np.int32(blue[i]) * np.int32(PILLOW_BLUE) + np.int32(0x8000)
        red[i] = np.float32(total >> 16)
        green[i], blue[i] = red[i], red[i]


@njit(cache=True, nogil=True)
def adjust(planes: Floats, order: Longs, amounts: Floats) -> None:
    """Adjust colours in the order drawn."""
    for kind in order:
        if kind == 0:
            brightness(planes, amounts[0])
        elif kind == 1:
            contrast(planes, amounts[1])
        elif kind == 2:
            saturation(planes, amounts[2])
        elif kind == 3:
            hue(planes, amounts[3])


@njit(cache=True, nogil=True)
def normalise(planes: Floats, scale: Floats, offset: Floats) -> None:
    """Normalise levels."""
    for c in range(3):
        plane, a, b = planes[c], scale[c], offset[c]
        for i in range(len(plane)):
            plane[i] = plane[i] * a + b


@njit(cache=True, nogil=True)
def erase(image: Floats, box: Longs, fill: Floats) -> None:
    """Fill a box."""
    top, bottom, left, right = box
    for c in range(3):
        for y in range(top, bottom):
            row, value = image[c, y], fill[c]
            for x in range(np.uint64(left), np.uint64(right)):
                row[x] = value


@njit(cache=True, nogil=True)
def mix_channels(planes: Floats, channel: int) -> None:
    """Copy one channel to all, or weigh them."""
    red, green, blue = planes[0], planes[1], planes[2]
    if channel == WEIGHTED:
        for i in range(len(red)):
            red[i] = (red[i] * RED + green[i] * GREEN) + blue[i] * BLUE
            green[i], blue[i] = red[i], red[i]
    elif channel >= 0:
        for c in range(3):
            plane, source = planes[c], planes[channel]
            for i in range(len(plane)):
                plane[i] = source[i]


@njit(cache=True, nogil=True)
def mixed(product: np.float32, other: np.float32, rest: np.float64) -> np.float32:
    """Return ``product + other * rest``, rounded once."""
    return np.float32(np.float64(product) + np.float64(other) * rest)


@njit(cache=True, nogil=True)
def level(value: np.float32) -> np.float32:
    """Cut down to a whole grey level."""
    return np.floor(min(max(value, ZERO), TOP))


@njit(cache=True, nogil=True)
def grey_level(red: np.float32, green: np.float32, blue: np.float32) -> np.float32:
    """Return the whole grey level of a colour."""
    return np.floor(mixed(mixed(red * RED, green, np.float64(GREEN)), blue, np.float64(BLUE)))


@njit(cache=True, nogil=True)
def brightness(planes: Floats, factor: np.float32) -> None:
    """Multiply by a factor."""
    for c in range(3):
        plane = planes[c]
        for i in range(len(plane)):
            plane[i] = level(plane[i] * factor)


@njit(cache=True, nogil=True)
def contrast(planes: Floats, factor: np.float32) -> None:
    """Draw away from, or towards, the image's mean grey level."""
    red, green, blue = planes[0], planes[1], planes[2]
    total = np.int64(0)
    for i in range(len(red)):
        total += np.int32(grey_level(red[i], green[i], blue[i]))
    mean, rest = np.float32(total / len(red)), np.float64(np.float32(1.0 - np.float64(factor)))
    for c in range(3):
        plane = planes[c]
        for i in range(len(plane)):
            plane[i] = level(mixed(plane[i] * factor, mean, rest))


@njit(cache=True, nogil=True)
def saturation(planes: Floats, factor: np.float32) -> None:
    """Draw away from, or towards, the grey level of each pixel."""
    red, green, blue = planes[0], planes[1], planes[2]
    rest = np.float64(np.float32(1.0 - np.float64(factor)))
    for i in range(len(red)):
        grey = grey_level(red[i], green[i], blue[i])
        red[i] = level(mixed(red[i] * factor, grey, rest))
        green[i] = level(mixed(green[i] * factor, grey, rest))
        blue[i] = level(mixed(blue[i] * factor, grey, rest))


@njit(cache=True, nogil=True)
def hue(planes: Floats, turn: np.float32) -> None:
    """Turn the hue by a part of the circle; see :func:`methods.parts.views.jitter.hue_`."""
    red, green, blue = planes[0], planes[1], planes[2]
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        largest, smallest = max(max(r, g), b), min(min(r, g), b)
        value = largest * UNIT
        spread = value - smallest * UNIT
        share = spread / max(value, TINY)
        spread = max(spread, TINY)
        r_gap, g_gap, b_gap = value - r * UNIT, value - g * UNIT, value - b * UNIT
        r_top, g_top = r_gap == ZERO, g_gap == ZERO
        plus = b_gap if r_top else (r_gap if g_top else g_gap)
        minus = g_gap if r_top else (b_gap if g_top else r_gap)
        start = ZERO if r_top else (TWO if g_top else FOUR)
        place_of = ((plus / spread + start) - minus / spread) * SIXTH + ONE
        place_of = place_of - np.floor(place_of) + turn
        place_of = (place_of - np.floor(place_of)) * SIX
        side = np.floor(place_of)
        fall = (place_of - side) * share
        half = side * HALF
        odd = half > np.floor(half)
        between = ((ONE - fall) if odd else ((ONE - share) + fall)) * value
        middle = np.floor(between * BOUND)
        total = largest + smallest + middle
        r = largest if side < ONE or side >= FIVE else (smallest if TWO <= side < FOUR else middle)
        g = largest if ONE <= side < THREE else (smallest if side >= FOUR else middle)
        red[i], green[i], blue[i] = r, g, total - r - g
