"""Pictures of people who appear in no twin: what source weights are trained on where nothing can be downloaded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocols.synthetic.rendering import (
    HEIGHT,
    WIDTH,
    UInt8Array,
    draw_camera,
    draw_person,
    generator,
    photograph,
)

SOURCE_CAMERAS = 24


def render_source(
    identities: int, images: int, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> tuple[UInt8Array, npt.NDArray[np.int64]]:
    """Render people who appear in no twin, visible only, each image by one of 24 cameras.

    Parameters
    ----------
    identities, images : int
        People, and images of each.
    size : (width, height)

    Returns
    -------
    uint8 array (n, height, width, 3), int64 array (n,)
        n = identities * images, labels from 0.
    """
    cameras = [draw_camera(("source", seed, c), infrared=False, strength=1.0) for c in range(SOURCE_CAMERAS)]
    pixels = np.empty((identities, images, size[1], size[0], 3), dtype=np.uint8)
    for i in range(identities):
        person = draw_person(("source", seed, i), rho=1.0)
        for k in range(images):
            g = generator("source shot", seed, i, k)
            pixels[i, k] = photograph(person, cameras[int(g.integers(SOURCE_CAMERAS))], g, size)
    return pixels.reshape(-1, *pixels.shape[2:]), np.arange(identities, dtype=np.int64).repeat(images)
