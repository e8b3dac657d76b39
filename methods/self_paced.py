"""Self-paced labels: SpCL's memory and clusters of one set of images (Ge et al., NeurIPS 2020; methods-spec 3).

SpCL trains on one such set or two; OTLA takes its visible labels from one.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from methods.association.reliability import independence_threshold, reliability, reliable_labels
from methods.base import NOISE, FeatureBank, MethodConfig, StageTimer, Stream, setting
from methods.clustering import Plain, density_clusters, jaccard_graph
from methods.memory import InstanceMemory
from methods.sampling import gallery_with_singletons
from methods.training import rows_of


class SelfPacedConfig(MethodConfig):
    """Settings of self-paced clustering and of its memory; defaults are SpCL's."""

    k1: int = setting(30, "published code", "neighbours, the sample included", ge=1)
    k2: int = setting(6, "published code", "expansion neighbours", ge=1)
    eps: float = setting(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, lt=1)
    eps_gap: float = setting(
        0.02, "published code", "tighter and looser radius: eps minus and plus this", ge=0, lt=1
    )
    independent_share: float = setting(
        0.9, "published code", "share of the first epoch's clusters that count as independent", ge=0, le=1
    )
    min_samples: int = setting(
        4, "published code", "DBSCAN: a core point's neighbours, itself included", ge=1
    )
    temperature: float = setting(0.05, "published code", "temperature of the instance memory", gt=0)
    memory_momentum: float = setting(0.2, "published code", "share of the old row in an update", ge=0, le=1)

    @model_validator(mode="after")
    def _radii_exist(self) -> SelfPacedConfig:
        if self.eps <= self.eps_gap or self.eps + self.eps_gap >= 1:
            raise ValueError(f"eps = {self.eps} minus and plus eps_gap = {self.eps_gap} leave (0, 1)")
        return self


class SelfPacedMemory:
    """One row per image, kept over epochs, and classes: reliable clusters, and every other image on its own.

    Attributes
    ----------
    rows : float32 tensor (n, d)
        Unit rows.
    classes : int64 tensor (n,)
        Of the last clustering; numbers may be missing.
    threshold : float or None
        Independence that clusters need, fixed by the first epoch that has any.
    """

    def __init__(self, config: SelfPacedConfig) -> None:
        self.config = config
        self.rows = torch.empty(0, 0)
        self.classes = torch.empty(0, dtype=torch.int64)
        self.threshold: float | None = None

    def cluster(self, bank: FeatureBank, stage: StageTimer) -> Tensor:
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
        if not len(self.rows):
            self.rows = bank.features.clone()
        self._bank, self._at = bank, rows_of(bank, int(bank.index.max()) + 1)
        radii = (c.eps, c.eps - c.eps_gap, c.eps + c.eps_gap)
        graph, _ = jaccard_graph(self.rows, k1=c.k1, radius=max(radii), expansion=Plain(c.k2), stage=stage)
        with stage("cluster"):
            labelings = [density_clusters(graph, eps, c.min_samples) for eps in radii]
        with stage("associate"):
            found = reliability(*labelings)
            if self.threshold is None:
                self.threshold = independence_threshold(found, c.independent_share)
            # without a threshold there is no cluster to keep
            self.classes = reliable_labels(found, self.threshold or 0.0)
        self._memory = InstanceMemory(self.rows, self.classes, c.temperature, c.memory_momentum, "mean")
        return without_singletons(self.classes)

    def stream(self, name: str, batch: tuple[int, int], iterations: int, seed: int) -> Stream:
        """Draw an epoch's batches of P x K images from all of them; a class of one image gives it once (Q8)."""
        (p, k), classes = batch, self.classes.cpu()
        drawn = gallery_with_singletons(
            classes.numpy(),
            self._bank.camera.cpu().numpy(),
            p * k,
            k,
            iterations,
            np.random.default_rng(seed),
        )
        return Stream(name, self._bank.index.cpu(), classes, p, k, drawn=torch.from_numpy(drawn))

    def loss(self, features: Tensor, index: Tensor) -> Tensor:
        """Compare unit features (b, d) of the training rows `index` (b,) with every class."""
        return self._memory.loss(features, self._at[index])

    def update(self, features: Tensor, index: Tensor) -> None:
        """Move the images' own rows."""
        self._memory.update(features, self._at[index])

    def state(self) -> dict[str, Tensor]:
        """Return what outlives an epoch."""
        threshold = float("nan") if self.threshold is None else self.threshold
        return {"rows": self.rows, "threshold": torch.tensor(threshold, dtype=torch.float64)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        self.rows, threshold = state["rows"], float(state["threshold"])
        self.threshold = None if threshold != threshold else threshold


def without_singletons(classes: Tensor) -> Tensor:
    """Number the classes of two images and more from 0; the others are noise."""
    _, found, size = classes.unique(return_inverse=True, return_counts=True)
    kept = size > 1
    return torch.where(kept, kept.cumsum(0) - 1, NOISE)[found]
