"""Features that are hard on a clustering core, and views of its results as dense arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st
from torch import Tensor

from methods.clustering import SparseDistances


def unit(rows: npt.NDArray[np.floating]) -> Tensor:
    wide = rows.astype(np.float64)
    return torch.from_numpy((wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32))


def blobs(n: int, dim: int, identities: int, noise: float, seed: int) -> Tensor:
    """Unit rows around random centres."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(identities, dim))
    return unit(centre[rng.integers(0, identities, n)] + noise * rng.normal(size=(n, dim)))


def lattice(n: int, seed: int) -> Tensor:
    """Unit rows of few small integers: many exact ties and duplicates."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(n, 4))
    rows[(rows == 0).all(1)] = 1
    return unit(rows)


def islands(n: int, seed: int) -> Tensor:
    """Blobs on different axes: pieces that share nothing."""
    rng = np.random.default_rng(seed)
    rows = 0.05 * rng.normal(size=(n, 8))
    rows[np.arange(n), rng.integers(0, 4, n)] += 1
    return unit(rows)


def copies(n: int, seed: int) -> Tensor:
    """Every row several times."""
    base = blobs(max(1, n // 5), 6, 3, 0.4, seed)
    return base[torch.from_numpy(np.random.default_rng(seed).integers(0, len(base), n))]


@st.composite
def features(draw: st.DrawFn, least: int = 12, most: int = 60) -> Tensor:
    n, seed = draw(st.integers(least, most)), draw(st.integers(0, 2**20))
    kind = draw(st.sampled_from(["blobs", "lattice", "islands", "copies", "scattered", "one"]))
    if kind == "blobs":
        return blobs(n, 8, 5, 0.3, seed)
    if kind == "scattered":
        return blobs(n, 16, n, 1.0, seed)
    if kind == "one":
        return blobs(n, 8, 1, 0.02, seed)
    return {"lattice": lattice, "islands": islands, "copies": copies}[kind](n, seed)


def groups(n: int, number: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, number, n))


def dense(graph: SparseDistances) -> npt.NDArray[np.float32]:
    """Distances of every pair; those that the graph does not hold are 1."""
    matrix = graph.matrix().tocoo()
    distance = np.ones(matrix.shape, np.float32)
    distance[matrix.coords] = matrix.data
    return distance
