"""PCA (in its paper PCAL): progressive cross-modal association learning (Yang, Hu, Hu; IEEE TIFS 2025).

Three parts over dual contrast. TAL: a discriminator tells visible, channel-augmented and infrared features apart, and
the network learns to make all of them look augmented. CNE: joint clusters from neighbours balanced over modalities.
MCL: contrast against a memory of those joint clusters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from methods.base import (
    INFRARED,
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Optimisation,
    Reference,
    Stage,
    Step,
    TrainingData,
    value,
)
from methods.parts.config import (
    DEMO,
    FROZEN_CENTROIDS,
    LAST_EPOCH,
    UNIT_AVERAGE,
    JointContrastConfig,
    network_parts,
)
from methods.parts.contrast import (
    CROSS,
    contrast,
    dual_contrast,
    joint_contrast,
    move_memories,
    two_stages,
)
from methods.parts.host import rows_where
from methods.parts.memories import ClusterMemory
from methods.parts.optimisers import learning_rate_factor
from methods.parts.spaces import JOINT, plan, skipped
from methods.parts.two_stream import Seen, TwoStreamMethod

VIEW_CLASS = {"visible": 0, "infrared": 1, "augmented": 2}
"""Classes of the discriminator."""
HIDDEN = (1024, 512, 256, 128, 64, 32, 16, 8)
DISCRIMINATE = "discriminate"


class PCAConfig(JointContrastConfig):
    """Hyper-parameters of PCA; defaults are SYSU-MM01's."""

    joint_weight: float = value(1.0, "published code", "weight of the joint contrast of stage II", ge=0)
    adversarial_from: int = value(
        25, "published code", "epoch of stage I from which the network plays against the discriminator", ge=0
    )
    adversarial_weight_dual: float = value(
        1.0, "published code", "weight of the adversarial term in stage I (quirk Q32)", ge=0
    )
    adversarial_weight_cross: float = value(
        0.1, "published code", "weight of the adversarial term in stage II (quirk Q32)", ge=0
    )
    discriminator_rate: float = value(0.01, "published code", "SGD learning rate of the discriminator", gt=0)
    discriminator_momentum: float = value(0.9, "published code", "its Nesterov momentum", gt=0, lt=1)
    labels_per_batch: int = value(4, "published code", "pseudo-identities in a visible batch", ge=1)
    infrared_labels: int = value(4, "published code", "pseudo-identities in an infrared batch", ge=1)


def adversarial_weight(config: PCAConfig, epoch: Epoch) -> float:
    """Return the weight of the adversarial term: none in the first epochs of stage I."""
    if epoch.stage.name == CROSS:
        return config.adversarial_weight_cross
    return config.adversarial_weight_dual if epoch.in_stage >= config.adversarial_from else 0.0


