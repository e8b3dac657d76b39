"""Small training sets, feature banks and batches for the methods built on cluster memories."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from methods.base import Batch, Epoch, EpochPlan, FeatureBank, Method, Part, Stage, Step, TrainingData

SMALL = {
    "k1": 6,
    "k2": 2,
    "eps": 0.6,
    "min_samples": 2,
    "iterations": 2,
    "labels_per_batch": 3,
    "infrared_labels": 3,
    "instances": 2,
}
TWO_STAGES = {**SMALL, "epochs_dual": 2, "epochs_cross": 3}
DUAL_STAGE, CROSS_STAGE = Stage("dual", 2, 2), Stage("cross", 3, 2)
DUAL, CROSS = Epoch(0, DUAL_STAGE, 0), Epoch(2, CROSS_STAGE, 0)
"""Stages of TWO_STAGES, and the first epoch of each."""
DIMENSION = 64


class Stub(nn.Module):
    """Stands in for the ResNet where only the method is under test: one linear map to DIMENSION features."""

    dimension = DIMENSION

    def __init__(self, *_: object, seed: int, **__: object) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed % 2**31)
        self.weight = nn.Parameter(torch.randn(3 * 8 * 4, DIMENSION, generator=generator))

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        features = images.flatten(1) @ self.weight
        return features, features


@pytest.fixture(autouse=True)
def stub_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build methods on the stub; a test module imports this to use it."""
    monkeypatch.setattr("methods.parts.two_stream.TwoStreamResNet", Stub)


def seed(purpose: str, *indices: int | str) -> int:
    digest = hashlib.sha256(repr((purpose, *indices)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def training_data(modality: Tensor, camera: Tensor | None = None) -> TrainingData:
    camera = modality + 1 if camera is None else camera
    return TrainingData("regdb", modality, camera, "resnet18", None, seed)


def person_bank(
    visible: int = 6, infrared: int = 6, images: int = 5, noise: float = 0.02, gap: float = 0.0
) -> FeatureBank:
    """People 0 .. visible - 1 seen in visible, 0 .. infrared - 1 in infrared; `gap` parts the modalities."""
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(max(visible, infrared), DIMENSION, generator=generator))
    person = torch.cat([torch.arange(visible), torch.arange(infrared)]).repeat_interleave(images)
    modality = torch.arange(2).repeat_interleave(torch.tensor([visible, infrared]) * images)
    shift = gap * normalize(torch.randn(2, DIMENSION, generator=generator))
    features = centres[person] + shift[modality]
    features = normalize(features + noise * torch.randn(features.shape, generator=generator))
    return FeatureBank(features, modality, modality + 1, torch.arange(len(features)))


def draw_batch(method: Method, plan: EpochPlan, step: Step, size: int = 6, iteration: int = 0) -> Batch:
    """Draw `size` samples of each stream of a step, with random images and one part per view."""
    generator = torch.Generator().manual_seed(seed("batch", iteration))
    streams = {stream.name: stream for stream in plan.streams}
    parts = {}
    for name in step.streams:
        stream = streams[name]
        rows = torch.randint(len(stream.sample_index), (size,), generator=generator)
        modality = method.data.modality[stream.sample_index[rows]]
        views = len(stream.visible_views if int(modality[0]) == 0 else stream.infrared_views)
        parts[name] = Part(
            torch.randn(views * size, 3, 8, 4, generator=generator),
            modality.repeat(views),
            modality.repeat(views) + 1,
            stream.pseudo_label[rows].repeat(views),
            stream.sample_index[rows].repeat(views),
            torch.arange(views).repeat_interleave(size),
            stream.label_space,
        )
    return Batch(step.name, iteration, parts)


def cross_entropy(features: Tensor, rows: Tensor, labels: Tensor, temperature: float = 0.05) -> float:
    """Contrastive loss straight from its formula."""
    chosen = torch.log_softmax(features.detach() @ rows.T / temperature, 1)[torch.arange(len(labels)), labels]
    return float(-chosen.mean())


def follow(rows: Tensor, features: Tensor, labels: Sequence[int] | Tensor, momentum: float) -> Tensor:
    """Move a copy of memory rows by samples one after the other."""
    rows = rows.clone()
    for f, label in zip(features, labels, strict=True):
        rows[label] = normalize(momentum * rows[label] + (1 - momentum) * f, dim=0)
    return rows
