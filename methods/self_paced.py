"""Self-paced labels: SpCL's state on one set of images (Ge et al., NeurIPS 2020; methods-spec 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.association.reliability import independence_threshold, reliability, reliable_labels
from methods.base import NOISE, StageTimer
from methods.clustering import Plain, density_clusters, jaccard_graph
from methods.memory import InstanceMemory

LARGEST_RADIUS = 1 - 2**-24
"""Largest radius of a sparse graph of float32 distances."""


@dataclass(frozen=True)
class SelfPacing:
    """Settings of self-paced clustering.

    Attributes
    ----------
    eps, eps_gap : float
        DBSCAN radius; the tight and the loose clustering that test a cluster use eps -+ eps_gap.
    fraction : float
        Share of the clusters whose independence sets the threshold, once.
    """

    k1: int
    k2: int
    eps: float
    eps_gap: float
    min_samples: int
    temperature: float
    momentum: float
    fraction: float = 0.9


class SelfPacedMemory:
    """One row per image, kept over epochs, and classes: reliable clusters, and every other image on its own."""

    def __init__(self, settings: SelfPacing) -> None:
        self.settings = settings
        self.rows = torch.empty(0, 0)
        self.threshold: float | None = None
        self.labels = torch.empty(0, dtype=torch.int64)

    def cluster(self, stage: StageTimer) -> Tensor:
        """Cluster the memory's rows (quirk Q17), and make the classes of this epoch.

        Returns
        -------
        int64 tensor (n,)
            Clusters that were kept, numbered from 0; NOISE for images that are a class of their own.
        """
        s = self.settings
        radii = [s.eps, max(s.eps - s.eps_gap, 1e-6), min(s.eps + s.eps_gap, LARGEST_RADIUS)]
        graph, _ = jaccard_graph(self.rows, k1=s.k1, radius=max(radii), expansion=Plain(s.k2), stage=stage)
        with stage("cluster"):
            found = reliability(*(density_clusters(graph, eps, s.min_samples) for eps in radii))
        if self.threshold is None:
            self.threshold = independence_threshold(found, s.fraction)
        self.labels = found.labels if self.threshold is None else reliable_labels(found, self.threshold)
        self._memory = InstanceMemory(self.rows, self.labels, s.temperature, s.momentum, reduce="mean")
        return without_singletons(self.labels)

    def loss(self, features: Tensor, row: Tensor) -> Tensor:
        """Compare unit features (b, d) of the images `row` (b,) with every class."""
        return self._memory.loss(features, row)

    def update(self, features: Tensor, row: Tensor) -> None:
        """Move the images' own rows."""
        self._memory.update(features, row)

    def state(self) -> dict[str, Tensor]:
        """Return what outlives an epoch."""
        threshold = float("nan") if self.threshold is None else self.threshold
        return {"rows": self.rows, "threshold": torch.tensor(threshold, dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        self.rows, threshold = state["rows"], float(state["threshold"])
        self.threshold = None if threshold != threshold else threshold


def without_singletons(labels: Tensor) -> Tensor:
    """Number the labels that several samples share from 0, in their order; the others become NOISE."""
    shared = labels.bincount()[labels] > 1
    renumbered = torch.full_like(labels, NOISE)
    renumbered[shared] = labels[shared].unique(return_inverse=True)[1]
    return renumbered
