"""The values that the stages hand on: neighbour lists, and sparse rows for sets, encodings and distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.clustering.locality import ranks
from methods.errors import MethodError

if TYPE_CHECKING:
    from scipy import sparse

WEIGHT_SCALE = 1 << 30
"""An encoding's weight 1 as an integer: integers add up to the same sum in any order, on any device."""
EXPONENTIAL_SCALE = 1 << 40
"""Unit of the softmax's exponentials: integers, for the same reason."""


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of every sample, nearest first; a list that ends early is filled with -1 and -inf.

    Attributes
    ----------
    index : int64 or int32 tensor (n, k)
        The sample itself is in its list like any other; duplicates of it with a smaller index precede it.
    similarity : float32 tensor (n, k)
    """

    index: Tensor
    similarity: Tensor

    @classmethod
    def empty(cls, n: int, k: int, device: torch.device) -> Neighbours:
        """Return lists in which nobody is yet."""
        index = torch.full((n, k), -1, dtype=torch.int64, device=device)
        return cls(index, torch.full((n, k), -torch.inf, device=device))

    def first(self, k: int) -> Neighbours:
        """Return the first `k` entries of every list."""
        return Neighbours(self.index[:, :k], self.similarity[:, :k])

    def reordered(self, order: Tensor) -> Neighbours:
        """Return the lists of the samples in another order, and numbered by it, as int32."""
        rank = torch.cat([ranks(order), order.new_full((1,), -1)]).int()  # -1, the end of a list, stays -1
        index = torch.take(rank, self.index).index_select(0, order)
        return Neighbours(index, self.similarity.index_select(0, order))


@dataclass(frozen=True)
class CSR:
    """Sparse rows over the samples, one for every sample (compressed sparse rows).

    Attributes
    ----------
    indptr : int64 tensor (n + 1,)
        Row i has the entries ``indptr[i]:indptr[i + 1]``.
    indices : int32 tensor (m,)
        The sample of every entry.
    values : tensor (m,)
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def sizes(self) -> Tensor:
        """Return the number of entries of every row: int64 tensor (n,)."""
        return self.indptr[1:] - self.indptr[:-1]

    @property
    def rows(self) -> Tensor:
        """Return the row of every entry: int64 tensor (m,)."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.indptr.device), self.sizes)

    def _matrix(self, values: NDArray[Any]) -> sparse.csr_array:
        from scipy import sparse  # what a run needs of the core goes without

        parts = (values, self.indices.cpu().numpy(), self.indptr.cpu().numpy())
        return sparse.csr_array(parts, shape=(len(self), len(self)))


@dataclass(frozen=True)
class NeighbourSets(CSR):
    """A set of samples for every sample, in any order; ``values`` is empty, for a set has none."""

    def __getitem__(self, i: int) -> Tensor:
        return self.indices[int(self.indptr[i]) : int(self.indptr[i + 1])]


@dataclass(frozen=True)
class Encoding(CSR):
    """Sparse rows of weights; ``values`` are int32, in units of 1 / :data:`WEIGHT_SCALE`.

    Rounding to integers (by at most 2**-31 a weight, below float32's own) makes sums exact, so that results depend
    neither on the order of summation nor on the device.
    """

    @property
    def empty(self) -> Tensor:
        """Return which rows are all zero: bool tensor (n,)."""
        return self.sizes == 0

    def matrix(self) -> sparse.csr_array:
        """Return the rows as a SciPy matrix of float64."""
        return self._matrix(self.values.cpu().numpy().astype(np.float64) / WEIGHT_SCALE)


@dataclass(frozen=True)
class SparseDistances(CSR):
    """Symmetric sparse distances: every pair at or below the radius, the sample itself included.

    ``indices`` ascend within a row; ``values`` are float32.

    Attributes
    ----------
    radius : float
        Pairs that are absent are farther apart.
    """

    radius: float

    def below(self, radius: float) -> SparseDistances:
        """Return the part at or below a smaller radius, compared in float32.

        Raises
        ------
        MethodError
            If the radius is larger than this one's.
        """
        if radius > self.radius:
            raise MethodError(
                f"the graph holds distances up to {self.radius:g}; eps = {radius:g} needs a larger radius"
            )
        kept = self.values <= torch.tensor(radius, dtype=torch.float32, device=self.values.device)
        kept_before = torch.zeros(len(kept) + 1, dtype=torch.int64, device=kept.device)
        torch.cumsum(kept, 0, out=kept_before[1:])
        return SparseDistances(kept_before[self.indptr], self.indices[kept], self.values[kept], radius)

    def matrix(self) -> sparse.csr_array:
        """Return the distances as a SciPy matrix; zeros are stored."""
        return self._matrix(self.values.cpu().numpy())
