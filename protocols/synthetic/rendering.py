"""Draws synthetic people: parts that bear identity, a random pose, and the camera that sees them.

A person is a handful of parts, each with a visible colour and an infrared reflectance. Infrared brightness
is rho * luminance + (1 - rho) * a random reflectance of the part's own, so shape and pattern cross modalities
and colour only partly does. Only the four operations, comparisons and integer draws are used, no function
whose last digit differs between machines (nor a matrix product, which may fuse operations).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

HEIGHT, WIDTH = 128, 64
PATTERNS = ("plain", "rows", "columns", "checks", "diagonal", "block", "half")
LEGS = ("trousers", "shorts", "skirt")


def generator(*key: object) -> np.random.Generator:
    """Return a generator that depends on `key` alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


@dataclass(frozen=True)
class Paint:
    """A part's pattern, its two visible colours (2, 3) in [0, 1] and their infrared brightness (2,)."""

    visible: FloatArray
    infrared: FloatArray
    pattern: str = "plain"
    period: float = 0.1

    def on(self, u: FloatArray, v: FloatArray, infrared: bool) -> FloatArray:
        """Paint person coordinates; (..., 3) visible, (..., 1) infrared."""
        second = (pattern_mask(self.pattern, u, v, self.period)).astype(np.int64)
        return self.infrared[second][..., None] if infrared else self.visible[second]


def pattern_mask(pattern: str, u: FloatArray, v: FloatArray, period: float) -> Mask:
    """Say where a part shows its second colour."""

    def odd(x: FloatArray) -> Mask:
        return np.floor(x / period).astype(np.int64) % 2 == 1

    if pattern == "rows":
        return odd(2 * v)
    if pattern == "columns":
        return odd(u)
    if pattern == "checks":
        return odd(2 * v) ^ odd(u)
    if pattern == "diagonal":
        return odd(2 * v + u)
    if pattern == "block":
        return (np.abs(u) < 0.16) & (v > 0.28) & (v < 0.4)
    if pattern == "half":
        return v > 0.36
    return np.zeros(u.shape, dtype=bool)


@dataclass(frozen=True)
class Person:
    """What stays the same of a person from image to image."""

    skin: Paint
    hair: Paint
    top: Paint
    bottom: Paint
    shoes: Paint
    bag: Paint
    hat: Paint
    build: float
    long_sleeves: bool
    legs: str
    hair_length: float
    has_hat: bool
    bag_side: int


def draw_paint(g: np.random.Generator, rho: float, *, patterned: bool) -> Paint:
    """Draw the colours of a part: clothes differ more in shade, which infrared sees as well, than in hue."""
    shade = g.integers(10, 246, (2, 1)) / 255
    visible = np.clip(shade + 0.5 * (g.integers(10, 246, (2, 3)) / 255 - 0.5), 0.03, 0.97)
    own = g.integers(10, 246, 2) / 255
    pattern = PATTERNS[int(g.integers(len(PATTERNS)))] if patterned else "plain"
    period = float(g.integers(6, 16)) / 100
    luminance = 0.299 * visible[:, 0] + 0.587 * visible[:, 1] + 0.114 * visible[:, 2]
    return Paint(visible, rho * luminance + (1 - rho) * own, pattern, period)


def draw_person(key: object, rho: float) -> Person:
    """Draw a person; equal keys, equal persons, and the random reflectances do not depend on `rho`."""
    g = generator("person", key)
    tone = g.integers(60, 236) / 255
    skin = np.array([[tone, tone * 0.8, tone * 0.66]] * 2)
    dark = g.integers(10, 150, (1, 3)).repeat(2, 0) / 255
    return Person(
        skin=Paint(skin, np.full(2, 0.75)),
        hair=Paint(dark, np.full(2, float(g.integers(20, 200)) / 255)),
        top=draw_paint(g, rho, patterned=True),
        bottom=draw_paint(g, rho, patterned=bool(g.integers(3) == 0)),
        shoes=draw_paint(g, rho, patterned=False),
        bag=draw_paint(g, rho, patterned=False),
        hat=draw_paint(g, rho, patterned=False),
        build=float(g.integers(80, 126)) / 100,
        long_sleeves=bool(g.integers(2)),
        legs=LEGS[int(g.integers(len(LEGS)))],
        hair_length=float(g.integers(2, 16)) / 100,
        has_hat=bool(g.integers(4) == 0),
        bag_side=int(g.integers(-1, 2)),
    )


