"""Labels that visible images hand on to infrared ones: OTLA's state and plans of epochs (ECCV 2022; methods-spec 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from methods.association.transport import MeanPredictions
from methods.base import (
    INFRARED,
    NO_OPTIMISER,
    NOISE,
    VISIBLE,
    EpochPlan,
    MethodConfig,
    Step,
    Stream,
    setting,
)
from methods.clustering.labels import n_clusters, scatter_labels
from methods.parts.samplers import paired_batches

NAMES = ("visible", "infrared")
VIEWS = (("grey-erasing",), ("erasing",))


class TransportConfig(MethodConfig):
    """Settings of the stage that assigns infrared labels; defaults are SYSU-MM01's."""

    epochs_transport: int = setting(81, "published code", "epochs of label assignment and training", ge=1)
    iterations: int = setting(
        696, "published code", "iterations an epoch: images of the larger modality / 32, + 1", ge=1
    )
    labels_per_batch: int = setting(4, "published code", "classes in a batch", ge=2)
    instances: int = setting(8, "published code", "images of each class and modality", ge=2)
    transport_power: float = setting(25.0, "published code", "lambda: exponent of the predictions", gt=0)
    transport_tolerance: float = setting(0.1, "published code", "bound that ends the scaling", gt=0)
    label_pass: Literal["train", "eval"] = setting(
        "train", "published code", "batch statistics, or running ones, in the label pass (quirk Q25)"
    )


class TransportedLabels:
    """Labels of both modalities in one numbering, and the batches of an epoch that are drawn by them.

    Attributes
    ----------
    rows, of : lists of int64 tensors
        Training rows of each modality, and their labels; NOISE while they are open.
    """

    def __init__(self, config: TransportConfig, modality: Tensor) -> None:
        self.config = config
        self.rows = [torch.nonzero(modality.cpu() == m).flatten() for m in (VISIBLE, INFRARED)]
        self.of = [torch.full((len(rows),), NOISE) for rows in self.rows]

    @property
    def classes(self) -> int:
        """Return the number of visible classes."""
        return n_clusters(self.of[VISIBLE])

    def plan(self, name: str, stream: Stream, iterations: int, optimiser: str = "model") -> EpochPlan:
        """Plan one step on one stream, under the labels as they are now."""
        return EpochPlan(self._spaces(), (stream,), (Step(name, (stream.name,), optimiser),), iterations)

    def skip(self, reason: str) -> EpochPlan:
        """Plan nothing; the labels stay."""
        return EpochPlan(self._spaces(), (), (), 0, skipped=reason)

    def _spaces(self) -> dict[str, Tensor]:
        """Return labels over all images: of each modality, and of both, which share the classes."""
        n = sum(map(len, self.rows))
        visible, infrared = (scatter_labels(*pair, n) for pair in zip(self.of, self.rows, strict=True))
        return {"visible": visible, "infrared": infrared, "joint": torch.maximum(visible, infrared)}

    def deal(self, seed: int) -> None:
        """Give infrared images labels at random."""
        generator = torch.Generator().manual_seed(seed)
        self.of[INFRARED] = torch.randint(
            max(self.classes, 1), (len(self.rows[INFRARED]),), generator=generator
        )

    def look(self, seed: int, device: torch.device, *, blind: bool) -> EpochPlan:
        """Draw an epoch's batches by the labels of the epoch before (quirk Q24); plan to see their infrared half.

        Parameters
        ----------
        device : torch.device
            Where predictions of the images will come from.
        blind : bool
            The infrared labels mean nothing yet.
        """
        visible, infrared = (labels.numpy() for labels in self.of)
        generator, c = np.random.default_rng(seed), self.config
        batch = c.labels_per_batch, c.instances
        drawn = paired_batches(visible, infrared, *batch, c.iterations, generator, blind=blind)
        self._drawn = torch.from_numpy(drawn)
        self._predictions = MeanPredictions(len(infrared), self.classes, device)
        half = self._drawn.chunk(2, 1)[1]
        stream = Stream("infrared", self.rows[INFRARED], self.of[INFRARED], *batch, *VIEWS, drawn=half)
        return self.plan("label", stream, c.iterations, NO_OPTIMISER)

    def collect(self, index: Tensor, logits: Tensor) -> None:
        """Take the predictions (b, classes) of infrared training rows (b,)."""
        self._predictions.add(torch.searchsorted(self.rows[INFRARED].to(index.device), index), logits)

    def assign(self) -> EpochPlan:
        """Transport the mean predictions to labels, which the next epoch draws by; plan training on both halves."""
        c, sampled, (seen, unseen) = self.config, torch.cat(self.of), self._drawn.chunk(2, 1)
        self.of[INFRARED] = self._predictions.labels(
            self.of[INFRARED], c.transport_power, c.transport_tolerance
        )
        drawn = torch.cat([seen, unseen + len(self.rows[VISIBLE])], 1)
        batch = c.labels_per_batch, c.instances
        stream = Stream("both", torch.cat(self.rows), sampled, *batch, *VIEWS, drawn=drawn)
        return self.plan("train", stream, c.iterations)

    def state(self) -> dict[str, Tensor]:
        """Return the labels."""
        return {f"labels.{name}": labels for name, labels in zip(NAMES, self.of, strict=True)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the labels."""
        self.of = [state[f"labels.{name}"].cpu() for name in NAMES]
