"""The contract between a method and the harness.

A method sees tensors (features, cameras, modalities, image batches) and sample indices; it never sees a path,
and it sees identities only if it declares itself supervised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from methods.clustering.labels import NOISE, OUTSIDE
from methods.errors import MethodError
from methods.timing import timed

__all__ = [
    "INFRARED",
    "NOISE",
    "NO_OPTIMISER",
    "OUTSIDE",
    "VISIBLE",
    "Batch",
    "Epoch",
    "EpochPlan",
    "FeatureBank",
    "LabelledTrainingData",
    "Method",
    "MethodConfig",
    "Optimisation",
    "Part",
    "Reference",
    "Source",
    "Stage",
    "Step",
    "Stream",
    "Supervision",
    "TrainingData",
    "setting",
    "timed",
]

VISIBLE, INFRARED = 0, 1

Supervision = Literal["usl", "supervised", "none"]
Source = Literal["paper", "published code", "predecessor", "follow-up", "adapted", "reconstructed", "harness"]


def setting(default: Any, source: Source, about: str, **bounds: Any) -> Any:
    """Declare a configuration field that says where its value comes from.

    Parameters
    ----------
    default : Any
        Default value.
    source : str
        Who says so; printed by ``reidbench show``.
    about : str
        One line for the user.
    **bounds
        pydantic constraints (``gt``, ``ge``, ``le`` ...).
    """
    return Field(default=default, description=about, json_schema_extra={"source": source}, **bounds)


class MethodConfig(BaseModel):
    """Base of every method's configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


@dataclass(frozen=True)
class Reference:
    """Where a method comes from.

    Attributes
    ----------
    parts : mapping of str to str
        Part of the method -> its source, in the words that ``reidbench show`` prints.
    """

    title: str
    venue: str
    year: int
    parts: Mapping[str, str]
    url: str = ""


@dataclass(frozen=True)
class FeatureBank:
    """Features of the training images, visible first, then infrared, each in protocol order.

    Attributes
    ----------
    features : float32 tensor (n, d)
        Unit rows unless the method's `renormalise_flip` is off.
    modality, camera, index : int64 tensors (n,)
        `index` is the row in the training set.
    """

    features: Tensor
    modality: Tensor
    camera: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def only(self, mask: Tensor) -> FeatureBank:
        """Return the rows where boolean `mask` (n,) holds, in their order."""
        return FeatureBank(self.features[mask], self.modality[mask], self.camera[mask], self.index[mask])

    def of(self, modality: int) -> FeatureBank:
        """Return the rows of one modality."""
        return self.only(self.modality == modality)


@dataclass(frozen=True)
class TrainingData:
    """What an unsupervised method may know of its training set before it starts.

    Attributes
    ----------
    dataset : str
        ``sysu-mm01`` or ``regdb``.
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
        ``last`` continues from the weights before; ``best-on-test`` from the best test epoch so far (a leak,
        labelled as such in every table).
    """

    name: str
    epochs: int
    iterations: int
    initial: Literal["last", "best-on-test"] = "last"


@dataclass(frozen=True)
class Epoch:
    """Where training stands; all numbers count from 0.

    Attributes
    ----------
    number : int
        Over the whole run.
    stage, in_stage : int
        Stage, and epoch within it.
    phase : str
        Name of the phase within the epoch (most methods have one).
    """

    number: int
    stage: int
    in_stage: int
    phase: str = "train"


@dataclass(frozen=True)
class Stream:
    """What a batch is drawn from: P labels x K instances of the samples listed.

    Attributes
    ----------
    index, label : int64 tensors (m,)
        Rows of the training set and their pseudo-labels; noise left out.
    labels, instances : int
        P and K. P shrinks to the number of labels there are.
    visible_views, infrared_views : tuple of str
        Augmentation recipes (``methods.parts.views.RECIPES``); a sample yields one image per view of its modality.
        The batch is ordered by view, then by sample.
    cross_camera : bool
        Draw companions from other cameras than the anchor's where possible.
    drawn : int64 tensor (iterations, b), optional
        Positions in `index` that each batch takes, where the method draws by itself (positions that share an
        identity over modalities); `labels`, `instances` and `cross_camera` then decide nothing.
    """

    name: str
    index: Tensor
    label: Tensor
    labels: int
    instances: int
    visible_views: tuple[str, ...] = ("plain",)
    infrared_views: tuple[str, ...] = ("plain",)
    cross_camera: bool = True
    drawn: Tensor | None = None


