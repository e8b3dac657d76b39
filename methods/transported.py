"""Labels that visible images hand on to infrared ones: OTLA's state over epochs (ECCV 2022; methods-spec 6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from methods.association.transport import MeanPredictions
from methods.base import INFRARED, NOISE, VISIBLE, Stream
from methods.sampling import paired_batches
from methods.training import n_clusters, spread

NAMES = ("visible", "infrared")
VIEWS = (("grey-erasing",), ("erasing",))


class TransportedLabels:
    """Labels of both modalities in one numbering, and the batches of an epoch that are drawn by them.

    Attributes
    ----------
    rows, of : lists of int64 tensors
        Training rows of each modality, and their labels; NOISE while they are open.
    """

    def __init__(self, modality: Tensor) -> None:
        self.rows = [torch.nonzero(modality.cpu() == m).flatten() for m in (VISIBLE, INFRARED)]
        self.of = [torch.full((len(rows),), NOISE) for rows in self.rows]

    @property
    def classes(self) -> int:
        """Return the number of visible classes."""
        return n_clusters(self.of[VISIBLE])

    def spaces(self) -> dict[str, Tensor]:
        """Return labels over all images: of each modality, and of both, which share the classes."""
        n = sum(map(len, self.rows))
        visible, infrared = (spread(*pair, n) for pair in zip(self.of, self.rows, strict=True))
        return {"visible": visible, "infrared": infrared, "joint": torch.maximum(visible, infrared)}

    def deal(self, seed: int) -> None:
        """Give infrared images labels at random."""
        generator = torch.Generator().manual_seed(seed)
        self.of[INFRARED] = torch.randint(
            max(self.classes, 1), (len(self.rows[INFRARED]),), generator=generator
        )

    def draw(
        self, batch: tuple[int, int], iterations: int, seed: int, device: torch.device, *, blind: bool
    ) -> Stream:
        """Draw an epoch's batches by the labels of the epoch before (quirk Q24); return their infrared half.

        Parameters
        ----------
        batch : pair of int
            Classes and images of each.
        device : torch.device
            Where predictions of the images will come from.
        blind : bool
            The infrared labels mean nothing yet.
        """
        visible, infrared = (labels.numpy() for labels in self.of)
        generator = np.random.default_rng(seed)
        drawn = paired_batches(visible, infrared, *batch, iterations, generator, blind=blind)
        self._batch, self._drawn = batch, torch.from_numpy(drawn)
        self._predictions = MeanPredictions(len(infrared), self.classes, device)
        half = self._drawn.chunk(2, 1)[1]
        return Stream("infrared", self.rows[INFRARED], self.of[INFRARED], *batch, *VIEWS, drawn=half)

    def collect(self, index: Tensor, logits: Tensor) -> None:
        """Take the predictions (b, classes) of infrared training rows (b,)."""
        self._predictions.add(torch.searchsorted(self.rows[INFRARED].to(index.device), index), logits)

    def assign(self, power: float, tolerance: float) -> Stream:
        """Transport the mean predictions to labels, which the next epoch draws by; return both halves to train on."""
        sampled, (seen, unseen) = torch.cat(self.of), self._drawn.chunk(2, 1)
        self.of[INFRARED] = self._predictions.labels(self.of[INFRARED], power, tolerance)
        drawn = torch.cat([seen, unseen + len(self.rows[VISIBLE])], 1)
        return Stream("both", torch.cat(self.rows), sampled, *self._batch, *VIEWS, drawn=drawn)

    def state(self) -> dict[str, Tensor]:
        """Return the labels."""
        return {f"labels.{name}": labels for name, labels in zip(NAMES, self.of, strict=True)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the labels."""
        self.of = [state[f"labels.{name}"].cpu() for name in NAMES]
