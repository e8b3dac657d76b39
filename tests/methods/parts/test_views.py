"""Views: what is drawn and how often, and pixels that equal the slow reference on both ways to change them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.parts.views import (
    RECIPES,
    Draws,
    apply_views,
    batched,
    concatenated,
    draw_views,
    normalise,
    pad_width,
)
from methods.parts.views.recipes import (
    AS_THEY_ARE,
    CHANNEL_ERASING,
    PLAIN_ERASING,
    WEIGHTED,
    draw_boxes,
    unchanged,
)
from tests.reference.views import JITTER, change_one, draw_one

HEIGHT, WIDTH = 96, 48
WAYS: dict[str, Callable[[Tensor, Draws], Tensor]] = {"compiled": apply_views, "batched": batched.change}
MANY = 20000


def pictures(n: int = 1, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Tensor:
    """Noise without black pixels, so that padding is recognised."""
    images = np.random.default_rng(seed).integers(1, 256, (n, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(images)


def drawn(name: str, n: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> Draws:
    return draw_views(RECIPES[name], n, (height, width), np.random.default_rng(seed))


def levels_of(view: Tensor) -> np.ndarray:
    """Undo the normalisation."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return (view.numpy() * std[:, None, None] + mean[:, None, None]) * 255


def frequency_is(count: int, trials: int, p: float) -> bool:
    return abs(count - trials * p) < 5 * (trials * p * (1 - p)) ** 0.5


def test_normalise_a_batch() -> None:
    images = pictures(2)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (images.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(normalise(images), expected, atol=1e-6)
    np.testing.assert_allclose(normalise(images[0]), expected[0], atol=1e-6)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_give_float_images_decided_by_the_generator(name: str) -> None:
    images = pictures(4)
    before = images.clone()
    first, again, other = (apply_views(images, drawn(name, 4, seed)) for seed in (5, 5, 6))
    assert first.shape == (4, 3, HEIGHT, WIDTH)
    assert first.dtype == torch.float32
    assert first.is_contiguous()
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "none")
    assert torch.equal(images, before)


@pytest.mark.parametrize("way", WAYS)
def test_training_and_test_normalise_alike(way: str) -> None:
    images = pictures(3)
    assert torch.equal(WAYS[way](images, drawn("none", 3)), normalise(images))


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("size", [(96, 48), (17, 9), (3, 1), (1, 1)])
def test_pixels_are_those_of_the_reference(name: str, size: tuple[int, int]) -> None:
    images, draws = pictures(12, *size), drawn(name, 12, 1, *size)
    found = apply_views(images, draws)
    assert torch.equal(batched.change(images, draws), found)
    for i, image in enumerate(images.numpy()):
        np.testing.assert_allclose(found[i], change_one(image, draws.of(np.array([i]))), atol=2e-6)


