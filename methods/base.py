"""The contract between a method and the harness: values in, values out.

A method sees tensors (features, cameras, modalities, image batches) and sample indices; it never sees a path, and it
sees identities only if it declares itself supervised. For every epoch the harness calls ``begin_epoch`` with fresh
features, then for every iteration and step ``forward``, ``loss``, backward, the optimiser, ``update``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from methods.batches import Batch, Drawn, Part
from methods.clustering.labels import NOISE, OUTSIDE
from methods.errors import MethodError
from methods.timing import timed
from methods.values import (
    INFRARED,
    MODALITIES,
    TRAIN,
    VISIBLE,
    Epoch,
    EpochPlan,
    FeatureBank,
    LabelledTrainingData,
    Optimisation,
    Phase,
    Stage,
    Step,
    Stream,
    TrainingData,
)

__all__ = [
    "INFRARED",
    "MODALITIES",
    "NOISE",
    "OUTSIDE",
    "TRAIN",
    "VISIBLE",
    "Adapted",
    "Batch",
    "Drawn",
    "Epoch",
    "EpochPlan",
    "FeatureBank",
    "LabelledTrainingData",
    "Method",
    "MethodConfig",
    "Optimisation",
    "Part",
    "Phase",
    "Reference",
    "Source",
    "Stage",
    "Step",
    "Stream",
    "Supervision",
    "TrainingData",
    "timed",
    "value",
]

Supervision = Literal["usl", "supervised", "none"]
Source = Literal[
    "paper", "published code", "predecessor", "follow-up", "adapted", "reconstructed", "harness", "ours"
]
"""Who says so. The first four can be looked up; ``adapted`` is published for another task or data set; the rest is
ours."""


def value(default: Any, source: str, about: str, **bounds: Any) -> Any:
    """Declare a field of a configuration: its value, who says so, and what it is.

    Parameters
    ----------
    default : Any
    source : str
        A :data:`Source`, with the place in brackets where there is one: ``paper (Eq. 8)``.
    about : str
        One line for the user.
    **bounds
        pydantic constraints (``gt``, ``ge``, ``le`` ...).
    """
    return Field(default=default, description=about, json_schema_extra={"source": source}, **bounds)


class Adapted(dict[str, Any]):
    """Values of the preset ``paper`` on a data set for which no source states any: carried over by us, and shown so."""


class MethodConfig(BaseModel):
    """Base of every method's configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    sources: ClassVar[Mapping[str, str]] = {}
    """Sources of inherited fields, where this method's differ from those that the fields were declared with."""
    replaced: ClassVar[Mapping[str, str]] = {}
    """Former settings -> what stands for them now; whoever sets one is told."""


@dataclass(frozen=True)
class Reference:
    """Where a method comes from.

    Attributes
    ----------
    parts : mapping of str to (source, note)
        Part of the method -> who says so, and what a reader must know of it.
    reconstruction : bool
        There was neither public code nor the whole text; tables say so.
    """

    title: str
    venue: str
    year: int
    parts: Mapping[str, tuple[Source, str]]
    url: str = ""
    reconstruction: bool = False


class Method(ABC):
    """A way to learn (or not to learn) from unlabelled visible and infrared images: one file that reads like its paper.

    A subclass sets the class attributes and has a constructor ``(config, data)``; it implements :meth:`stages`,
    :meth:`optimisers`, :meth:`begin_epoch`, :meth:`forward` and :meth:`loss`.

    Parameters
    ----------
    config : MethodConfig
    data : TrainingData
    **modules : nn.Module
        The networks; one is called ``backbone``, and its features are extracted by ``backbone(images, modality)``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    written: ClassVar[str | Mapping[str, str]] = ""
    """What papers call it, where that is not its name; by variant, where they have names of their own."""
    reference: ClassVar[Reference]
    supervision: ClassVar[Supervision] = "usl"
    Config: ClassVar[type[MethodConfig]]
    presets: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    """Preset name -> data set (``*`` for every one) -> values, over the defaults. ``paper`` is always applied
    first, ``demo`` holds the small sizes of the twins, the rest are variants (``METHOD:variant``). :class:`Adapted`
    values, and those of a data set that ``paper`` does not name, are shown as such."""
    replaced: ClassVar[Mapping[str, str]] = {}
    """Former variants -> the one that stands for them now, or nothing; whoever names one is told."""

    ablations: ClassVar[Mapping[str, Mapping[str, Mapping[str, Sequence[Any]]]]] = {}
    """The paper's ablations, literals all: table -> part -> setting -> values that switch the part off. ``MIE/VC``: VC
    stands where MIE is off. Settings under the part ``""`` may move along with a part."""

    test_feature: Literal["post-bn", "pooled"] = "post-bn"
    """Features at test: after the BNNeck, as the closed division has them, or pooled ones."""
    flip_test: bool = True
    """Whether features at test are averaged with their mirrors', as the closed division has them."""

    def __init__(self, config: MethodConfig, data: TrainingData, **modules: nn.Module) -> None:
        self.config = config
        self.data = data
        self.modules = modules

    @property
    def backbone(self) -> nn.Module:
        """The network whose features are extracted."""
        return self.modules["backbone"]

    @property
    def renormalise_flip(self) -> bool:
        """Whether features averaged with their mirrors' are normalised again (quirk Q2)."""
        return True

    @classmethod
    @abstractmethod
    def stages(cls, config: Any) -> Sequence[Stage]:
        """Name the stages of training; none for a method that does not train."""

    def phases(self, epoch: Epoch) -> Sequence[Phase]:
        """Name the phases of an epoch; features are extracted anew before each."""
        return (epoch.phase,)

    def uses_features(self, epoch: Epoch) -> bool:
        """Whether :meth:`begin_epoch` looks at the features; if not, none are extracted (the bank has width 0)."""
        return True

    @abstractmethod
    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make the optimisers of a stage; called at its start, where networks may be replaced too."""

    @abstractmethod
    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster, associate, start the memories; say what to draw, and the steps of an iteration."""

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """Run the networks on the batch of one step; what is returned goes on to :meth:`loss` and :meth:`update`."""

    @abstractmethod
    def loss(self, seen: Any, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Return the named scalar terms of one step, already weighted; their sum is differentiated."""

    def update(self, seen: Any, batch: Batch, epoch: Epoch) -> None:  # noqa: B027 - may stay empty
        """Move memories after the step's optimiser has moved; gradients are off."""

    def state(self) -> dict[str, Tensor]:
        """Tensors beyond the modules' that must outlive an epoch (instance memories, label tables)."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` gave."""
        if state:
            raise MethodError(f"{self.name} keeps no state, but the checkpoint has {sorted(state)}")
