"""Local query expansions: V' = W V, W row-stochastic with at most `k2` (or `pool`) entries a row.

W is the only thing in which plain expansion, the modality mean (PCA), MIE (DMIC) and the capped expansion
(MPJL, ECUL) differ. Row i of W lies on i's first neighbours, so it is stored beside them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from methods.clustering.checks import check_group
from methods.errors import MethodError


class Expansion(ABC):
    """How the encodings of a sample's neighbours become its own."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """How many first neighbours can have weight."""

    @abstractmethod
    def weights(self, index: Tensor, empty: Tensor) -> Tensor:
        """Return W beside the neighbour lists.

        Parameters
        ----------
        index : int64 or int32 tensor (n, reach)
            First neighbours of every sample.
        empty : bool tensor (n,)
            Samples whose encoding is all zero.

        Returns
        -------
        float64 tensor (n, reach)
            Rows sum to one, or to zero where no neighbour counts.
        """

    def reordered(self, order: Tensor) -> Expansion:
        """Return the expansion of the samples in another order."""
        return self

    def check(self, n: int, k1: int) -> None:
        """Refuse settings that do not fit n samples with lists of k1."""
        if not 1 <= self.reach <= k1:
            raise MethodError(
                f"k2 = {self.reach} must lie between 1 and k1 = {k1}: "
                "the expansion averages over the first k2 of the k1 neighbours"
            )


@dataclass(frozen=True)
class MeanExpansion(Expansion):
    """Mean over the first `k2` neighbours (Zhong et al., CVPR 2017); ``k2 = 1`` changes nothing."""

    k2: int

    @property
    def reach(self) -> int:
        """Return how many first neighbours can have weight."""
        return self.k2

    def weights(self, index: Tensor, empty: Tensor) -> Tensor:
        """Return W beside the neighbour lists."""
        return torch.full(index.shape, 1 / self.k2, dtype=torch.float64, device=index.device)


@dataclass(frozen=True)
class ModalityMean(Expansion):
    """Mean over modalities of the mean over their neighbours (PCA).

    Attributes
    ----------
    modality : int64 tensor (n,)
    """

    k2: int
    modality: Tensor

    @property
    def reach(self) -> int:
        """Return how many first neighbours can have weight."""
        return self.k2

    def reordered(self, order: Tensor) -> ModalityMean:
        """Return the expansion of the samples in another order."""
        return replace(self, modality=_taken(self.modality, order))

    def check(self, n: int, k1: int) -> None:
        """Refuse settings that do not fit n samples with lists of k1."""
        super().check(n, k1)
        check_group("modality", self.modality, n)

    def weights(self, index: Tensor, empty: Tensor) -> Tensor:
        """Return W beside the neighbour lists."""
        counted = torch.ones(index.shape, dtype=torch.bool, device=index.device)
        return balanced_weights(index, counted, self.modality, torch.zeros_like(self.modality))


@dataclass(frozen=True)
class MIE(Expansion):
    """MIE: one vote per camera within its modality, one vote per modality (DMIC, Eq. 6, with modalities balanced).

    Attributes
    ----------
    modality, camera : int64 tensors (n,)
    """

    k2: int
    modality: Tensor
    camera: Tensor

    @property
    def reach(self) -> int:
        """Return how many first neighbours can have weight."""
        return self.k2

    def reordered(self, order: Tensor) -> MIE:
        """Return the expansion of the samples in another order."""
        return replace(self, modality=_taken(self.modality, order), camera=_taken(self.camera, order))

    def check(self, n: int, k1: int) -> None:
        """Refuse settings that do not fit n samples with lists of k1."""
        super().check(n, k1)
        check_group("modality", self.modality, n)
        check_group("camera", self.camera, n)

    def weights(self, index: Tensor, empty: Tensor) -> Tensor:
        """Return W beside the neighbour lists."""
        return balanced_weights(index, ~empty.to(index.device)[index], self.modality, self.camera)


@dataclass(frozen=True)
class Capped(Expansion):
    """MIE over at most `cap` neighbours of each (modality, camera) among the first `pool` (MPJL, ECUL).

    Attributes
    ----------
    modality, camera : int64 tensors (n,)
    """

    pool: int
    cap: int
    modality: Tensor
    camera: Tensor

    @property
    def reach(self) -> int:
        """Return how many first neighbours can have weight."""
        return self.pool

    def reordered(self, order: Tensor) -> Capped:
        """Return the expansion of the samples in another order."""
        return replace(self, modality=_taken(self.modality, order), camera=_taken(self.camera, order))

    def check(self, n: int, k1: int) -> None:
        """Refuse settings that do not fit n samples with lists of k1."""
        super().check(n, k1)
        if self.cap < 1:
            raise MethodError(f"cap = {self.cap} must be at least 1")
        check_group("modality", self.modality, n)
        check_group("camera", self.camera, n)

    def weights(self, index: Tensor, empty: Tensor) -> Tensor:
        """Return W beside the neighbour lists."""
        group, modality_of = _groups(self.modality, self.camera)
        near = group.to(index.device)[index]
        counted = ~empty.to(index.device)[index]
        for g in range(len(modality_of)):
            of_group = (near == g) & counted
            counted &= ~of_group | (of_group.cumsum(1, dtype=torch.int32) <= self.cap)
        return balanced_weights(index, counted, self.modality, self.camera)


def balanced_weights(index: Tensor, counted: Tensor, modality: Tensor, camera: Tensor) -> Tensor:
    """Share a row's weight equally among modalities, then among their cameras, then among their neighbours.

    Parameters
    ----------
    index : int64 or int32 tensor (n, p)
        Neighbour lists.
    counted : bool tensor (n, p)
        Which of them have a vote.
    modality, camera : int64 tensors (n,)

    Returns
    -------
    float64 tensor (n, p)
    """
    group, modality_of = (t.to(index.device) for t in _groups(modality, camera))
    near = group[index]
    n, n_groups = len(index), len(modality_of)
    count = torch.stack([((near == g) & counted).sum(1) for g in range(n_groups)], 1)
    cameras = torch.zeros((n, int(modality_of.max()) + 1), dtype=torch.int64, device=index.device)
    for g in range(n_groups):
        cameras[:, modality_of[g]] += count[:, g] > 0
    modalities = (cameras > 0).sum(1, keepdim=True)
    votes = modalities * cameras[:, modality_of] * count
    share = torch.where(count > 0, 1 / votes.clamp(min=1).double(), 0.0)
    return share.gather(1, near) * counted


def _taken(values: Tensor, order: Tensor) -> Tensor:
    return values[order.to(values.device)]


def _groups(modality: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
    """Number the (modality, camera) pairs present; return each sample's number and each pair's modality."""
    pairs, group = torch.unique(torch.stack([modality, camera], 1), dim=0, return_inverse=True)
    _, modality_of = torch.unique(pairs[:, 0], return_inverse=True)
    return group, modality_of
