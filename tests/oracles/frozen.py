"""Inputs that recorded files do not hold: made again from the frozen stream of ``numpy.random.RandomState``.

Small networks in place of the ResNet, their weights, images, features, and generators that deal out given draws.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods.parts.views import apply_views
from methods.parts.views.constants import OFFSET, SCALE
from methods.parts.views.recipes import unchanged
from tests.oracles.cases import Arrays


def stable(seed: int | str, *names: Any) -> np.random.RandomState:
    """Return a legacy generator of a seed and names."""
    return np.random.RandomState(zlib.crc32(repr((seed, *names)).encode()) & 0x7FFFFFFF)


def normal(generator: np.random.RandomState, *shape: int) -> Tensor:
    """Draw float32 normal numbers."""
    return torch.from_numpy(generator.randn(*shape)).float()


def seeded_state(module: nn.Module, seed: int, bn: float = 0.1, gain: float = 1.0) -> dict[str, Tensor]:
    """Draw every parameter and buffer from a stream of its own name."""
    state = {}
    for name, value in module.state_dict().items():
        generator, shape = stable(seed, name), tuple(value.shape)
        if name.endswith("num_batches_tracked"):
            drawn: Any = np.zeros(shape)
        elif name.endswith("running_var"):
            drawn = 1 + 0.2 * generator.rand(*shape)
        elif name.endswith("running_mean") or (value.ndim <= 1 and name.endswith("bias")):
            drawn = bn * generator.randn(*shape)
        elif value.ndim > 1:
            # the three maps of a non-local block are multiplied, so that each is kept small
            fan_out = shape[0] * int(np.prod(shape[2:])) * (2500 if "non_local" in name else 1)
            drawn = gain * math.sqrt(2 / fan_out) * generator.randn(*shape)
        else:
            drawn = 1 + bn * generator.randn(*shape)
        state[name] = torch.as_tensor(drawn).to(value.dtype)
    return state


def sampled(tensor: Tensor, seed: int, name: str, count: int) -> np.ndarray:
    """Return the norm of a tensor, then all its entries, or `count` drawn by its name; zeros behind fewer."""
    flat = tensor.detach().double().flatten()
    chosen = flat
    if len(flat) > count:
        chosen = flat[torch.from_numpy(stable(seed, "entries", name).randint(0, len(flat), count))]
    out = np.zeros(count + 1)
    out[0] = float(flat.norm())
    out[1 : 1 + len(chosen)] = chosen.numpy()
    return out


def images_of(seed: int, n: int, height: int, width: int) -> Tensor:
    """Smooth float images (n, 3, height, width), as normalised ones are."""
    generator = stable(seed, "images", n, height, width)
    coarse = normal(generator, n, 3, max(2, height // 8), max(2, width // 8))
    x = nn.functional.interpolate(coarse, (height, width), mode="nearest")
    return x + 0.3 * normal(generator, n, 3, height, width)


def people(seed: int, identity: np.ndarray, height: int = 24, width: int = 12, noise: float = 0.6) -> Tensor:
    """Images that show who they are: a pattern of each identity, and noise."""
    generator = stable(seed, "people")
    pattern = generator.randn(int(max(identity)) + 1, 3, height // 4, width // 4)
    pattern = np.repeat(np.repeat(pattern, 4, 2), 4, 3)
    images = pattern[identity] + noise * generator.randn(len(identity), 3, height, width)
    return torch.from_numpy(images).float()


def bank_features(seed: int, identity: np.ndarray, d: int, spread: float = 0.75) -> Tensor:
    """Unit features around a centre of each identity."""
    generator = stable(seed, "bank")
    x = generator.randn(int(max(identity)) + 1, d)[identity] + spread * generator.randn(len(identity), d)
    return torch.from_numpy((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))


def pixels_of(seed: int, infrared: bool) -> np.ndarray:
    """A uint8 image (288, 144, 3) of blocks and noise; infrared ones have three equal channels."""
    generator, channels = stable(seed, "pixels"), 1 if infrared else 3
    x = generator.randint(0, 256, (36, 18, channels)).astype(np.uint8)
    x = np.repeat(np.repeat(x, 8, 0), 8, 1).astype(np.int32) + generator.randint(-9, 10, (288, 144, channels))
    x = np.clip(x, 0, 255).astype(np.uint8)
    return np.repeat(x, 3, 2) if infrared else x


class Replay:
    """Stands in for numpy's Generator: deals out given uniform numbers in order."""

    def __init__(self, draws: Any) -> None:
        self.draws, self.used = np.asarray(draws, dtype=np.float64), 0

    def random(self) -> float:
        self.used += 1
        return float(self.draws[self.used - 1])

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | None = None) -> Any:
        if size is None:
            return low + (high - low) * self.random()
        return np.array([low + (high - low) * self.random() for _ in range(size)])

    def integers(self, n: int, size: int | None = None) -> Any:
        if size is None:
            return int(self.random() * n)
        return np.array([int(self.random() * n) for _ in range(size)])

    def permutation(self, items: Any) -> np.ndarray:
        if np.ndim(items):
            return np.asarray(items)[self.permutation(len(items))]
        return np.argsort([self.random() for _ in range(items)], kind="stable")

    def choice(self, items: Any, size: int | None = None, replace: bool = True) -> Any:
        items = np.asarray(items)
        if size is None:
            return items[self.integers(len(items))]
        if replace:
            return items[self.integers(len(items), size=size)]
        return items[self.permutation(len(items))[:size]]


