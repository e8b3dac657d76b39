"""Cases that hypothesis draws: rows on a grid of exact unit vectors, so that ties are exact in float32."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

GRID = np.array([[a, b, c, d] for a in (1, -1) for b in (1, -1) for c in (1, -1) for d in (1, -1)]) / 2


def grid_rows(least: int = 0, most: int = 9) -> st.SearchStrategy[np.ndarray]:
    """Rows (n, 4) among 16 unit vectors whose inner products are multiples of 1/2."""
    return st.lists(st.integers(0, 15), min_size=least, max_size=most).map(
        lambda chosen: GRID[np.array(chosen, dtype=np.int64)]
    )


@st.composite
def labelled(draw: st.DrawFn, least: int = 0, most: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Grid rows and labels with noise, all noise and gaps among them."""
    rows = draw(grid_rows(least, most))
    labels = draw(st.lists(st.integers(-1, 3), min_size=len(rows), max_size=len(rows)))
    return rows, np.array(labels, dtype=np.int64)


def tensor(values: np.ndarray) -> Tensor:
    """As the functions want it: float32 or int64."""
    return torch.from_numpy(values).to(torch.int64 if values.dtype.kind == "i" else torch.float32)


def rows_with_cosines(cosines: np.ndarray) -> tuple[Tensor, Tensor]:
    """Rows whose inner products are exactly the table given (p, q); not unit, for hand-made cases."""
    return tensor(cosines.astype(np.float64)), torch.eye(cosines.shape[1])
