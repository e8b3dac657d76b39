"""Sparse Jaccard distances below a radius (dmic-spec section 2, step 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from methods.clustering.encoding import Encoding
from methods.clustering.kernels import numba_kernels as compiled
from methods.clustering.kernels import torch_kernels as portable
from methods.clustering.kernels.numba_kernels import ONE
from methods.errors import MethodError

CHUNK = 256


@dataclass(frozen=True)
class Graph:
    """Symmetric sparse distances: every pair at or below the radius, the sample itself included.

    Attributes
    ----------
    start : int64 tensor (n + 1,)
    neighbour : int32 tensor (m,)
        Ascending within a row.
    distance : float32 tensor (m,)
    radius : float
        Pairs that are absent are farther apart.
    """

    start: Tensor
    neighbour: Tensor
    distance: Tensor
    radius: float

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def row(self) -> Tensor:
        """Return the row of every entry: int64 tensor (m,)."""
        sizes = self.start[1:] - self.start[:-1]
        return torch.repeat_interleave(torch.arange(len(self), device=sizes.device), sizes)

    def below(self, radius: float) -> Graph:
        """Return the part at or below a smaller radius, compared in float32."""
        if radius > self.radius:
            raise MethodError(
                f"the graph holds distances up to {self.radius:g}; eps = {radius:g} needs a larger radius"
            )
        kept = self.distance <= torch.tensor(radius, dtype=torch.float32, device=self.distance.device)
        total = torch.zeros(len(kept) + 1, dtype=torch.int64, device=kept.device)
        torch.cumsum(kept, 0, out=total[1:])
        return Graph(total[self.start], self.neighbour[kept], self.distance[kept], radius)

    def matrix(self) -> sparse.csr_array:
        """Return the distances as a SciPy matrix; zeros are stored."""
        n = len(self)
        parts = (self.distance.cpu().numpy(), self.neighbour.cpu().numpy(), self.start.cpu().numpy())
        return sparse.csr_array(parts, shape=(n, n))


def least_shared(radius: float) -> int:
    """Return the smallest shared weight (> 0) whose float32 distance is at or below the float32 radius."""
    low, high = 1, ONE
    while low < high:
        middle = (low + high) // 2
        if compiled.distance_of(np.array([middle], np.int32))[0] <= np.float32(radius):
            high = middle
        else:
            low = middle + 1
    return low


def jaccard_distances(encoding: Encoding, radius: float, order: Tensor | None = None) -> Graph:
    """Return every pair whose Jaccard distance is at or below `radius`.

    d(i, j) = max(0, 1 - s / (2 - s)), s = sum over l of min(V'[i, l], V'[j, l]), in float32.

    Parameters
    ----------
    radius : float
        In (0, 1). Distance 1 (nothing shared) is the distance of nearly all pairs and is never stored.
    order : int64 tensor (n,), optional
        The sample that the graph is to call each row of the encoding, where rows were reordered.

    Raises
    ------
    MethodError
        For a radius outside (0, 1).
    """
    if not 0 < np.float32(radius) < 1:
        raise MethodError(
            f"radius = {radius} is outside (0, 1): a sparse graph cannot hold pairs that share nothing"
        )
    least = least_shared(radius)
    if order is None:
        order = torch.arange(len(encoding), device=encoding.start.device)
    if encoding.start.device.type != "cpu":
        whole = portable.overlaps(encoding.start, encoding.column, encoding.weight, least)
        start, neighbour, shared = portable.renamed(*whole, order)
        s = shared.double() / ONE
        return Graph(start, neighbour, (1 - s / (2 - s)).clamp(min=0).float(), radius)
    rows = encoding.start.numpy(), encoding.column.numpy(), encoding.weight.numpy()
    threads = numba.get_num_threads()
    transposed = compiled.by_column(*rows, threads)
    upper = compiled.overlaps(*rows, transposed, least, CHUNK, threads)
    begin, near, overlap = compiled.renamed(*compiled.mirrored(*upper), order.numpy())
    distance = torch.from_numpy(compiled.distance_of(overlap))
    return Graph(torch.from_numpy(begin), torch.from_numpy(near), distance, radius)