@st.composite
def any_draws(draw: st.DrawFn) -> tuple[Tensor, Draws]:
    """Images of few sizes and colours, and draws that no recipe need have."""
    n, height, width = draw(st.integers(0, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = draw(st.sampled_from([1, 15, 85, 255]))
    images = generator.integers(0, 255 // steps + 1, (n, 3, height, width)) * steps
    box = (
        np.sort(generator.integers(0, (height + 1, width + 1), (n, 2, 2)), axis=1)
        .transpose(0, 2, 1)
        .reshape(n, 4)
    )
    order = generator.permuted(np.tile(np.arange(4), (n, 1)), axis=1)
    hue = generator.choice([-0.5, 0.0, 0.5, 1 / 3, 0.1], (n, 1))
    factors = generator.choice([0.5, 1.0, 1.5, 0.7], (n, 3))
    return torch.from_numpy(images.astype(np.uint8)), Draws(
        shift=generator.integers(-9, 10, (n, 2)),
        mirrored=generator.random(n) < 0.5,
        grey=generator.random(n) < 0.3,
        order=np.where(generator.random((n, 1)) < 0.7, order, -1),
        amounts=np.hstack([factors, hue]).astype(np.float32),
        box=box,
        fill=generator.random((n, 3)).astype(np.float32),
        channel=generator.integers(-1, 4, n),
    )


@given(any_draws())
@settings(max_examples=150, deadline=None)
def test_whatever_is_drawn(case: tuple[Tensor, Draws]) -> None:
    images, draws = case
    found = apply_views(images, draws)
    assert torch.equal(batched.change(images, draws), found)
    for i, image in enumerate(images.numpy()):
        np.testing.assert_allclose(found[i], change_one(image, draws.of(np.array([i]))), atol=2e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", range(4))
def test_each_adjustment_is_torchvisions_to_the_level(kind: int, way: str) -> None:
    flat = torch.arange(256, dtype=torch.uint8).repeat(3, 1)[None, :, None].expand(1, 3, 16, 256)
    few = (pictures(1, 64, 64, 3) // 64) * 85  # many ties between channels
    for images in (pictures(1, 64, 32), few, flat.contiguous()):
        for amount in (0.5, 0.73, 1.0, 1.5) if kind < 3 else (-0.5, -0.21, 0.0, 1 / 6, 0.5):
            draws = unchanged(1)._replace(
                order=np.array([[kind, -1, -1, -1]]), amounts=np.full((1, 4), amount, np.float32)
            )
            expected = JITTER[kind](images[0], float(draws.amounts[0, 0])).numpy()
            levels = levels_of(WAYS[way](images, draws)[0])
            np.testing.assert_allclose(levels, expected, atol=1e-3)


def test_a_batch_gives_each_image_what_it_gets_alone() -> None:
    images = pictures(9)
    draws = concatenated([drawn(name, 3) for name in ("jitter-exchange", "plain", "grey-erasing")])
    for way in WAYS.values():
        whole = way(images, draws)
        for i in range(9):
            assert torch.equal(way(images[i : i + 1], draws.of(np.array([i])))[0], whole[i])


@pytest.mark.parametrize(("height", "pad"), [(288, 10), (144, 5), (96, 3), (32, 1), (8, 0)])
def test_padding_shrinks_with_the_image(height: int, pad: int) -> None:
    assert pad_width(height) == pad


def test_weak_view_is_a_shifted_and_perhaps_mirrored_image() -> None:
    pad, image = pad_width(HEIGHT), pictures()[0]
    draws = drawn("weak", 300)
    padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)))
    views = apply_views(image.expand(300, 3, HEIGHT, WIDTH), draws)
    for i, (top, left) in enumerate(draws.shift + pad):
        window = padded[:, top : top + HEIGHT, left : left + WIDTH]
        expected = window[:, :, ::-1] if draws.mirrored[i] else window
        np.testing.assert_allclose(levels_of(views[i]), expected, atol=1e-3)
    assert {tuple(pair) for pair in draws.shift.tolist()} == {
        (y, x) for y in range(-pad, pad + 1) for x in range(-pad, pad + 1)
    }


@pytest.mark.parametrize("name", ["weak", "erasing", "plain"])
def test_half_of_the_images_are_mirrored(name: str) -> None:
    assert frequency_is(int(drawn(name, MANY).mirrored.sum()), MANY, 0.5)


def test_half_of_otlas_visible_images_are_grey() -> None:
    assert frequency_is(int(drawn("grey-erasing", MANY).grey.sum()), MANY, 0.5)
    assert not drawn("plain", 100).grey.any()


@pytest.mark.parametrize(
    ("erasing", "low", "high"), [(CHANNEL_ERASING, 0.02, 0.4), (PLAIN_ERASING, 0.02, 0.33)]
)
def test_erased_areas(erasing, low: float, high: float) -> None:
    top, bottom, left, right = draw_boxes(erasing, MANY, (HEIGHT, WIDTH), np.random.default_rng(0)).T
    found = bottom > top
    assert frequency_is(int(found.sum()), MANY, 0.5)
    areas = ((bottom - top) * (right - left))[found] / (HEIGHT * WIDTH)
    # rounding each side by half a pixel changes small boxes by a few per cent
    assert low * 0.9 < areas.min() < low * 1.1
    assert high * 0.95 < areas.max() < high * 1.05


@pytest.mark.parametrize(
    ("erasing", "low", "high"), [(CHANNEL_ERASING, 0.7, 0.85), (PLAIN_ERASING, 0.42, 0.58)]
)
def test_aspect_ratios(erasing, low: float, high: float) -> None:
    """Uniform in 0.3 .. 3.3 makes three of four boxes taller than wide, log-uniform every other one."""
    top, bottom, left, right = draw_boxes(erasing, MANY, (64, 64), np.random.default_rng(0)).T
    height, width = ((bottom - top)[bottom > top], (right - left)[bottom > top])
    assert (height / width).min() > 0.25
    assert (height / width).max() < 4
    taller, oblong = int((height > width).sum()), int((height != width).sum())
    assert low < taller / oblong < high


@pytest.mark.parametrize("name", ["plain", "erasing", "jitter-exchange"])
def test_draws_are_distributed_as_those_of_the_reference(name: str) -> None:
    many, shape = drawn(name, 4000), (HEIGHT, WIDTH)
    ones = concatenated([draw_one(RECIPES[name], shape, np.random.default_rng(seed)) for seed in range(4000)])
    for ours, theirs in zip(many, ones, strict=True):
        assert ours.dtype == theirs.dtype
        spread = theirs.astype(float).std(axis=0) + 1e-9
        gap = np.abs(ours.astype(float).mean(axis=0) - theirs.astype(float).mean(axis=0)) / spread
        assert (gap < 5 * (2 / 4000) ** 0.5).all()


@pytest.mark.parametrize("shape", [(1, 1), (20, 1), (1, 20)])
def test_a_box_that_never_fits_is_given_up(shape: tuple[int, int]) -> None:
    boxes = draw_boxes(CHANNEL_ERASING, 300, shape, np.random.default_rng(0))
    sides = boxes[:, 1::2] - boxes[:, ::2]
    assert (sides < shape).all()
    assert (sides >= 0).all()


def test_boxes_reach_every_border() -> None:
    boxes = draw_boxes(CHANNEL_ERASING, 3000, (6, 4), np.random.default_rng(0))
    boxes = boxes[boxes[:, 1] > 0]
    assert boxes[:, 0].min() == boxes[:, 2].min() == 0
    assert boxes[:, 1].max() == 6
    assert boxes[:, 3].max() == 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "fill"), [("plain", (0.4914, 0.4822, 0.4465)), ("erasing", (0.0, 0.0, 0.0))]
)
def test_boxes_are_filled_with_exact_constants(name: str, fill: tuple[float, float, float], way: str) -> None:
    draws = drawn(name, 50)
    views = WAYS[way](pictures(50), draws).numpy()
    assert draws.box.any()
    for view, (top, bottom, left, right) in zip(views, draws.box, strict=True):
        for channel, value in zip(view, fill, strict=True):
            assert (channel[top:bottom, left:right] == np.float32(value)).all()


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("plain", {AS_THEY_ARE: 1.0}),
        ("channel-exchange", {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        ("channel-adapt-gray", {0: 1 / 4, 1: 1 / 4, 2: 1 / 4, WEIGHTED: 1 / 8, AS_THEY_ARE: 1 / 8}),
    ],
)
def test_channel_operations(name: str, shares: dict[int, float]) -> None:
    channel = drawn(name, MANY).channel
    for kind in (AS_THEY_ARE, 0, 1, 2, WEIGHTED):
        count, share = int((channel == kind).sum()), shares.get(kind, 0.0)
        assert count == MANY * share if share in (0, 1) else frequency_is(count, MANY, share)


