"""Training on labels that stay, in one numbering for both modalities: which images, in which batches.

Visible images come with an augmented view, so that images are of three kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from methods.base import INFRARED, MODALITIES, NOISE, OUTSIDE, EpochPlan, Part, Step, Stream, TrainingData
from methods.batches import Drawn
from methods.clustering.labels import n_clusters
from methods.parts.samplers import IntArray, common_label_batches
from methods.parts.spaces import AUGMENTED_VIEWS, JOINT, LabelSpace

Padding = Literal["to-visible", "alike"]
KINDS = ("visible", "augmented", "infrared")
KINDS_OF = {"visible": (0, 1), "infrared": (2,)}
"""Positions in KINDS of the images of each modality."""


def kinds_of(part: Part | Drawn) -> Tensor:
    """Return the position in KINDS of every image."""
    return torch.where(part.modality == INFRARED, KINDS.index("infrared"), part.view)


@dataclass(frozen=True)
class FixedLabels:
    """Labels of all training images.

    Attributes
    ----------
    labels : int64 tensor (n,), on the CPU
        Noise takes no part in training.
    modality : int64 tensor (n,), on the CPU
    """

    labels: Tensor
    modality: Tensor

    def __len__(self) -> int:
        """Return the number of labels, up to the largest."""
        return n_clusters(self.labels)

    def images(self, modality: str) -> Tensor:
        """Return the images of a modality that take part."""
        return torch.nonzero((self.labels > NOISE) & (self.modality == MODALITIES[modality])).flatten()

    def of(self, modality: str) -> Tensor:
        """Return the labels of :meth:`images`."""
        return self.labels[self.images(modality)]

    def largest(self) -> int:
        """Return how many images of each modality a label has, at best."""
        if not len(self):
            return 0
        counts = torch.stack([self.of(name).bincount(minlength=len(self)) for name in MODALITIES])
        return int(counts.amin(0).max())

    def passes(
        self,
        padding: int,
        infrared_padding: Padding,
        sizes: tuple[int, int],
        most: int,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """Draw at most so many batches that pass over all images, whatever their labels (MMM).

        Lists are followed by their first images: the visible one by `padding`, the infrared one until it is as long
        (``to-visible``), or by as many (``alike``). Sizes as for :meth:`plan`, which takes what is returned.
        """
        visible, infrared = (len(self.images(name)) for name in MODALITIES)
        more = max(0, visible + padding - infrared) if infrared_padding == "to-visible" else padding
        return padded_passes(visible, infrared, (padding, more), sizes[0] * sizes[1], generator, most)

    def batches(self, sizes: tuple[int, int], most: int, generator: np.random.Generator) -> np.ndarray:
        """Draw batches of common labels, as many as the larger modality fills, and one more, but at most so many."""
        visible, infrared = (self.of(name).numpy() for name in MODALITIES)
        iterations = max(len(visible), len(infrared)) // (sizes[0] * sizes[1]) + 1
        return common_label_batches(visible, infrared, *sizes, min(most, iterations), generator)

    def plan(
        self,
        step: str,
        batches: np.ndarray,
        sizes: tuple[int, int],
        record: Mapping[str, float],
        *,
        look: bool = False,
    ) -> EpochPlan:
        """Plan one step on batches of both modalities.

        Parameters
        ----------
        step : str
        batches : int64 array (iterations, 2b)
            Positions in ``images("visible")``, then as many in ``images("infrared")``.
        sizes : pair of int
            Labels and images of each in a batch.
        record : mapping of str to float
        look : bool
            No parameter moves.
        """
        spaces, streams = {JOINT: self.labels}, []
        for (name, m), half in zip(MODALITIES.items(), torch.from_numpy(batches).chunk(2, 1), strict=True):
            spaces[name] = self.labels.masked_fill(self.modality != m, OUTSIDE)
            drawn = self.images(name), self.of(name)
            streams.append(Stream(name, JOINT, *drawn, *sizes, *AUGMENTED_VIEWS, batch_indices=half))
        steps = (Step(step, tuple(MODALITIES), None if look else "model"),)
        return EpochPlan(spaces, tuple(streams), steps, len(batches), record)


def fixed_labels(
    spaces: Mapping[str, LabelSpace], labels: Sequence[Tensor], data: TrainingData
) -> FixedLabels:
    """Put labels, given for the images of each label space, in place of the spaces' own."""
    found = torch.full((len(data),), NOISE)
    for space, y in zip(spaces.values(), labels, strict=True):
        found[space.bank.sample_index.cpu()] = y.cpu()
    return FixedLabels(found, data.modality.cpu())


def padded_passes(
    visible: int,
    infrared: int,
    padding: tuple[int, int],
    size: int,
    generator: np.random.Generator,
    most: int | None = None,
) -> IntArray:
    """Let batches pass over all samples of both sides, each side shuffled alone (MMM).

    A side's list is followed by its first samples (quirk Q59); the last batch is dropped if it is short. The infrared
    list is as long as the visible one needs: it goes on from its beginning.

    Parameters
    ----------
    visible, infrared : int
        Samples of each side, both positive.
    padding : pair of int
        How many samples follow each list; not below 0.
    size : int
        Samples of a side in a batch; shrinks to the visible list.
    generator : numpy Generator
    most : int, optional
        Batches that are kept.

    Returns
    -------
    int64 array (batches, 2 * size)
        Visible positions, then infrared ones.
    """
    lists = [
        generator.permutation(np.arange(n + more) % n)
        for n, more in zip((visible, infrared), padding, strict=True)
    ]
    size = min(size, len(lists[0]))
    batches = len(lists[0]) // size
    halves = [np.resize(each, batches * size).reshape(batches, size) for each in lists]
    return np.concatenate(halves, 1)[:most]
