"""Supervised upper bounds, which are given identities: AGW, and CAJ as the variant ``supervised:caj``.

AGW: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook" (TPAMI, arXiv 2001.04193);
CAJ: Ye et al., "Channel Augmented Joint Learning for Visible-Infrared Recognition" (ICCV 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.optim import SGD

from methods.base import (
    INFRARED,
    VISIBLE,
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
    setting,
)
from methods.parts.backbone import TwoStreamResNet
from methods.parts.heads import Classifier
from methods.parts.losses import adp, batch_hard_triplet, wrt
from methods.parts.samplers import shared_label_batches
from methods.parts.training import DEMO_WARMED_UP, WarmUpConfig, warmed_up

METRIC_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "wrt": wrt,
    "adp": adp,
    "batch-hard": batch_hard_triplet,
}
VIEWS = {
    "weak": (("weak",), ("weak",)),
    "channel": (("plain", "channel-exchange"), ("channel-adapt-gray",)),
}
KL_TEMPERATURE = 3.0


class SupervisedConfig(WarmUpConfig):
    """Hyper-parameters of the supervised reference; defaults are AGW's on SYSU-MM01."""

    epochs: int = setting(81, "published code", "epochs", ge=1)
    iterations: int = setting(
        696, "published code", "iterations an epoch: images of the larger modality / 32, + 1", ge=1
    )
    labels_per_batch: int = setting(8, "published code", "identities in a batch", ge=2)
    instances: int = setting(4, "published code", "images of each identity and modality", ge=1)
    metric_loss: Literal["wrt", "adp", "batch-hard"] = setting(
        "wrt", "published code", "loss on pooled features: AGW's, CAJ's, or a batch-hard triplet"
    )
    augmentation: Literal["weak", "channel"] = setting(
        "weak", "published code", "AGW's crop and flip, or CAJ's three views"
    )
    kl_weight: float = setting(
        0.0, "published code", "weight of KL from visible to infrared predictions (CAJ)", ge=0
    )
    momentum: float = setting(0.9, "published code", "Nesterov momentum", gt=0, lt=1)
    non_local: bool = setting(True, "published code", "non-local blocks in layer2 and layer3")
    non_local_width: int = setting(
        1, "published code", "inner channels of a non-local block (quirk Q1)", ge=1
    )


class Supervised(Method):
    """Cross entropy and a weighted triplet on true identities: what labels would buy."""

    name = "supervised"
    summary = "upper bound: trained with identities (AGW; CAJ as a variant)"
    supervision = "supervised"
    Config = SupervisedConfig
    config: SupervisedConfig
    reference = Reference(
        title="Deep Learning for Person Re-identification: A Survey and Outlook (AGW)",
        venue="IEEE TPAMI, arXiv 2001.04193",
        year=2021,
        parts={
            "network, sampler, losses, optimiser, schedule": "published code",
            "supervised:caj": "published code of Channel Augmented Joint Learning (ICCV 2021)",
            "resizing in training": "harness: bicubic, where the published code resizes by Lanczos",
            "test": "harness: features after the neck, mirror averaged; AGW's own test does not mirror",
            "preset public": "none: every run has rows of its best test epoch, by rank-1 (quirk Q10)",
        },
    )
    presets = {
        "paper": {"sysu-mm01": {}, "regdb": {"iterations": 65}},
        "demo": {"*": {**DEMO_WARMED_UP, "epochs": 10, "iterations": 20}},
        "caj": {"*": {"epochs": 100, "metric_loss": "adp", "augmentation": "channel"}},
        "caj@demo": {"*": {"epochs": 10}},
    }

    def build(self, data: TrainingData) -> dict[str, nn.Module]:
        """Make the backbone and a classifier over the training identities."""
        c = self.config
        backbone = TwoStreamResNet(
            data.architecture,
            non_local=c.non_local,
            non_local_width=c.non_local_width,
            weights=data.weights,
            seed=data.seed("backbone"),
        )
        identities = int(data.identity.max()) + 1 if len(data) else 0
        classifier = Classifier(backbone.dimension)
        classifier.resize(identities, data.seed("classifier"))
        return {"backbone": backbone, "classifier": classifier}

    @classmethod
    def stages(cls, config: SupervisedConfig) -> Sequence[Stage]:
        """One stage."""
        return (Stage("train", config.epochs, config.iterations),)

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make SGD with a smaller rate for the backbone than for neck and classifier."""
        c = self.config
        network: Any = self.backbone
        head = [network.neck.weight, *self.modules["classifier"].parameters()]
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
            index,
            identity[index],
            c.labels_per_batch,
            c.instances,
            *VIEWS[c.augmentation],
            drawn=torch.from_numpy(drawn),
        )
        return EpochPlan({}, (stream,), (Step("train", ("both",)),), c.iterations)

    def loss(self, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Classify the identities, and order distances within the batch."""
        part = batch.parts["both"]
        features, pooled = self.backbone(part.images, part.modality)
        logits = self.modules["classifier"](features).float()
        terms = {
            "identity": cross_entropy(logits, part.label),
            self.config.metric_loss: METRIC_LOSSES[self.config.metric_loss](pooled, part.label),
        }
        if self.config.kl_weight:
            visible = logits[(part.view == 0) & (part.modality == VISIBLE)]
            terms["kl"] = self.config.kl_weight * softened_kl(visible, logits[part.modality == INFRARED])
        return terms


def softened_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return T^2 KL(teacher || student) of predictions softened by the temperature T = 3, averaged over rows."""
    log_p, log_q = ((x / KL_TEMPERATURE).log_softmax(1) for x in (student, teacher))
    return KL_TEMPERATURE**2 * kl_div(log_p, log_q, reduction="batchmean", log_target=True)
