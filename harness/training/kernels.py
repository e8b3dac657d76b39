"""Has the kernels of clustering, evaluation and views compiled, or loads compiled ones, before anything is timed."""

from __future__ import annotations

import time
import warnings
from functools import cache

import numpy as np
import torch


@cache
def load_kernels() -> None:
    """Compile the kernels, or load compiled ones, once a process: what is loaded stays."""
    compile_kernels()


def compile_kernels() -> float:
    """Compile the kernels of clustering, evaluation and views, or load compiled ones; return the seconds it took."""
    from methods.clustering import MIE, jaccard_clusters, nearest_neighbours
    from methods.parts.views import RECIPES, apply_views, draw_views
    from protocols.metrics import distances, evaluate

    start = time.perf_counter()
    # many rows in few directions: without bfloat16 units, the search goes by projections
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1024, 8, generator=generator) @ torch.randn(8, 128, generator=generator)
    rows = torch.nn.functional.normalize(rows)
    half, quarter = torch.arange(1024) // 512, torch.arange(1024) // 256
    jaccard_clusters(rows, k1=8, eps=0.6, min_samples=4, expansion=MIE(4, half, quarter))
    nearest_neighbours(rows, 8, backend="float32")  # what a search falls back on
    some, ids = rows[::16].numpy(), half[::16].numpy()
    with warnings.catch_warnings(action="ignore"):  # two people are a short gallery
        evaluate(
            distances(some, some),
            ids,
            ids,
            np.zeros((1, 64), dtype=bool),
            np.zeros(64, dtype=np.int64),
            False,
        )
    drawn = draw_views(RECIPES["jitter-exchange"], 1, (4, 2), np.random.default_rng(0))
    apply_views(torch.zeros(1, 3, 4, 2, dtype=torch.uint8), drawn)
    return time.perf_counter() - start
