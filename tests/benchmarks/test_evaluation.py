"""Evaluation: ours on the CPU, the tensor path, and the loop of public scripts, on one gallery in one run.

Galleries have at most as many queries as the largest of ``--sizes``, and at most those of the real protocols.
Compare the rows of a group::

    pytest tests/benchmarks/test_evaluation.py --sizes 4000 --benchmark-enable --benchmark-columns=min,median
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch

from protocols.base import Protocol
from protocols.regdb import RegDB
from protocols.sysu_mm01 import SysuAll, SysuIndoor
from tests.reference.metrics import RULES
from tests.reference.public_metrics import public_scores

Kind = Literal["sysu", "regdb"]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Gallery:
    """A protocol's gallery: its sizes, cameras and images of an identity in a camera."""

    protocol: Protocol
    kind: Kind
    query: int
    identities: int
    cameras: tuple[int, ...]
    shots: int
    gallery: int

    def arrays(self, scale: float, seed: int = 0) -> Arrays:
        """Draw a case in which matches are somewhat nearer, as after training; `scale` shortens both lists."""
        rng = np.random.default_rng(seed)
        people = max(2, round(self.identities * scale))
        ids = np.repeat(np.arange(people), self.shots * len(self.cameras))[
            : max(8, int(self.gallery * scale))
        ]
        cams = np.tile(np.repeat(self.cameras, self.shots), people)[: len(ids)]
        n = max(4, round(self.query * scale))
        query_ids = np.sort(rng.integers(0, ids.max() + 1, n))
        distance = rng.standard_normal((n, len(ids))) - (query_ids[:, None] == ids)
        query_cams = rng.choice([3, 6], n) if self.kind == "sysu" else np.full(n, 1)
        return {
            "distance": distance,
            "query_ids": query_ids,
            "gallery_ids": ids,
            "query_cams": query_cams,
            "gallery_cams": cams,
        }


VISIBLE = (1, 2, 4, 5)
GALLERIES = {
    "all, single shot": Gallery(SysuAll(), "sysu", 3803, 96, VISIBLE, 1, 301),
    "indoor, single shot": Gallery(SysuIndoor(), "sysu", 2208, 56, (1, 2), 1, 112),
    "all, multi shot": Gallery(SysuAll(), "sysu", 3803, 96, VISIBLE, 10, 3010),
    "RegDB": Gallery(RegDB(), "regdb", 2060, 206, (2,), 10, 2060),
}
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda])]


@pytest.fixture(params=GALLERIES)
def gallery(request: pytest.FixtureRequest, benchmark: Any) -> tuple[Gallery, Arrays]:
    """A gallery of the real size, or as far as ``--sizes`` goes."""
    benchmark.group = f"evaluation, {request.param}"
    chosen = GALLERIES[request.param]
    largest = max(map(int, request.config.getoption("--sizes", default="200").split(",")))
    arrays = chosen.arrays(min(1.0, largest / chosen.query))
    benchmark.extra_info["distances"] = arrays["distance"].shape
    return chosen, arrays


def timed(benchmark: Any, call: Callable[[], Any], rounds: int) -> Any:
    """Take times after one call that compiles."""
    return benchmark.pedantic(call, rounds=rounds, iterations=1, warmup_rounds=1)


def check(found: Any, gallery: tuple[Gallery, Arrays]) -> None:
    """Compare with the loop of public scripts."""
    expected = public_scores(**gallery[1], rules=RULES[gallery[0].kind])
    np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-12)
    assert (found.mAP, found.mINP) == pytest.approx((expected.mAP, expected.mINP), abs=1e-12)


@pytest.mark.filterwarnings("ignore::protocols.metrics.ShortGalleryWarning")
def test_compiled(benchmark: Any, gallery: tuple[Gallery, Arrays]) -> None:
    check(timed(benchmark, lambda: gallery[0].protocol.score(**gallery[1]), 10), gallery)


@pytest.mark.filterwarnings("ignore::protocols.metrics.ShortGalleryWarning")
@pytest.mark.parametrize("device", DEVICES)
def test_tensor(benchmark: Any, gallery: tuple[Gallery, Arrays], device: str) -> None:
    """The ranks leave the device at the end, so the time is that of all the work."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    about, arrays = gallery
    distance = torch.as_tensor(arrays["distance"], device=device)
    labels = {key: value for key, value in arrays.items() if key != "distance"}
    check(timed(benchmark, lambda: about.protocol.score(distance, **labels), 5), gallery)


def test_public_loop(benchmark: Any, gallery: tuple[Gallery, Arrays]) -> None:
    about, arrays = gallery
    timed(benchmark, lambda: public_scores(**arrays, rules=RULES[about.kind], sort="quicksort"), 1)
