"""Whole small trainings: the network, the recorded batches, and what drives a method through the recorded epochs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from methods.base import Batch, Epoch, EpochPlan, FeatureBank, Method, Optimisation, Part, Stage, TrainingData
from methods.parts.backbone import embed
from tests.oracles.cases import Arrays, Differences, network, training_data

VIEW = ("gain", "offset", "flip", "channel")
"""What was drawn for every view of an image."""
SPACES = ("visible", "infrared", "joint")


class SmallNetwork(nn.Module):
    """Two convolutional stems, one trunk, generalised mean with p = 3, and a neck: 32 features.

    Without `norm` there are no batch norms, and the neck is linear.
    """

    dimension = 32

    def __init__(self, norm: bool = True) -> None:
        super().__init__()

        def normed(channels: int) -> nn.Module:
            return nn.BatchNorm2d(channels) if norm else nn.Identity()

        d = self.dimension
        self.stems = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), normed(8), nn.ReLU()) for _ in range(2)
        )
        self.trunk = nn.Sequential(nn.Conv2d(8, d, 3, 1, 1, bias=False), normed(d), nn.ReLU())
        self.neck: nn.Module = nn.Linear(d, d, bias=False)
        if norm:
            self.neck = nn.BatchNorm1d(d)
            self.neck.bias.requires_grad_(False)

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        rows = [torch.nonzero(modality == m).flatten() for m in (0, 1)]
        stemmed = [self.stems[m](images[chosen]) for m, chosen in enumerate(rows) if len(chosen)]
        maps = self.trunk(torch.cat(stemmed))
        pooled = (maps.pow(3).mean((2, 3)) + 1e-12).pow(1 / 3)[torch.cat(rows).argsort()]
        return self.neck(pooled), pooled


def tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
    """Return an array as a tensor of its own memory."""
    made = torch.from_numpy(np.array(array))
    return made if dtype is None else made.to(dtype)


def under(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def without_counters(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leave out the numbers of batches that batch norms have seen."""
    return {key: value for key, value in state.items() if "num_batches" not in key}


@dataclass(frozen=True)
class Recording:
    """A recorded training: its images and, under ``eN.``, its epochs."""

    arrays: Arrays

    @property
    def modality(self) -> Tensor:
        return tensor(self.arrays["modality"], torch.int64)

    @property
    def camera(self) -> Tensor:
        return tensor(self.arrays["camera"], torch.int64)

    @property
    def norm(self) -> bool:
        """Whether its network has batch norms."""
        return "initial.neck.running_mean" in self.arrays

    def data(self, dataset: str) -> TrainingData:
        """Return what a method may know before it starts."""
        return training_data(dataset, self.modality, self.camera)

    def bank(self, features: np.ndarray) -> FeatureBank:
        return FeatureBank(tensor(features), self.modality, self.camera, torch.arange(len(self.modality)))

    def rows(self, space: str) -> Tensor:
        """Return which images belong to a label space."""
        modality = self.modality
        return (
            torch.ones_like(modality, dtype=torch.bool)
            if space == "joint"
            else modality == SPACES.index(space)
        )

    def make(self, method: type[Method], config: object, dataset: str) -> Method:
        """Return a method on the recording's network with its first weights."""
        with network(lambda *_, **__: SmallNetwork(self.norm)):
            made = method(config, self.data(dataset))  # type: ignore[arg-type]
        self.load(made, "initial.")
        return made

    def load(self, method: Method, prefix: str) -> None:
        """Give a method's network recorded weights."""
        method.backbone.load_state_dict({k: tensor(v) for k, v in under(self.arrays, prefix).items()})

    def extract(self, method: Method) -> Tensor:
        """Return the features of all images as a method would cluster them."""
        images = tensor(self.arrays["images"].astype(np.float32) / 32)
        with torch.no_grad():
            return embed(method.backbone.eval(), images, self.modality, renormalise=method.renormalise_flip)

    def views(self, drawn: Arrays, iteration: int) -> tuple[Tensor, Tensor]:
        """Return the images of a stream in an iteration, view after view, and which view each is."""
        base = tensor(self.arrays["images"].astype(np.float32) / 32)
        rows = drawn["row"][iteration].astype(np.int64)
        n_views = drawn["gain"].shape[1]
        images = [
            adapted(base[row], *(drawn[key][iteration, v, i] for key in VIEW))
            for v in range(n_views)
            for i, row in enumerate(rows)
        ]
        return torch.stack(images), torch.arange(n_views).repeat_interleave(len(rows))

    def parts(self, plan: EpochPlan, recorded: Arrays, iteration: int) -> dict[str, Part]:
        """Return what every stream of a plan contributes to an iteration."""
        return {
            s.name: self.part(under(recorded, f"batch.{s.name}."), iteration, s.label_space)
            for s in plan.streams
        }

    def part(self, drawn: Arrays, iteration: int, label_space: str) -> Part:
        """Return a stream's part of an iteration's batch."""
        images, view = self.views(drawn, iteration)
        n_views = int(view.max()) + 1
        row, label = (tensor(drawn[key][iteration], torch.int64).repeat(n_views) for key in ("row", "label"))
        return Part(images, self.modality[row], self.camera[row], label, row, view, label_space)


