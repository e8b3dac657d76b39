"""Small stages for methods: separable features of both modalities, and batches drawn from a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.runs.seeds import seed_for
from methods.base import Batch, Epoch, EpochPlan, FeatureBank, Method, Part, Stage, Stream, TrainingData
from tests.methods.contrast_cases import DIMENSION


def epoch_at(stages: Sequence[Stage], number: int) -> Epoch:
    """Return an epoch of a run of these stages."""
    in_stage = number
    for stage in stages:
        if in_stage < stage.epochs:
            return Epoch(number, stage, in_stage)
        in_stage -= stage.epochs
    raise IndexError(number)


def training_data(identities: int = 6, images: int = 5, cameras: int = 1) -> TrainingData:
    """Both modalities, each with so many images of every identity, in turn from the modality's cameras."""
    modality, camera = modality_and_camera(identities, images, cameras)
    return TrainingData(
        "regdb", modality, camera, "resnet18", None, lambda purpose, *i: seed_for(0, purpose, *i)
    )


def modality_and_camera(identities: int, images: int, cameras: int) -> tuple[Tensor, Tensor]:
    n = identities * images
    modality = torch.arange(2).repeat_interleave(n)
    return modality, 1 + modality * cameras + torch.arange(2 * n) % images % cameras


def bank(
    identities: int = 6, images: int = 5, noise: float = 0.05, cameras: int = 1, seed: int = 0
) -> FeatureBank:
    """Features around one centre per identity, the same in both modalities."""
    generator = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(identities, DIMENSION, generator=generator))
    features = centres.repeat_interleave(images, 0).repeat(2, 1)
    features = normalize(features + noise * torch.randn(features.shape, generator=generator))
    modality, camera = modality_and_camera(identities, images, cameras)
    return FeatureBank(features, modality, camera, torch.arange(len(features)))


def identity(identities: int = 6, images: int = 5) -> Tensor:
    """The identity behind every row of :func:`bank`."""
    return torch.arange(identities).repeat_interleave(images).repeat(2)


def shuffled(features: FeatureBank, seed: int = 5) -> FeatureBank:
    """The same bank with features of unit length that mean nothing."""
    generator = torch.Generator().manual_seed(seed)
    return replace(features, features=normalize(torch.randn(features.features.shape, generator=generator)))


def part(method: Method, stream: Stream, generator: torch.Generator, size: int = 6) -> Part:
    """Random images with the labels of `size` samples of a stream."""
    rows = torch.randperm(len(stream.sample_index), generator=generator)[:size]
    index = stream.sample_index[rows]
    return Part(
        torch.randn(len(rows), 3, 8, 4, generator=generator),
        method.data.modality[index],
        method.data.camera[index],
        stream.pseudo_label[rows],
        index,
        torch.zeros(len(rows), dtype=torch.int64),
        stream.label_space,
    )


def batch(method: Method, plan: EpochPlan, step: int = 0, seed: int = 1) -> Batch:
    """One batch of one of the plan's steps."""
    generator = torch.Generator().manual_seed(seed)
    streams = {stream.name: stream for stream in plan.streams}
    chosen = plan.steps[step]
    return Batch(chosen.name, 0, {name: part(method, streams[name], generator) for name in chosen.streams})


def take_step(method: Method, drawn: Batch, epoch: Epoch, seen: Any = None) -> tuple[Any, dict[str, Tensor]]:
    """Take a step as the engine does, without an optimiser; return what the networks saw, and the terms.

    `seen` is the forward pass of an earlier step that this one reuses.
    """
    seen = method.forward(drawn) if seen is None else seen
    terms = dict(method.loss(seen, drawn, epoch))
    assert all(bool(term.isfinite()) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    with torch.no_grad():
        method.update(seen, drawn, epoch)
    return seen, terms


def train(method: Method, plan: EpochPlan, epoch: Epoch, iterations: int = 1) -> dict[str, Tensor]:
    """Run a few iterations without an optimiser; return the terms of the last loss."""
    terms: dict[str, Tensor] = {}
    for iteration in range(iterations):
        seen: dict[str, Any] = {}
        for i, step in enumerate(plan.steps):
            drawn = batch(method, plan, i, seed=iteration)
            if step.optimiser is None:
                with torch.no_grad():
                    method.update(method.forward(drawn), drawn, epoch)
                continue
            seen[step.name], found = take_step(method, drawn, epoch, seen.get(step.reuses))
            terms |= found
    return terms


def pairwise(labels: Tensor) -> Tensor:
    """Which samples share a cluster, whatever the numbering."""
    return (labels[:, None] == labels) & (labels >= 0)[:, None]