@dataclass(frozen=True)
class Camera:
    """How a camera sees: background, gain, colour cast, gamma, blur, noise, scale."""

    infrared: bool
    background: FloatArray
    gain: float
    cast: FloatArray
    bend: float
    blur: int
    noise: int
    scale: float


def draw_camera(key: object, infrared: bool, strength: float) -> Camera:
    """Draw a camera; `strength` in [0, 1] is how far cameras differ."""
    g = generator("camera", key)

    def around(centre: float, spread: float) -> float:
        return centre + strength * spread * float(g.integers(-100, 101)) / 100

    tiles = g.integers(30, 200, (6, 4, 1 if infrared else 3)) / 255
    return Camera(
        infrared=infrared,
        background=0.35 * tiles + 0.65 * tiles.sum(2, keepdims=True) / tiles.shape[2],
        gain=around(1.0, 0.3),
        cast=np.array([around(1.0, 0.2) for _ in range(1 if infrared else 3)]),
        bend=around(0.0, 0.45),
        blur=int(g.integers(0, 2)),
        noise=int(g.integers(2, 3 + int(8 * strength))),
        scale=around(1.0, 0.12),
    )


def capsule(
    u: FloatArray, v: FloatArray, a: tuple[float, float], b: tuple[float, float], radius: float
) -> Mask:
    """Return the points within `radius` of a segment, in coordinates where a unit is half the image width."""
    du, dv = b[0] - a[0], b[1] - a[1]
    t = np.clip(((u - a[0]) * du + (v - a[1]) * dv) / (du * du + dv * dv), 0, 1)
    return (u - a[0] - t * du) ** 2 + (v - a[1] - t * dv) ** 2 < radius * radius