@pytest.mark.parametrize("name", ["channel-exchange", "jitter-exchange"])
def test_exchanged_views_have_three_equal_channels(name: str) -> None:
    for view in apply_views(pictures(6), drawn(name, 6)):
        assert torch.equal(view[0], view[1])
        assert torch.equal(view[0], view[2])
        assert view[0].std() > 0.1


def test_grey_is_pillows_luminance() -> None:
    from PIL import Image

    image = pictures()
    expected = np.asarray(Image.fromarray(image[0].permute(1, 2, 0).numpy()).convert("L"))
    draws = unchanged(1)._replace(grey=np.array([True]))
    for channel in levels_of(apply_views(image, draws)[0]):
        np.testing.assert_allclose(channel, expected, atol=1e-3)


def test_colour_jitter_draws_factors_turns_and_every_order() -> None:
    draws = drawn("jitter-exchange", MANY)
    low, high = draws.amounts.min(axis=0), draws.amounts.max(axis=0)
    np.testing.assert_allclose(low, (0.5, 0.5, 0.5, -0.5), atol=1e-3)
    np.testing.assert_allclose(high, (1.5, 1.5, 1.5, 0.5), atol=1e-3)
    orders, counts = np.unique(draws.order, axis=0, return_counts=True)
    assert len(orders) == 24
    assert all(frequency_is(int(count), MANY, 1 / 24) for count in counts)
