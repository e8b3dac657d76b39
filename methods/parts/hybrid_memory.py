"""SpCL's hybrid memory (Ge et al., NeurIPS 2020): one row per image, self-paced clusters found on those rows.

SpCL trains on one such set of images or two; OTLA takes its visible labels from one, in a stage of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from methods.association.reliability import independence_threshold, reliability, reliable_labels
from methods.base import FeatureBank, Stream, timed
from methods.clustering import MeanExpansion, density_clusters, jaccard_graph
from methods.clustering.labels import without_singletons
from methods.errors import MethodError
from methods.parts.config import SelfPacedConfig
from methods.parts.memories import InstanceMemory
from methods.parts.samplers import gallery_with_singletons
from methods.parts.spaces import bank_row_of


class HybridMemory:
    """One row per image, kept over epochs, and classes: reliable clusters, and every other image on its own.

    Attributes
    ----------
    classes : int64 tensor (n,)
        Of the last clustering; numbers may be missing.
    threshold : float or None
        Independence that clusters need, fixed by the first epoch that has any.
    """

    def __init__(self, config: SelfPacedConfig) -> None:
        self.config = config
        self.classes = torch.empty(0, dtype=torch.int64)
        self.threshold: float | None = None
        self._rows = torch.empty(0, 0)
        self._memory: InstanceMemory | None = None
        self._bank: FeatureBank | None = None

    def cluster(self, bank: FeatureBank) -> Tensor:
        """Cluster the memory's rows (quirk Q17), and make the classes of this epoch.

        Parameters
        ----------
        bank : FeatureBank
            The images, in the same order every time; their features are the first rows, and not read later.

        Returns
        -------
        int64 tensor (n,)
            Clusters that were kept, numbered from 0; NOISE for images that are a class of their own.
        """
        c = self.config
        if not len(self._rows):
            self._rows = bank.features.clone()
        self._bank = bank
        radii = (c.eps, c.eps - c.eps_gap, c.eps + c.eps_gap)
        graph, _ = jaccard_graph(self._rows, k1=c.k1, radius=max(radii), expansion=MeanExpansion(c.k2))
        with timed("cluster"):
            labelings = [density_clusters(graph, eps, c.min_samples) for eps in radii]
        with timed("associate"):
            scores = reliability(*labelings)
            if self.threshold is None:
                self.threshold = independence_threshold(scores, c.independent_share)
            # without a threshold there is no cluster to keep
            self.classes = reliable_labels(scores, self.threshold or 0.0)
        row_of = bank_row_of(bank, int(bank.sample_index.max()) + 1)
        self._memory = InstanceMemory(
            self._rows, self.classes, c.temperature, c.memory_momentum, "mean", row_of
        )
        return without_singletons(self.classes)

    def stream(self, name: str, num_ids: int, num_instances: int, iterations: int, seed: int) -> Stream:
        """Draw an epoch's batches of P x K images from all of them; a class of one image gives it once (quirk Q8)."""
        if self._bank is None:
            raise MethodError("the hybrid memory has no classes to draw from; cluster first")
        classes = self.classes.cpu()
        drawn = gallery_with_singletons(
            classes.numpy(),
            self._bank.camera.cpu().numpy(),
            num_ids * num_instances,
            num_instances,
            iterations,
            np.random.default_rng(seed),
        )
        return Stream(
            name,
            name,
            self._bank.sample_index.cpu(),
            classes,
            num_ids,
            num_instances,
            batch_indices=torch.from_numpy(drawn),
        )

    def loss(self, features: Tensor, sample_index: Tensor) -> Tensor:
        """Compare unit features (b, d) of images (b,) with every class."""
        return self._instances().loss(features, sample_index)

    def update(self, features: Tensor, sample_index: Tensor) -> None:
        """Move the own rows of images (b,) by their unit features (b, d)."""
        self._instances().update(features, sample_index)

    def _instances(self) -> InstanceMemory:
        if self._memory is None:
            raise MethodError("the hybrid memory has no classes yet; cluster first")
        return self._memory

    def state(self, name: str) -> dict[str, Tensor]:
        """Return what outlives an epoch, under keys that begin with `name`."""
        threshold = float("nan") if self.threshold is None else self.threshold
        return {
            f"{name}.rows": self._rows,
            f"{name}.threshold": torch.tensor(threshold, dtype=torch.float64),
        }

    def load_state(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        self._rows, threshold = state[f"{name}.rows"], float(state[f"{name}.threshold"])
        self.threshold = None if threshold != threshold else threshold