def planes(image: np.ndarray) -> Tensor:
    """Return an image (h, w, 3) as a batch of one (1, 3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def jitter_levels(image: np.ndarray, factors: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return an image (h, w, 3) after a colour jitter of given factors in a given order, as levels."""
    amounts = np.array([factors], dtype=np.float32)
    draws = unchanged(1)._replace(amounts=amounts, order=np.array([order], dtype=np.int64))
    levels = (apply_views(planes(image), draws)[0].permute(1, 2, 0).numpy() - OFFSET) / SCALE
    return np.round(levels).astype(np.uint8)


class Keyed:
    """Stands in for numpy's Generator: a choice depends on its items and how often they came, not on the order."""

    def __init__(self, seed: int) -> None:
        self.seed, self.count = seed, dict[Any, int]()

    def choice(self, items: Any, size: int, replace: bool = True) -> Any:
        key = (tuple(int(x) for x in items), int(size), bool(replace))
        self.count[key] = self.count.get(key, 0) + 1
        draws = stable(self.seed, key, self.count[key]).rand(len(key[0]) + int(size))
        return Replay(draws).choice(items, size, replace)


class TinyTwo(nn.Module):
    """A two-stream network with the names of the real one: stems, trunk, generalised mean, neck."""

    def __init__(self, dimension: int) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            return [convolution, nn.BatchNorm2d(after), nn.ReLU()]

        self.visible, self.infrared = nn.Sequential(*block(3, 8, 2)), nn.Sequential(*block(3, 8, 2))
        self.trunk = nn.Sequential(*block(8, 16, 2), *block(16, dimension, 1))
        self.neck, self.dimension = nn.BatchNorm1d(dimension), dimension
        self.neck.bias.requires_grad_(False)

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        rows = [torch.nonzero(modality == m).flatten() for m in (0, 1)]
        stems = (self.visible, self.infrared)
        stemmed = [stem(images[r]) for stem, r in zip(stems, rows, strict=True) if len(r)]
        maps = self.trunk(torch.cat(stemmed))
        pooled = (maps.pow(3).mean((2, 3)) + 1e-12).pow(1 / 3)[torch.cat(rows).argsort()]
        return self.neck(pooled), pooled


class TinySingle(nn.Module):
    """A single-stream network with OTLA's five depths: a stem of stride 4, then 1 x 1 convolutions."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        first = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.trunk = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in pairwise(widths)
        )
        self.necks = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)
        for neck in self.necks:
            neck.bias.requires_grad_(False)
        self.dimension, self.depth_dimension = widths[-1], sum(widths)

    def depths(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = [self.stem(images)]
        for layer in self.trunk:
            maps.append(layer(maps[-1]))
        pooled = [m.float().mean((2, 3)) for m in maps]
        return [neck(x) for neck, x in zip(self.necks, pooled, strict=True)], pooled[-1]

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        features, pooled = self.depths(images)
        return features[-1], pooled


def case(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of one case of a file, ``name/key`` by `key`."""
    return {key.split("/", 1)[1]: value for key, value in arrays.items() if key.startswith(f"{name}/")}


def names_of(arrays: Arrays) -> list[str]:
    """Return the names of a file's cases, ``name/key``."""
    return list(dict.fromkeys(key.split("/")[0] for key in arrays if "/" in key))


def settings_of(arrays: Arrays) -> dict[str, Any]:
    """Return what a file says of the configuration, ``settings.name`` by `name`."""
    given = {
        key.split(".", 1)[1]: value.item() for key, value in arrays.items() if key.startswith("settings.")
    }
    return given


def state_of(module: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return a module's weights and statistics as a file holds them under `prefix`, large ones as samples."""
    own = module.state_dict()
    found = {}
    for key, recorded in arrays.items():
        if key.startswith(prefix):
            name = key[len(prefix) :]
            whole = recorded.shape == tuple(own[name].shape)
            found[key] = own[name].numpy() if whole else sampled(own[name], 9, name, len(recorded) - 1)
    return found