NO_OPTIMISER = ""
"""Of a step that only looks: ``loss`` is called in training mode, without gradients, and nothing moves."""


@dataclass(frozen=True)
class Step:
    """One optimiser step of an iteration: which streams feed it, and which optimiser moves.

    With the optimiser :data:`NO_OPTIMISER` the networks only look at the batch.
    """

    name: str
    streams: tuple[str, ...]
    optimiser: str = "model"


@dataclass(frozen=True)
class EpochPlan:
    """What a method decided at the beginning of an epoch.

    Attributes
    ----------
    labels : mapping of str to int64 tensor (n,)
        Pseudo-labels over the whole training set, one entry per label space (``visible``, ``infrared``,
        ``joint``); NOISE and OUTSIDE as defined above. For diagnostics and for ``cluster``.
    streams, steps : tuples
        Sources of batches and the optimiser steps of an iteration, in order.
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
class Part:
    """The images that one stream contributes to a batch (b of them).

    Attributes
    ----------
    images : float32 tensor (b, 3, h, w)
    modality, camera, label, index : int64 tensors (b,)
    view : int64 tensor (b,)
        0 for the first view of each modality, 1 for the second ...
    """

    images: Tensor
    modality: Tensor
    camera: Tensor
    label: Tensor
    index: Tensor
    view: Tensor


@dataclass(frozen=True)
class Batch:
    """What one optimiser step sees; `iteration` counts within the epoch (phase)."""

    step: str
    iteration: int
    parts: Mapping[str, Part]


@dataclass(frozen=True)
class Optimisation:
    """An optimiser and its per-epoch schedule."""

    optimiser: Optimizer
    schedule: LRScheduler


class Method(ABC):
    """A way to learn (or not to learn) from unlabelled visible and infrared images.

    A subclass is one file: it sets the class attributes, and implements :meth:`build`, :meth:`stages`,
    :meth:`begin_epoch` and :meth:`loss`. The runner calls, in this order and for every epoch (and phase):
    ``begin_epoch`` with fresh features, then for every iteration and step ``loss``, backward, optimiser step,
    ``update``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[Reference]
    supervision: ClassVar[Supervision] = "usl"
    Config: ClassVar[type[MethodConfig]]
    presets: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    """Preset name -> data set (``*`` for every one) -> values, over the defaults. ``paper`` is always applied
    first, ``demo`` holds the small sizes of the twins, the rest are variants (``METHOD:variant``)."""

    def __init__(self, config: MethodConfig, data: TrainingData) -> None:
        self.config = config
        self.data = data
        self.modules: dict[str, nn.Module] = self.build(data)

    @property
    def backbone(self) -> nn.Module:
        """The network whose features are extracted; ``backbone(images, modality)``."""
        return self.modules["backbone"]

    @property
    def renormalise_flip(self) -> bool:
        """Whether features averaged with their mirrors' are normalised again; a field of that name says (Q2)."""
        return bool(getattr(self.config, "renormalise_flip", True))

    @abstractmethod
    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the networks; one of them is called ``backbone``."""

    @classmethod
    @abstractmethod
    def stages(cls, config: Any) -> Sequence[Stage]:
        """Name the stages of training; none for a method that does not train."""

    def phases(self, epoch: Epoch) -> Sequence[str]:
        """Name the phases of an epoch; features are extracted anew before each."""
        return (epoch.phase,)

    def uses_features(self, epoch: Epoch) -> bool:
        """Whether :meth:`begin_epoch` looks at the features; if not, none are extracted (the bank has width 0)."""
        del epoch
        return True

    @abstractmethod
    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make the optimisers of a stage; called at its start."""

    @abstractmethod
    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster, associate, fill the memories, and say what to train on."""

    @abstractmethod
    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Return the named scalar terms of one step, already weighted; their sum is differentiated."""

    def update(self, batch: Batch, epoch: Epoch) -> None:
        """Move memories after the optimiser step; called after every step of the iteration."""
        del batch, epoch

    def state(self) -> dict[str, Tensor]:
        """Tensors beyond the modules' that must outlive an epoch (instance memories, label tables)."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        if state:
            raise MethodError(f"{self.name} keeps no state, but the checkpoint has {sorted(state)}")
