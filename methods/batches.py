"""What a step sees: a batch of parts, one a stream; and what the host knows of it without asking the device."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """What the host knows of images because it drew them: reading it never waits for the device.

    Attributes
    ----------
    modality, pseudo_label, sample_index, view : int64 tensors (b,) on the CPU
        As in :class:`Part`.
    """

    modality: Tensor
    pseudo_label: Tensor
    sample_index: Tensor
    view: Tensor


def joined_draws(draws: Sequence[Drawn]) -> Drawn:
    """Return several draws as one, in their order."""
    if len(draws) == 1:
        return draws[0]
    return Drawn(*(torch.cat([getattr(drawn, one.name) for drawn in draws]) for one in fields(Drawn)))


@dataclass(frozen=True)
class Part:
    """The images that one stream contributes to a batch (b of them).

    Attributes
    ----------
    images : float32 tensor (b, 3, h, w)
    modality, camera, pseudo_label, sample_index : int64 tensors (b,)
    view : int64 tensor (b,)
        0 for the first view of each modality, 1 for the second ...
    label_space : str
        Of `pseudo_label`.
    on_host : Drawn, optional
        What the harness kept on the CPU when it moved the tensors to the device; read it as `drawn`.
    """

    images: Tensor
    modality: Tensor
    camera: Tensor
    pseudo_label: Tensor
    sample_index: Tensor
    view: Tensor
    label_space: str = ""
    on_host: Drawn | None = None

    def __len__(self) -> int:
        return len(self.view)

    @property
    def drawn(self) -> Drawn:
        """What the host knows of the images; fetched from the device if nobody kept it."""
        if self.on_host is not None:
            return self.on_host
        return Drawn(*(getattr(self, one.name).cpu() for one in fields(Drawn)))


def joined(parts: Sequence[Part]) -> Part:
    """Return the images of several parts of one label space, in their order."""
    if len(parts) == 1:
        return parts[0]
    tensors = {
        one.name: torch.cat([getattr(part, one.name) for part in parts])
        for one in fields(Part)
        if one.name not in ("label_space", "on_host")
    }
    draws = joined_draws([part.drawn for part in parts])
    return Part(**tensors, label_space=parts[0].label_space, on_host=draws)


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes
    ----------
    step : str
    iteration : int
        Within the epoch (phase).
    parts : mapping of str to Part
        By stream, in the order of the step's streams.
    """

    step: str
    iteration: int
    parts: Mapping[str, Part]

    @property
    def label_spaces(self) -> tuple[str, ...]:
        """The label spaces of the parts, in order of first appearance."""
        return tuple(dict.fromkeys(part.label_space for part in self.parts.values()))

    def only(self, names: Collection[str]) -> Batch:
        """Return the parts of some of the streams, in their order."""
        return replace(self, parts={name: part for name, part in self.parts.items() if name in names})

    def of(self, label_space: str) -> Part:
        """Return all images whose pseudo-labels belong to a label space."""
        return joined([part for part in self.parts.values() if part.label_space == label_space])

    def drawn(self, label_space: str | None = None) -> Drawn:
        """Return what the host knows of all images, or of those of a label space, in the order of the parts."""
        return joined_draws(
            [part.drawn for part in self.parts.values() if label_space in (None, part.label_space)]
        )