def adapted(image: Tensor, gain: float, offset: float, flip: bool, channel: int) -> Tensor:
    """Return one view of an image: mirrored, one channel for all, brightened."""
    image = image.flip(2) if flip else image
    image = image if channel < 0 else image[channel : channel + 1].expand(3, -1, -1)
    return image * float(gain) + float(offset)


@contextmanager
def orders(prescribed: Sequence[np.ndarray]) -> Iterator[None]:
    """Let shuffles take the prescribed orders: of those of its length the next, the last one again and again.

    Shuffles of other lengths keep what they get.
    """
    waiting: dict[int, list[Tensor]] = {}
    for order in prescribed:
        waiting.setdefault(len(order), []).append(tensor(order, torch.int64))

    def next_order(n: int, **_: object) -> Tensor:
        left = waiting.get(n, [torch.arange(n)])
        return left.pop(0) if len(left) > 1 else left[0]

    with mock.patch("torch.randperm", next_order):
        yield


def compare_plan(
    seen: Differences,
    recording: Recording,
    plan: EpochPlan,
    recorded: Arrays,
    where: str,
    spaces: Collection[str] | None = None,
) -> None:
    """Labels of every space (or of some) and what every stream draws from."""
    for space, labels in under(recorded, "labels.").items():
        if spaces is None or space in spaces:
            seen.equal("labels", plan.labels[space][recording.rows(space)], labels, f"{where} {space}")
    for stream in plan.streams:
        kept = recorded[f"stream.{stream.name}"]
        drawn = torch.stack([stream.sample_index, stream.pseudo_label], 1)
        seen.equal("streams", drawn, kept[kept[:, 1] >= 0], f"{where} {stream.name}")


def compare_rows(
    seen: Differences,
    memories: Mapping[str, Tensor],
    recorded: Arrays,
    when: str,
    tolerance: float,
    where: str,
    spaces: Collection[str] | None = None,
) -> None:
    """Rows of all memories (or of some) at the start or the end of an epoch."""
    for name, rows in under(recorded, f"memory_{when}.").items():
        if spaces is None or name in spaces:
            seen.close(f"rows at the {when}", memories[name], rows, tolerance, where=f"{where} {name}")


def compare_weights(seen: Differences, network: nn.Module, recorded: Arrays, where: str) -> None:
    """Weights and running statistics after an epoch."""
    state = network.state_dict()
    for name, value in without_counters(under(recorded, "weights.")).items():
        seen.close("weights", state[name], value, 1e-5, 1e-5, f"{where} {name}")


def take_steps(
    method: Method,
    plan: EpochPlan,
    epoch: Epoch,
    parts: Mapping[str, Part],
    iteration: int,
    optimisations: Mapping[str, Optimisation],
) -> dict[str, float]:
    """Take the steps of an iteration; return their terms."""
    found: dict[str, float] = {}
    seen: dict[str, Any] = {}
    for step in plan.steps:
        batch = Batch(step.name, iteration, {name: parts[name] for name in step.streams})
        optimiser = optimisations[step.optimiser or "model"].optimiser
        optimiser.zero_grad(set_to_none=True)
        seen[step.name] = seen[step.reuses] if step.reuses else method.forward(batch)
        terms = method.loss(seen[step.name], batch, epoch)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        with torch.no_grad():
            method.update(seen[step.name], batch, epoch)
        found |= {name: float(term.detach()) for name, term in terms.items()}
    return found


class Optimisers:
    """The optimisers of a recording's stages, new in each."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._stage = ""
        self._epoch = 0
        self._made: Mapping[str, Optimisation] = {}

    def at(self, epoch: Epoch) -> Mapping[str, Optimisation]:
        """Return them as they are in the true epoch; epochs between recorded ones move the schedules too."""
        self._begin(epoch)
        while self._epoch < epoch.in_stage:
            self._step()
        return self._made

    def next(self, epoch: Epoch) -> Mapping[str, Optimisation]:
        """Return them for the next recorded epoch, where only recorded ones have moved the schedules."""
        if not self._begin(epoch):
            self._step()
        return self._made

    def _begin(self, epoch: Epoch) -> bool:
        if epoch.stage.name == self._stage:
            return False
        self._stage, self._epoch = epoch.stage.name, 0
        self._made = self._method.optimisers(epoch.stage)
        return True

    def _step(self) -> None:
        for optimisation in self._made.values():
            optimisation.schedule.step()
        self._epoch += 1


def on_nothing(method: type[Method], config: object, dataset: str) -> Method:
    """Return a method on 200 images of each modality, where only its schedules are asked."""
    modality = np.arange(400) // 200
    with network(lambda *_, **__: SmallNetwork()):
        return method(config, Recording({"modality": modality, "camera": 1 + modality}).data(dataset))  # type: ignore[arg-type]


def learning_rates(method: Method, stage: Stage, optimiser: str = "model") -> list[float]:
    """Return the learning rate of an optimiser in every epoch of a stage."""
    optimisation = method.optimisers(stage)[optimiser]
    rates = []
    for _ in range(stage.epochs):
        rates.append(optimisation.optimiser.param_groups[0]["lr"])
        optimisation.optimiser.step()
        optimisation.schedule.step()
    return rates


def wave(n: int, phase: float, scale: float) -> np.ndarray:
    """Return numbers that look random, the same on every machine."""
    i = np.arange(1, n + 1, dtype=np.float64)
    return scale * np.sin(12.9898 * i * (1 + 0.37 * np.sin(i * 0.011 + phase)) + 78.233 * phase)