def ellipse(u: FloatArray, v: FloatArray, cu: float, cv: float, ru: float, rv: float) -> Mask:
    """Return the points inside an ellipse."""
    return ((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2 < 1


def paint_person(canvas: FloatArray, person: Person, camera: Camera, g: np.random.Generator) -> None:
    """Paint a person in a random pose onto a canvas (HEIGHT, WIDTH, channels)."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    size = camera.scale * g.integers(88, 109) / 100
    mirror = 1 if g.integers(2) else -1
    lean = g.integers(-8, 9) / 100
    v = ((rows / HEIGHT - 0.5) - g.integers(-5, 6) / 100) / size + 0.5
    u = mirror * ((columns / WIDTH - 0.5) * 2 - g.integers(-10, 11) / 100) / size + lean * (v - 0.5)
    y = 4 * v  # as many units as u has per pixel
    w = 0.3 * person.build
    swing, step = g.integers(-22, 23) / 100, g.integers(0, 26) / 100

    def put(mask: Mask, paint: Paint) -> None:
        canvas[mask] = paint.on(u[mask], v[mask], camera.infrared)

    foot = {-1: (-0.16 - step, 3.72), 1: (0.16 + step, 3.72)}
    for side in (-1, 1):
        hip, end = (side * 0.13 * person.build, 2.15), foot[side]
        put(capsule(u, y, hip, end, 0.115 * person.build), person.skin)
        put(capsule(u, y, (end[0], 3.72), (end[0] + 0.1, 3.76), 0.11), person.shoes)
        reach = 1.0 if person.legs == "trousers" else 0.45
        knee = (hip[0] + reach * (end[0] - hip[0]), hip[1] + reach * 0.93 * (end[1] - hip[1]))
        if person.legs != "skirt":
            put(capsule(u, y, hip, knee, 0.145 * person.build), person.bottom)
    if person.legs == "skirt":
        put((y > 2.0) & (y < 2.85) & (np.abs(u) < w * 0.8 + 0.22 * (y - 2.0)), person.bottom)
    if person.hair_length > 0.08:
        put(
            ellipse(u, y, 0, 0.55 + person.hair_length * 2, 0.24, 0.3 + person.hair_length * 2.2), person.hair
        )
    put((y > 0.85) & (y < 2.2) & (np.abs(u) < w * (1 - 0.12 * (y - 0.85))), person.top)
    for side in (-1, 1):
        shoulder, hand = (side * w * 0.95, 1.0), (side * (w + 0.12 + abs(swing)), 2.1)
        put(capsule(u, y, shoulder, hand, 0.075), person.skin)
        reach = 0.92 if person.long_sleeves else 0.4
        cuff = (shoulder[0] + reach * (hand[0] - shoulder[0]), shoulder[1] + reach * (hand[1] - shoulder[1]))
        put(capsule(u, y, shoulder, cuff, 0.1), person.top)
    put(ellipse(u, y, 0, 0.52, 0.19, 0.3), person.skin)
    put(ellipse(u, y, 0, 0.42, 0.2, 0.24) & (y < 0.42), person.hair)
    if person.has_hat:
        put(
            ((y > 0.14) & (y < 0.36) & (np.abs(u) < 0.2)) | ((y > 0.32) & (y < 0.4) & (np.abs(u) < 0.29)),
            person.hat,
        )
    if person.bag_side:
        place = person.bag_side * (w + 0.1)
        put((np.abs(u - place) < 0.16) & (y > 1.75) & (y < 2.4), person.bag)
        put(capsule(u, y, (-person.bag_side * 0.15, 0.9), (place, 1.8), 0.03), person.bag)


def box_blur(canvas: FloatArray, radius: int) -> FloatArray:
    """Average over a square of side 2 * radius + 1, edges repeated."""
    if radius == 0:
        return canvas
    side = 2 * radius + 1
    padded = np.pad(canvas, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    height, width, channels = canvas.shape
    rows = np.zeros((height, width + 2 * radius, channels))
    for i in range(side):
        rows += padded[i : i + height]
    blurred = np.zeros(canvas.shape)
    for i in range(side):
        blurred += rows[:, i : i + width]
    return blurred / side**2


def background(camera: Camera, g: np.random.Generator) -> FloatArray:
    """Lay out the camera's background, shifted a little and dimmed at random."""
    tiles = camera.background.repeat(-(-HEIGHT // 6) + 4, 0).repeat(WIDTH // 4 + 6, 1)
    top, left = int(g.integers(0, 8)), int(g.integers(0, 8))
    cut = tiles[top : top + HEIGHT, left : left + WIDTH].copy()
    return box_blur(cut, 3) * (g.integers(80, 121) / 100)


def photograph(person: Person, camera: Camera, g: np.random.Generator, size: tuple[int, int]) -> UInt8Array:
    """Photograph a person: uint8 (height, width, 3); infrared images have three equal channels.

    Parameters
    ----------
    size : (width, height)
    """
    canvas = background(camera, g)
    paint_person(canvas, person, camera, g)
    light = camera.gain * g.integers(85, 116) / 100
    x = np.clip(box_blur(canvas, camera.blur) * camera.cast * light, 0, 1)
    # a bent response curve, rational so that it is exact everywhere: the camera's gamma
    x = x / (x + (1 - x) * (1 + camera.bend))
    pixels = np.floor(x * 255 + 0.5).astype(np.int64) + g.integers(-camera.noise, camera.noise + 1, x.shape)
    image = np.clip(pixels, 0, 255).astype(np.uint8)
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    if size == (WIDTH, HEIGHT):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
