"""Self-paced labels: SpCL's memory and clusters of one set of images (Ge et al., NeurIPS 2020; methods-spec 3).

SpCL trains on one such set or two; OTLA takes its visible labels from one, in a stage of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from methods.association.reliability import independence_threshold, reliability, reliable_labels
from methods.base import FeatureBank, MethodConfig, Optimisation, Stage, Stream, setting
from methods.clustering import Plain, density_clusters, jaccard_graph
from methods.clustering.labels import without_singletons
from methods.parts.memories import InstanceMemory
from methods.parts.samplers import gallery_with_singletons
from methods.parts.training import WarmUpConfig, rows_of, warm_up_factor
from methods.timing import timed


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


class VisibleStageConfig(WarmUpConfig, SelfPacedConfig):
    """Settings of a stage that only finds labels of visible images; defaults are those of OTLA's code."""

    visible_labels: Literal["spcl"] = setting(
        "spcl",
        "reconstructed",
        "visible labels: SpCL on visible images alone (no labelled source, quirk Q23)",
    )
    epochs_visible: int = setting(51, "published code", "epochs of the stage that finds them", ge=1)
    visible_iterations: int = setting(800, "published code", "its iterations an epoch", ge=1)
    visible_batch: int = setting(64, "published code", "its batch: 4 images of every class", ge=8)
    visible_rate: float = setting(3.5e-4, "published code", "its Adam learning rate, x0.1 every 20", gt=0)


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
    seen : pair of tensors
        Features and rows of the last loss, which move next.
    """

    def __init__(self, config: SelfPacedConfig) -> None:
        self.config = config
        self.rows = torch.empty(0, 0)
        self.classes = torch.empty(0, dtype=torch.int64)
        self.threshold: float | None = None
        self.seen: tuple[Tensor, Tensor]

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
        if not len(self.rows):
            self.rows = bank.features.clone()
        self._bank, self._at = bank, rows_of(bank, int(bank.index.max()) + 1)
        radii = (c.eps, c.eps - c.eps_gap, c.eps + c.eps_gap)
        graph, _ = jaccard_graph(self.rows, k1=c.k1, radius=max(radii), expansion=Plain(c.k2))
        with timed("cluster"):
            labelings = [density_clusters(graph, eps, c.min_samples) for eps in radii]
        with timed("associate"):
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
        self.seen = features.detach(), self._at[index]
        return self._memory.loss(features, self.seen[1])

    def update(self) -> None:
        """Move the own rows of the images that the last loss saw."""
        self._memory.update(*self.seen)

    def state(self, name: str) -> dict[str, Tensor]:
        """Return what outlives an epoch, under keys that begin with `name`."""
        threshold = float("nan") if self.threshold is None else self.threshold
        return {f"{name}.rows": self.rows, f"{name}.threshold": torch.tensor(threshold, dtype=torch.float64)}

    def load_state(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        self.rows, threshold = state[f"{name}.rows"], float(state[f"{name}.threshold"])
        self.threshold = None if threshold != threshold else threshold


def visible_adam(
    parameters: Sequence[nn.Parameter], config: VisibleStageConfig, stage: Stage
) -> Optimisation:
    """Make Adam of the stage on visible images: x0.1 every 20 epochs, or the cosine that is ours."""
    optimiser = Adam(parameters, lr=config.visible_rate, weight_decay=config.weight_decay)

    def factor(epoch: int) -> float:
        step = config.lr_schedule == "step"
        return float(0.1 ** (epoch // 20)) if step else warm_up_factor("cosine", epoch, stage.epochs)

    return Optimisation(optimiser, LambdaLR(optimiser, factor))
