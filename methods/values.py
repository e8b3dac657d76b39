"""The values that a method and the harness hand each other: features, epochs, plans; batches have their own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from methods.errors import MethodError

VISIBLE, INFRARED = 0, 1
MODALITIES = {"visible": VISIBLE, "infrared": INFRARED}
"""Names of the modalities, visible first: of label spaces, streams, memories and loss terms."""


@dataclass(frozen=True)
class FeatureBank:
    """Features of the training images, visible first, then infrared, each in an order that says nothing of identities.

    Attributes
    ----------
    features : float32 tensor (n, d)
        Unit rows unless the method's `renormalise_flip` is off.
    modality, camera, sample_index : int64 tensors (n,)
        `sample_index` is the row in the training set.
    """

    features: Tensor
    modality: Tensor
    camera: Tensor
    sample_index: Tensor

    def __len__(self) -> int:
        return len(self.sample_index)

    def only(self, mask: Tensor) -> FeatureBank:
        """Return the rows where boolean `mask` (n,) holds, in their order."""
        return FeatureBank(
            self.features[mask], self.modality[mask], self.camera[mask], self.sample_index[mask]
        )

    def of(self, modality: int) -> FeatureBank:
        """Return the rows of one modality."""
        return self.only(self.modality == modality)


@dataclass(frozen=True)
class TrainingData:
    """What an unsupervised method may know of its training set before it starts.

    Attributes
    ----------
    dataset : str
        Name of the data set.
    modality, camera : int64 tensors (n,)
    architecture : str
        torchvision name of the trunk, ``resnet50`` or ``resnet18``.
    weights : mapping or None
        torchvision state dict of the trunk to start from; None leaves the random initialisation.
    seed : callable
        ``seed(purpose, *indices) -> int``; every draw of a method comes from a generator made with it.
    """

    dataset: str
    modality: Tensor
    camera: Tensor
    architecture: str
    weights: Mapping[str, Tensor] | None
    seed: Callable[..., int]

    def __len__(self) -> int:
        return len(self.modality)

    def generator(self, purpose: str, *indices: int | str) -> torch.Generator:
        """Return a generator (on the CPU) of the seed for a purpose."""
        return torch.Generator().manual_seed(self.seed(purpose, *indices))

    def smaller_modality(self) -> int:
        """Return the number of images of the modality that has fewer, which no list of neighbours may exceed."""
        return min(int((self.modality == modality).sum()) for modality in MODALITIES.values())

    @property
    def identity(self) -> Tensor:
        """Refuse: identities are for methods that declare ``supervision = "supervised"``."""
        raise MethodError(
            "this method asked for identities, but it does not declare supervision = 'supervised'; "
            "unsupervised training never sees them"
        )


NO_IDENTITIES = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class LabelledTrainingData(TrainingData):
    """Training data of a method that declares itself supervised.

    Attributes
    ----------
    identity : int64 tensor (n,), numbered from 0
    """

    # a plain default, because only that replaces the refusing property of the base class
    identity: Tensor = NO_IDENTITIES


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own optimisers.

    Attributes
    ----------
    initial : str
        ``last`` continues from the weights before; ``best-of-stage`` from the epoch of the stage before that scored
        best on the test set (a leak, labelled as such in every table).
    weights : str
        Path of a file whose weights the backbone starts from instead: the checkpoint of a run, or a state dict. Empty
        for none.
    """

    name: str
    epochs: int
    iterations: int
    initial: Literal["last", "best-of-stage"] = "last"
    weights: str = ""


@dataclass(frozen=True)
class Phase:
    """A part of an epoch that begins with fresh features.

    Attributes
    ----------
    cameras : tuple of int
        The cameras that it trains on; empty for all.
    """

    name: str = "train"
    cameras: tuple[int, ...] = ()


TRAIN = Phase()


@dataclass(frozen=True)
class Epoch:
    """Where training stands; numbers count from 0.

    Attributes
    ----------
    number : int
        Over the whole run.
    stage : Stage
    in_stage : int
        Epoch within the stage.
    phase : Phase
        Most methods have one phase an epoch.
    """

    number: int
    stage: Stage
    in_stage: int
    phase: Phase = TRAIN


@dataclass(frozen=True)
class Stream:
    """What a batch is drawn from: P pseudo-identities x K instances of the samples listed.

    Attributes
    ----------
    name : str
        Of its part in a batch, and of its draws.
    label_space : str
        The space that `pseudo_label` belongs to.
    sample_index, pseudo_label : int64 tensors (m,)
        Rows of the training set and their pseudo-labels; noise left out.
    num_ids, num_instances : int
        P and K. P shrinks to the number of labels there are.
    visible_views, infrared_views : tuple of str
        Augmentation recipes (``methods.parts.views.RECIPES``); a sample yields one image per view of its modality.
        The batch is ordered by view, then by sample.
    cross_camera : bool
        Draw companions from other cameras than the anchor's where possible.
    repeat_singletons : bool
        Repeat the image of a label that has only one to K; the public sampler gives it once (quirk Q8), and then a
        label may lie across two batches.
    batch_indices : int64 tensor (iterations, b), optional
        Positions in `sample_index` that each batch takes, where the method draws by itself; `num_ids`,
        `num_instances`, `cross_camera` and `repeat_singletons` then decide nothing.
    """

    name: str
    label_space: str
    sample_index: Tensor
    pseudo_label: Tensor
    num_ids: int
    num_instances: int
    visible_views: tuple[str, ...] = ("plain",)
    infrared_views: tuple[str, ...] = ("plain",)
    cross_camera: bool = True
    repeat_singletons: bool = False
    batch_indices: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """One step of an iteration: which streams feed it, and which optimiser moves.

    Attributes
    ----------
    optimiser : str or None
        None: a look. ``forward`` and ``update`` are called without gradients, there is no loss, and no parameter moves.
    reuses : str
        An earlier step of the iteration on the same streams, whose forward pass serves this one too.
    """

    name: str
    streams: tuple[str, ...]
    optimiser: str | None = "model"
    reuses: str = ""


@dataclass(frozen=True)
class EpochPlan:
    """What a method decided at the beginning of an epoch.

    Attributes
    ----------
    labels : mapping of str to int64 tensor (n,)
        Pseudo-labels over the whole training set, one entry per label space (``visible``, ``infrared``,
        ``joint``), with NOISE and OUTSIDE. For diagnostics.
    streams, steps : tuples
        Sources of batches and the steps of an iteration, in order.
    iterations : int
        Iterations of this epoch (phase).
    record : mapping of str to float
        Columns for ``history.csv`` (eps, k2 ...).
    skipped : str
        Reason why this epoch trains nothing; empty otherwise.
    """

    labels: Mapping[str, Tensor]
    streams: tuple[Stream, ...]
    steps: tuple[Step, ...]
    iterations: int
    record: Mapping[str, float] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True)
class Optimisation:
    """An optimiser and its per-epoch schedule."""

    optimiser: Optimizer
    schedule: LRScheduler
