"""The adversary of PCA (IEEE TIFS 2025): a discriminator of visible, infrared and augmented features."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from methods.base import INFRARED, Part

SEEN_AS = {"visible": 0, "infrared": 1, "augmented": 2}
"""Classes of the discriminator."""
HIDDEN = (1024, 512, 256, 128, 64, 32, 16, 8)


class Discriminator(nn.Sequential):
    """Eight hidden layers with batch norm, then three classes; from post-BN features (b, dimension).

    Hidden layers start as the published width-3 convolutions on sequences of length 1 do, of which only the
    centre tap acts: uniform within 1 / sqrt(3 inputs).
    """

    def __init__(self, dimension: int, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = [layer for sizes in pairwise((dimension, *HIDDEN)) for layer in _hidden(*sizes)]
            super().__init__(*hidden, nn.Linear(HIDDEN[-1], len(SEEN_AS)))


def _hidden(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    linear = nn.Linear(inputs, outputs)
    bound = 1 / math.sqrt(3 * inputs)
    for parameter in linear.parameters():
        nn.init.uniform_(parameter, -bound, bound)
    return linear, nn.BatchNorm1d(outputs), nn.ReLU()


def modality_terms(discriminator: nn.Module, raw: Tensor, kind: Tensor, target: Tensor) -> Tensor:
    """Return the sum over the kinds present of the mean cross entropy against `target` (a class per kind).

    Each kind passes the discriminator alone, so its batch norm takes statistics of one kind at a time.
    """
    terms = [
        cross_entropy(scores, target[k].expand(len(scores)))
        for k in kind.unique()
        for scores in (discriminator(raw[kind == k]).float(),)
    ]
    return torch.stack(terms).sum()


def kinds(parts: list[Part]) -> Tensor:
    """Return the discriminator's class of every image: visible, infrared or augmented (a second view)."""
    modality, view = (torch.cat([getattr(part, name) for part in parts]) for name in ("modality", "view"))
    return torch.where(modality == INFRARED, SEEN_AS["infrared"], SEEN_AS["augmented"] * (view > 0))
