"""Small stages for methods: separable features of both modalities, and batches drawn from a plan."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.runs.seeds import seed_for
from methods.base import Batch, Epoch, EpochPlan, FeatureBank, Method, Part, Stream, TrainingData
from tests.methods.contrast_cases import DIMENSION


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
    rows = torch.randperm(len(stream.index), generator=generator)[:size]
    modality = method.data.modality[stream.index[rows]]
    images = torch.randn(len(rows), 3, 8, 4, generator=generator)
    view = torch.zeros(len(rows), dtype=torch.int64)
    return Part(
        images, modality, method.data.camera[stream.index[rows]], stream.label[rows], stream.index[rows], view
    )


def batch(method: Method, plan: EpochPlan, step: int = 0, seed: int = 1) -> Batch:
    """One batch of one of the plan's steps."""
    generator = torch.Generator().manual_seed(seed)
    streams = {stream.name: stream for stream in plan.streams}
    chosen = plan.steps[step]
    return Batch(chosen.name, 0, {name: part(method, streams[name], generator) for name in chosen.streams})


def train(method: Method, plan: EpochPlan, epoch: Epoch, iterations: int = 1) -> dict[str, Tensor]:
    """Run a few iterations without an optimiser; return the terms of the last loss."""
    terms: dict[str, Tensor] = {}
    for iteration in range(iterations):
        for step in range(len(plan.steps)):
            drawn = batch(method, plan, step, seed=iteration)
            found = method.loss(drawn, epoch)
            assert all(bool(term.isfinite()) for term in found.values())
            sum(found.values()).backward()  # type: ignore[union-attr]
            method.update(drawn, epoch)
            terms |= found
    return terms


def pairwise(labels: Tensor) -> Tensor:
    """Which samples share a cluster, whatever the numbering."""
    return (labels[:, None] == labels) & (labels >= 0)[:, None]