class Discriminator(nn.Sequential):
    """Eight hidden layers with batch norm, then three classes; from post-BN features (b, dimension).

    Hidden layers start as the published width-3 convolutions on sequences of length 1 do, of which only the
    centre tap acts: uniform within 1 / sqrt(3 inputs).
    """

    def __init__(self, dimension: int, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = [layer for sizes in pairwise((dimension, *HIDDEN)) for layer in _hidden(*sizes)]
            super().__init__(*hidden, nn.Linear(HIDDEN[-1], len(VIEW_CLASS)))


def _hidden(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    linear = nn.Linear(inputs, outputs)
    bound = 1 / math.sqrt(3 * inputs)
    for parameter in linear.parameters():
        nn.init.uniform_(parameter, -bound, bound)
    return linear, nn.BatchNorm1d(outputs), nn.ReLU()


def discriminator_loss(
    discriminator: nn.Module, post_bn: Tensor, view_class: Tensor, target: Tensor
) -> Tensor:
    """Return the sum over the view classes present of the mean cross entropy against `target` (one per class).

    All classes pass the discriminator together, as published: its batch norms would centre each of them away alone.

    Parameters
    ----------
    post_bn : float32 tensor (b, d)
    view_class : int64 tensor (b,) on the CPU
        Entries of :data:`VIEW_CLASS`.
    target : int64 tensor (3,) on the CPU
    """
    scores, terms = discriminator(post_bn).float(), []
    for k in view_class.unique().tolist():
        own = scores[rows_where(view_class == k, scores.device)]
        terms.append(cross_entropy(own, torch.full((len(own),), int(target[k]), device=own.device)))
    return torch.stack(terms).sum()


def view_classes(batch: Batch) -> Tensor:
    """Return the discriminator's class of every image: visible, infrared or augmented (a second view)."""
    drawn = batch.drawn()
    augmented = VIEW_CLASS["augmented"] * (drawn.view > 0)
    return torch.where(drawn.modality == INFRARED, VIEW_CLASS["infrared"], augmented)


class PCA(TwoStreamMethod):
    """Progressive cross-modal association."""

    name = "pca"
    written = "PCA"
    summary = "dual contrast with a modality adversary, then joint clusters from modality-balanced neighbours"
    Config = PCAConfig
    config: PCAConfig
    reference = Reference(
        title="Progressive Cross-Modal Association Learning for Unsupervised Visible-Infrared Person "
        "Re-Identification",
        venue="IEEE TIFS",
        year=2025,
        parts={
            "adversary (TAL), neighbours (CNE), joint contrast (MCL)": ("published code", ""),
            "adversarial weights": (
                "published code",
                "1.0 in stage I, 0.1 in stage II; the paper's was not seen",
            ),
            "joint clusters in stage I": (
                "harness",
                "left out: the published code computes them and trains nothing on them",
            ),
            "stage II from stage I's last epoch": LAST_EPOCH,
            "features that are clustered": UNIT_AVERAGE,
            "centroids that gradients see": FROZEN_CENTROIDS,
            **network_parts("published code"),
        },
        url="https://doi.org/10.1109/TIFS.2025.3527356",
    )

    def __init__(self, config: PCAConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        dimension: int = self.backbone.dimension  # type: ignore[assignment]
        self.discriminator = Discriminator(dimension, data.seed("discriminator"))
        self.modules["discriminator"] = self.discriminator
        self.memories: dict[str, ClusterMemory] = {}

    @classmethod
    def stages(cls, config: PCAConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with joint clusters."""
        return two_stages(config)

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make Adam over the backbone, and SGD over the discriminator with the same decay."""
        c = self.config
        sgd = SGD(
            self.discriminator.parameters(),
            c.discriminator_rate,
            c.discriminator_momentum,
            weight_decay=c.weight_decay,
            nesterov=True,
        )
        schedule = LambdaLR(sgd, lambda epoch: learning_rate_factor(c, epoch, stage.epochs))
        return {**super().optimisers(stage), "discriminator": Optimisation(sgd, schedule)}

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality; in stage II both together, where clusters of one modality are only negatives."""
        c, weight = self.config, adversarial_weight(self.config, epoch)
        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        found = dual_contrast(c, bank, generator)
        if found.skipped:
            return skipped(found.spaces, found.skipped, found.record)
        if epoch.stage.name == CROSS:
            found = joint_contrast(c, bank, generator, found)
        self.memories = found.memories
        steps = adversarial_steps(tuple(stream.name for stream in found.dual), weight) + found.joint_steps()
        record = found.record | {"adversarial_weight": weight}
        return plan(found.spaces, found.dual + found.joint, steps, epoch.stage.iterations, record)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Return the terms of the discriminator's, the network's or the joint step."""
        if batch.step == DISCRIMINATE:
            each = torch.arange(len(VIEW_CLASS))
            features = seen.post_bn.detach()
            return {
                "discriminator": discriminator_loss(self.discriminator, features, view_classes(batch), each)
            }
        terms = contrast(self.memories, seen, batch)
        if batch.step == JOINT:
            return {name: self.config.joint_weight * term for name, term in terms.items()}
        if weight := adversarial_weight(self.config, epoch):
            augmented = torch.full((len(VIEW_CLASS),), VIEW_CLASS["augmented"])
            fooled = discriminator_loss(self.discriminator, seen.post_bn, view_classes(batch), augmented)
            terms["adversarial"] = weight * fooled
        return terms

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the clusters in the batch."""
        if batch.step != DISCRIMINATE:
            move_memories(self.memories, seen, batch)

    presets = {
        "paper": {
            "sysu-mm01": {},
            "llcm": Adapted({"k1": 25}),
            "regdb": {"eps": 0.3, "iterations": 100, "joint_k1": 38, "joint_k2": 18},
        },
        "paper-large": {"*": {"labels_per_batch": 8, "infrared_labels": 8}},
        "demo": {
            "*": DEMO
            | {
                "epochs_dual": 4,
                "epochs_cross": 6,
                "adversarial_from": 2,
                "labels_per_batch": 8,
                "infrared_labels": 8,
                "k1": 12,
                "k2": 4,
                "eps": 0.55,
                "joint_k1": 16,
                "joint_k2": 10,
            },
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5, "joint_k1": 14, "joint_k2": 8},
        },
        "public": {
            "*": {
                "stage_init": "best-of-stage",
                "bn_chunks": 2,
                "memory_gradient": "in_backward",
                "renormalise_flip": False,
            }
        },
        "no-adversary": {"*": {"adversarial_weight_dual": 0.0, "adversarial_weight_cross": 0.0}},
    }


def adversarial_steps(streams: tuple[str, ...], weight: float) -> tuple[Step, ...]:
    """Return the network's and the discriminator's step, which share one forward pass.

    The discriminator moves first where the network plays against it, else after the network.
    """
    if weight:
        return Step(DISCRIMINATE, streams, "discriminator"), Step("dual", streams, reuses=DISCRIMINATE)
    return Step("dual", streams), Step(DISCRIMINATE, streams, "discriminator", reuses="dual")
