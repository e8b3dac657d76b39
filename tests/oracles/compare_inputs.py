"""Sampler and augmentation beside the public classes of ADCA, PGM and GUR, which are the same text in all three.

Both sides take their draws from one scripted stream of uniform numbers: integers by floor(u n), permutations by
argsort, draws without replacement as the head of a permutation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from methods.parts.samplers import gallery_with_singletons, random_multiple_gallery
from methods.parts.views import RECIPES, apply_views
from tests.oracles.cases import Arrays, Comparison, Differences, Mutation, cases_of
from tests.oracles.frozen import jitter_levels, planes
from tests.reference.views import draw_one

JITTER_LEVELS = 3.0
"""Mean difference allowed to colour jitter on tensors, of 256 levels: Pillow rounds after each operation."""


class Scripted:
    """A generator whose every draw comes from one stream of uniform numbers."""

    def __init__(self, seed: int) -> None:
        self.stream = np.random.Generator(np.random.PCG64(seed))

    def random(self) -> float:
        return float(self.stream.random())

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | None = None) -> Any:
        if size is None:
            return low + (high - low) * self.random()
        return np.array([self.uniform(low, high) for _ in range(size)])

    def integers(self, n: int, size: int | None = None) -> Any:
        if size is None:
            return int(self.random() * n)
        return np.array([self.integers(n) for _ in range(size)])

    def permutation(self, n: int) -> np.ndarray:
        return np.argsort([self.random() for _ in range(n)], kind="stable")

    def choice(self, a: np.ndarray, size: int, replace: bool = True) -> np.ndarray:
        return a[self.integers(len(a), size)] if replace else a[self.permutation(len(a))[:size]]


def compare_sampler(arrays: Arrays) -> dict[str, float]:
    """Batches given the drawn numbers; a label with one image gives it once (quirk Q8)."""
    found = Differences()
    for case in cases_of(arrays, "_batches"):
        label, camera = (arrays[f"{case}_{key}"].astype(np.int64) for key in ("label", "camera"))
        p, k, seed = (int(arrays[f"{case}_{key}"]) for key in ("p", "k", "seed"))
        public = arrays[f"{case}_batches"]
        draws: Any = Scripted(seed)
        once = gallery_with_singletons(label, camera, p * k, k, len(public), draws)
        found.equal("batches", once, public, case)
        if (np.unique(label, return_counts=True)[1] > 1).all():
            draws = Scripted(seed)
            repeated = random_multiple_gallery(label, camera, p, k, len(public), draws)
            found.equal("batches", repeated, public, f"{case}, repeat_singletons")
    return found.largest


def compare_views(arrays: Arrays) -> dict[str, float]:
    """Pixels of every recipe given the drawn numbers; colour jitter on tensors against Pillow's."""
    found = Differences()
    for case in cases_of(arrays, "_blocks"):
        recipe, draws = case.rsplit("_", 1)[0], Scripted(int(arrays[f"{case}_seed"]))
        image = np.kron(arrays[f"{case}_blocks"], np.ones((24, 24, 1), np.uint8))
        drawn = draw_one(RECIPES[recipe], image.shape[:2], draws)
        ours = apply_views(planes(image), drawn)[0, :, ::4, ::3]
        found.close(f"pixels, {recipe}", ours, arrays[f"{case}_out"], 1e-5, where=case)
    for case in cases_of(arrays, "_factors"):
        given = (arrays[f"{case}_{key}"] for key in ("image", "factors", "order"))
        jittered, public = jitter_levels(*given), arrays[f"{case}_out"]
        level = np.abs(jittered.astype(int) - public.astype(int)).mean()
        found.close("colour jitter, mean of 256 levels", level, 0.0, JITTER_LEVELS, where=case)
    return found.largest


COMPARISONS: dict[str, Comparison] = {"adca_sampler": compare_sampler, "adca_augment": compare_views}
MUTATIONS: list[Mutation] = [
    Mutation(
        "a label's only image is repeated",
        "methods/parts/samplers.py",
        "instances, size, generator, cross_camera, repeat_singletons=False)",
        "instances, size, generator, cross_camera, repeat_singletons=True)",
        ("adca_sampler",),
    ),
    Mutation(
        "companions from the anchor's camera",
        "methods/parts/samplers.py",
        "camera[members] != camera[anchor]",
        "camera[members] == camera[anchor]",
        ("adca_sampler",),
    ),
    Mutation(
        "adapted grey is never drawn",
        "methods/parts/views/recipes.py",
        "channel = generator.integers(4, size=n)",
        "channel = generator.integers(3, size=n)",
        ("tests/methods/parts/test_views.py::test_channel_operations",),
    ),
    Mutation(
        "erasing with the mean of ImageNet",
        "methods/parts/views/recipes.py",
        "False, 100, (0.4914, 0.4822, 0.4465)",
        "False, 100, (0.485, 0.456, 0.406)",
        ("adca_augment",),
    ),
]
