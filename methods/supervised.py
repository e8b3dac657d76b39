"""Supervised upper bounds, which are given identities: AGW, and CAJ as the variant ``supervised:caj``.

AGW: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook" (TPAMI, arXiv 2001.04193);
CAJ: Ye et al., "Channel Augmented Joint Learning for Visible-Infrared Recognition" (ICCV 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div
from torch.optim import SGD

from methods.base import (
    INFRARED,
    VISIBLE,
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Method,
    Optimisation,
    Reference,
    Stage,
    Step,
    Stream,
    TrainingData,
    value,
)
from methods.parts.backbone import TwoStreamResNet
from methods.parts.config import DEMO_SIZES, FIRST_GALLERY, WarmUpConfig
from methods.parts.heads import Classifier
from methods.parts.host import rows_where
from methods.parts.losses import (
    batch_hard_triplet,
    enhanced_squared_difference,
    weighted_regularized_triplet,
)
from methods.parts.optimisers import warmed_up
from methods.parts.samplers import shared_label_batches

METRIC_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "wrt": weighted_regularized_triplet,
    "adp": enhanced_squared_difference,
    "batch-hard": batch_hard_triplet,
}
VIEWS = {
    "weak": (("weak",), ("weak",)),
    "channel": (("plain", "channel-exchange"), ("channel-adapt-gray",)),
}
KL_TEMPERATURE = 3.0
KL_EPSILON = 1e-7


class SupervisedConfig(WarmUpConfig):
    """Hyper-parameters of the supervised reference; defaults are AGW's on SYSU-MM01."""

    epochs: int = value(81, "published code", "epochs", ge=1)
    iterations: int = value(
        696, "published code", "iterations an epoch: images of the larger modality / 32, + 1", ge=1
    )
    labels_per_batch: int = value(8, "published code", "identities in a batch", ge=2)
    instances: int = value(4, "published code", "images of each identity and modality", ge=1)
    metric_loss: Literal["wrt", "adp", "batch-hard"] = value(
        "wrt", "published code", "loss on pooled features: AGW's, CAJ's, or a batch-hard triplet"
    )
    augmentation: Literal["weak", "channel"] = value(
        "weak", "published code", "AGW's crop and flip, or CAJ's three views"
    )
    kl_weight: float = value(
        0.0, "published code", "weight of KL from visible to infrared predictions (CAJ)", ge=0
    )
    momentum: float = value(0.9, "published code", "Nesterov momentum", gt=0, lt=1)
    non_local: bool = value(True, "published code", "non-local blocks in layer2 and layer3")
    non_local_width: int = value(1, "published code", "inner channels of a non-local block (quirk Q1)", ge=1)


@dataclass(frozen=True)
class Seen:
    """What the networks made of a batch.

    Attributes
    ----------
    logits : tensor (b, identities)
    pooled : float32 tensor (b, d)
        Features before the neck.
    """

    logits: Tensor
    pooled: Tensor


