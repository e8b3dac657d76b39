"""What a back end of the clustering core has to offer: tensors in, tensors out, the same numbers on every device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from methods.clustering.values import CSR, Encoding, Neighbours, NeighbourSets


class SearchResult(NamedTuple):
    """Neighbour lists, and the samples (int64) whose lists are not proven to be right."""

    lists: Neighbours
    unproven: Tensor


class Kernels(Protocol):
    """A back end; the modules ``numba_kernels`` and ``torch_kernels`` are two."""

    def searches(self, features: Tensor, k: int, group: Tensor, *, fastest: bool) -> Iterator[SearchResult]:
        """Search for neighbours by one first pass after the other, the cheapest first and the surest last.

        Parameters
        ----------
        features : float32 tensor (n, d)
        k : int
        group : integer tensor (n,)
            A pair of the same group (>= 0) is left out.
        fastest : bool
            False leaves out all passes but the one in float32.
        """

    def expanded_sets(self, index: Tensor, half: int) -> NeighbourSets:
        """Return the expanded k-reciprocal sets R*(i), or R(i) for half = 0.

        Parameters
        ----------
        index : int64 or int32 tensor (n, k)
            Neighbour lists; -1 fills lists that end early.
        half : int
            Length of the lists of which half sets are made.
        """

    def softmax_weights(
        self, features: Tensor, order: Tensor, neighbours: Neighbours, sets: NeighbourSets
    ) -> Tensor:
        """Return int32 softmax weights (m,) of -(2 - 2 f_i.f_j) over each set; f_i is row order[i] of `features`."""

    def mix_rows(self, encoding: Encoding, index: Tensor, share: Tensor) -> Encoding:
        """Return W V; row i of W holds `share[i, p]` (int32, in units of weights) at `index[i, p]`."""

    def overlaps(self, encoding: Encoding, min_overlap: int, order: Tensor) -> CSR:
        """Return the sums over l of min(V[i, l], V[j, l]) that reach `min_overlap`, as symmetric int32 rows.

        Row r is called order[r]; indices ascend within a row.
        """

    def distance_of(self, overlap: Tensor) -> Tensor:
        """Return float32 distances 1 - s / (2 - s), not below 0, of shared weights s (int32)."""

    def density_labels(self, graph: CSR, core: Tensor) -> Tensor:
        """Number the components of core points by their first member; border points join the lowest number.

        Parameters
        ----------
        graph : CSR
            Symmetric; its values are not read.
        core : bool tensor (n,)

        Returns
        -------
        int64 tensor (n,)
            -1 is noise.
        """
