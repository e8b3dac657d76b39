"""Augmentation: geometry, exact constants, and frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.parts import views as augment
from methods.parts.views import RECIPES, normalise, pad_width

HEIGHT, WIDTH = 96, 48


def picture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Noise without black pixels, so that padding is recognised."""
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def normalised(image: np.ndarray) -> np.ndarray:
    """(x / 255 - mean) / standard deviation, by hand."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((image / 255 - mean) / std).transpose(2, 0, 1)


def frequency_is(count: int, trials: int, p: float) -> bool:
    return abs(count - trials * p) < 5 * (trials * p * (1 - p)) ** 0.5


def test_normalise_a_batch() -> None:
    image = picture()
    found = normalise(torch.from_numpy(np.stack([image, image[::-1]])))
    assert found.shape == (2, 3, HEIGHT, WIDTH)
    np.testing.assert_allclose(found[0], normalised(image), atol=1e-6)
    np.testing.assert_allclose(found[1], normalised(image[::-1]), atol=1e-6)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_give_a_float_image_decided_by_the_seed(name: str) -> None:
    image = picture()
    before = image.copy()
    views = [RECIPES[name](image, np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert views[0].shape == (3, HEIGHT, WIDTH)
    assert views[0].dtype == torch.float32
    assert views[0].is_contiguous()
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2]) == (name == "none")
    assert (image == before).all()


def test_training_and_test_normalise_alike() -> None:
    image = picture()
    found = RECIPES["none"](image, np.random.default_rng(0))
    torch.testing.assert_close(found, normalise(torch.from_numpy(image)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "pad"), [(288, 10), (144, 5), (96, 3), (32, 1), (8, 0)])
def test_padding_shrinks_with_the_image(height: int, pad: int) -> None:
    assert pad_width(height) == pad


def test_weak_view_is_a_shifted_and_perhaps_mirrored_image() -> None:
    image, pad = picture(), pad_width(HEIGHT)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    seen = set()
    for seed in range(100):
        view = RECIPES["weak"](image, np.random.default_rng(seed)).numpy()
        found = [
            (top, left, flipped)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for flipped in (False, True)
            if np.allclose(view[:, :4, :4], window(padded, top, left, flipped)[:, :4, :4], atol=1e-5)
        ]
        assert len(found) == 1
        np.testing.assert_allclose(view, window(padded, *found[0]), atol=1e-5)
        seen.add(found[0])
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(2 * pad + 1))
    assert {flipped for _, _, flipped in seen} == {False, True}


def window(padded: np.ndarray, top: int, left: int, flipped: bool) -> np.ndarray:
    crop = padded[top : top + HEIGHT, left : left + WIDTH]
    return normalised(crop[:, ::-1] if flipped else crop)


def test_flip_frequency() -> None:
    image = picture()
    flips = sum(
        augment.random_flip(image, np.random.default_rng(s))[0, 0, 0] != image[0, 0, 0] for s in range(1000)
    )
    assert frequency_is(flips, 1000, 0.5)


def erased_areas(step, constants: tuple[float, float, float], trials: int) -> list[float]:
    """Area shares of the erased boxes; checks that a box is a full rectangle of the exact constants."""
    areas = []
    for seed in range(trials):
        image = np.full((3, HEIGHT, WIDTH), 9, dtype=np.float32)
        found = step(image, np.random.default_rng(seed))
        mask = (found != 9).all(0)
        assert (mask == (found != 9).any(0)).all()
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            for c in range(3):
                assert (found[c][mask] == np.float32(constants[c])).all()
            areas.append(mask.mean())
    return areas


def test_channel_random_erasing() -> None:
    areas = erased_areas(augment.channel_random_erasing, (0.4914, 0.4822, 0.4465), 2000)
    assert frequency_is(len(areas), 2000, 0.5)
    # rounding each side by half a pixel changes small boxes by a few per cent
    assert 0.02 * 0.9 < min(areas) < 0.03
    assert 0.35 < max(areas) < 0.4 * 1.05


def test_random_erasing() -> None:
    areas = erased_areas(augment.random_erasing, (0, 0, 0), 2000)
    assert frequency_is(len(areas), 2000, 0.5)
    assert 0.02 * 0.9 < min(areas) < 0.03
    assert 0.28 < max(areas) < 0.33 * 1.05


@pytest.mark.parametrize(
    ("step", "low", "high"),
    [(augment.channel_random_erasing, 0.7, 0.85), (augment.random_erasing, 0.42, 0.58)],
)
def test_aspect_ratios(step, low: float, high: float) -> None:
    """Uniform in 0.3 .. 3.3 makes three of four boxes taller than wide, log-uniform every other one."""
    taller, drawn = 0, 0
    for seed in range(2000):
        found = step(np.full((3, 64, 64), 9, dtype=np.float32), np.random.default_rng(seed))[0] != 9
        if found.any():
            height, width = found.any(1).sum(), found.any(0).sum()
            assert 0.25 < height / width < 4
            taller += int(height > width)
            drawn += int(height != width)
    assert low < taller / drawn < high


@pytest.mark.parametrize("ratio", [0.01, 100.0])
def test_a_box_that_never_fits_is_given_up(ratio: float) -> None:
    generator = np.random.default_rng(0)
    assert augment.draw_box((20, 10), generator, (0.4, 0.4), lambda _: ratio, 100) is None


def test_boxes_reach_every_border() -> None:
    generator = np.random.default_rng(0)
    boxes = [augment.draw_box((6, 4), generator, (0.15, 0.3), lambda _: 1.0, 100) for _ in range(300)]
    assert {b[0].start for b in boxes} >= {0, 4}
    assert {b[0].stop for b in boxes} >= {6}
    assert {b[1].stop for b in boxes} >= {4}


def sources(step, trials: int) -> np.ndarray:
    """How often the result is channel 0, 1, 2, grey, or the image itself."""
    image = np.arange(3, dtype=np.float32)[:, None, None] + np.zeros((3, 2, 2), np.float32)
    grey = 0.2989 * 0 + 0.5870 * 1 + 0.1140 * 2
    counts = np.zeros(5, dtype=int)
    for seed in range(trials):
        found = step(image, np.random.default_rng(seed))[:, 0, 0]
        kinds = [np.allclose(found, value) for value in (0, 1, 2, grey)] + [np.allclose(found, [0, 1, 2])]
        assert sum(kinds) == 1
        counts[kinds.index(True)] += 1
    return counts


@pytest.mark.parametrize(
    ("step", "shares"),
    [
        (augment.channel_exchange, (1 / 3, 1 / 3, 1 / 3, 0, 0)),
        (augment.channel_adapt_gray, (1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8)),
    ],
)
def test_channel_operations(step, shares: tuple[float, ...]) -> None:
    for count, share in zip(sources(step, 2000), shares, strict=True):
        assert frequency_is(count, 2000, share) if share else count == 0


def test_exchanged_view_has_three_equal_channels() -> None:
    for name in ("channel-exchange", "jitter-exchange"):
        view = RECIPES[name](picture(), np.random.default_rng(3))
        assert torch.equal(view[0], view[1])
        assert torch.equal(view[0], view[2])
        assert view[0].std() > 0.1


def test_random_grey_is_pillows_luminance() -> None:
    from PIL import Image

    image = picture()
    expected = np.asarray(Image.fromarray(image).convert("L"))
    greys = 0
    for seed in range(400):
        found = augment.random_grey(image, np.random.default_rng(seed))
        if (found != image).any():
            greys += 1
            assert all((found[..., c] == expected).all() for c in range(3))
    assert frequency_is(greys, 400, 0.5)


def test_colour_jitter_changes_colours_within_the_factors() -> None:
    grey = np.full((4, 4, 3), 100, dtype=np.uint8)
    means = [augment.colour_jitter(grey, np.random.default_rng(s)).mean() for s in range(300)]
    # a flat grey image keeps its hue, saturation and contrast: only the brightness factor 0.5 .. 1.5 is left
    assert 49 <= min(means) < 60
    assert 140 < max(means) <= 151
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[..., 0] = 200
    strongest = {int(augment.colour_jitter(red, np.random.default_rng(s))[0, 0].argmax()) for s in range(60)}
    assert strongest == {0, 1, 2}