class Supervised(Method):
    """Cross entropy and a weighted triplet on true identities: what labels would buy."""

    name = "supervised"
    written = {"": "AGW", "caj": "CAJ"}
    summary = "upper bound: trained with identities (AGW; CAJ as a variant)"
    supervision = "supervised"
    Config = SupervisedConfig
    config: SupervisedConfig
    reference = Reference(
        title="Deep Learning for Person Re-identification: A Survey and Outlook (AGW)",
        venue="IEEE TPAMI, arXiv 2001.04193",
        year=2021,
        parts={
            "network, sampler, losses, optimiser, schedule": ("published code", ""),
            "supervised:caj": ("published code", "of Channel Augmented Joint Learning (ICCV 2021)"),
            "resizing in training": ("harness", "bicubic, where the published code resizes by Lanczos"),
            "mirrored extraction": (
                "harness",
                "features after the neck, averaged with the mirror's; AGW's own test does not mirror",
            ),
            "erasing fill of supervised:caj": (
                "published code",
                "(0.4914, 0.4822, 0.4465), after normalisation (quirk Q9)",
            ),
            "selection of the best epoch": FIRST_GALLERY,
            "preset public": (
                "harness",
                "none: every run has rows of its best test epoch (quirk Q10)",
            ),
        },
    )

    def __init__(self, config: SupervisedConfig, data: TrainingData) -> None:
        self.network = TwoStreamResNet(
            data.architecture,
            non_local=config.non_local,
            non_local_width=config.non_local_width,
            weights=data.weights,
            seed=data.seed("backbone"),
        )
        self.classifier = Classifier(self.network.dimension)
        identities = int(data.identity.max()) + 1 if len(data) else 0
        self.classifier.resize(identities, data.seed("classifier"))
        super().__init__(config, data, backbone=self.network, classifier=self.classifier)

    @classmethod
    def stages(cls, config: SupervisedConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make SGD with a smaller rate for the backbone than for neck and classifier."""
        c, network = self.config, self.network
        head = [network.neck.weight, *self.classifier.parameters()]
        body = [p for part in (network.visible, network.infrared, network.trunk) for p in part.parameters()]
        sgd = partial(SGD, momentum=c.momentum, nesterov=True)
        return {"model": warmed_up(sgd, head, body, c, stage)}

    def uses_features(self, epoch: Epoch) -> bool:
        """Identities are given: nothing is clustered."""
        return False

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Draw batches that show the same identities in both modalities."""
        c, identity, modality = self.config, self.data.identity.cpu(), self.data.modality.cpu()
        visible, infrared = (torch.nonzero(modality == m).flatten() for m in (VISIBLE, INFRARED))
        shared = np.intersect1d(identity[visible], identity[infrared])
        if len(shared) < 2:
            return EpochPlan(
                {}, (), (), 0, skipped=f"{len(shared)} identities have images in both modalities"
            )
        drawn = shared_label_batches(
            identity[visible].numpy(),
            identity[infrared].numpy(),
            c.labels_per_batch,
            c.instances,
            c.iterations,
            np.random.default_rng(self.data.seed("identities", epoch.number)),
        )
        drawn[:, drawn.shape[1] // 2 :] += len(visible)
        index = torch.cat([visible, infrared])
        stream = Stream(
            "both",
            "identity",
            index,
            identity[index],
            c.labels_per_batch,
            c.instances,
            *VIEWS[c.augmentation],
            batch_indices=torch.from_numpy(drawn),
        )
        return EpochPlan({}, (stream,), (Step("train", ("both",)),), c.iterations)

    def forward(self, batch: Batch) -> Seen:
        """Classify the images from the features after the neck; keep the pooled ones before it."""
        part = batch.parts["both"]
        features, pooled = self.network(part.images, part.drawn.modality)
        return Seen(self.classifier(features), pooled)

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Classify the identities, and order distances within the batch."""
        c, part, logits = self.config, batch.parts["both"], seen.logits.float()
        terms = {
            "identity": cross_entropy(logits, part.pseudo_label),
            c.metric_loss: METRIC_LOSSES[c.metric_loss](seen.pooled, part.pseudo_label),
        }
        if c.kl_weight:
            drawn = part.drawn
            plain = rows_where((drawn.view == 0) & (drawn.modality == VISIBLE), logits.device)
            infrared = rows_where(drawn.modality == INFRARED, logits.device)
            terms["kl"] = c.kl_weight * softened_kl(logits[plain], logits[infrared])
        return terms

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted(), "regdb": {"iterations": 65}},
        "demo": {"*": DEMO_SIZES | {"epochs": 10, "iterations": 20}},
        "caj": {"*": {"epochs": 100, "metric_loss": "adp", "augmentation": "channel"}},
        "caj@demo": {"*": {"epochs": 10}},
    }


def softened_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return T^2 KL(teacher || student) of predictions softened by the temperature T = 3, averaged over rows.

    The teacher gets no gradient, and 1e-7 is added to its probabilities, as published.
    """
    log_p = (student / KL_TEMPERATURE).log_softmax(1)
    q = (teacher.detach() / KL_TEMPERATURE).softmax(1) + KL_EPSILON
    return KL_TEMPERATURE**2 * kl_div(log_p, q, reduction="batchmean")
