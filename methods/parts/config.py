"""Groups of settings that several papers share: training, contrast of each modality, warm-up, self-paced clusters."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from methods.base import MethodConfig, Source, value

UpdateRule = Literal["sequential", "hardest", "mean", "random"]

DEMO_SIZES: dict[str, Any] = {"iterations": 6, "instances": 4, "lr_schedule": "cosine"}
"""Training of the preset ``demo``: the sizes of the synthetic twins, minutes on two cores."""
DEMO: dict[str, Any] = {**DEMO_SIZES, "learning_rate": 1.5e-4}
"""The same for methods on `TrainingConfig`; the rate was chosen on the twins of seed 7, which no table shows."""
PUBLIC: dict[str, Any] = {"bn_chunks": 4, "memory_gradient": "in_backward", "renormalise_flip": False}
"""What the presets ``public`` of GUR and PGM share: quirks Q12, Q6 and Q2."""

UNIT_AVERAGE: tuple[Source, str] = (
    "ours",
    "image and mirror averaged, of unit length; the published code leaves it shorter (public; quirk Q2)",
)
"""Part of a method whose published code does not normalise the averaged features again."""
FROZEN_CENTROIDS: tuple[Source, str] = (
    "ours",
    "those of the forward pass; the published code moves them between two gradients (public; quirk Q6)",
)
"""Part of a method whose published code lets a memory move while several losses of a step are differentiated."""
FROM_ONE_MODALITY: dict[str, tuple[Source, str]] = {
    "mirrored extraction": (
        "harness",
        "features for clustering and for test are averages with the mirror's; the published code takes the image alone",
    ),
    "neck scale": (
        "adapted",
        "starts at N(1, 0.01), as visible-infrared codes do; the published code starts at 1",
    ),
    "erasing fill": (
        "adapted",
        "(0.4914, 0.4822, 0.4465), as visible-infrared codes do (quirk Q9); the published code: (0.485, 0.456, 0.406)",
    ),
    "resizing": (
        "harness",
        "288 x 144, bicubic in training and Lanczos at test (quirk Q13); the published code: 256 x 128, all bicubic",
    ),
    "selection of the best epoch": (
        "harness",
        "best-on-test is the best mean mAP over all galleries of the headline setting, over all evaluated epochs; "
        "the published code picks by the mAP of its only gallery, over some epochs",
    ),
}
"""Parts of a method for one modality that change with the two-stream network and the harness."""
FIRST_GALLERY: tuple[Source, str] = (
    "harness",
    "best-on-test is the best mean mAP over all galleries of the headline setting; the published code picks by rank-1 "
    "on the first gallery",
)
"""Selection of the best epoch, where the published code takes rank-1."""
LAST_EPOCH: tuple[Source, str] = ("ours", "the published code takes the best test epoch (public; quirk Q10)")
"""Part of a method whose later stages start from the last epoch of the stage before."""
ONE_GALLERY: tuple[Source, str] = (
    "harness",
    "best-on-test is the best mean mAP over all galleries of the headline setting; the published code picks by the mAP "
    "of the first gallery",
)
"""Part of a method whose published code judges an epoch on SYSU-MM01's first gallery alone."""


def network_parts(source: Source) -> dict[str, tuple[Source, str]]:
    """Return the parts of the network and its inputs that the public codes of ADCA and its followers share."""
    return {
        "pooling": (source, "generalised mean with fixed p = 3, not learned"),
        "neck scale": (source, "starts at N(1, 0.01); the shift stays 0"),
        "mirrored extraction": (source, "image and mirror averaged, before clustering and at test"),
        "erasing fill": (source, "(0.4914, 0.4822, 0.4465), filled in after normalisation (quirk Q9)"),
    }


class TrainingConfig(MethodConfig):
    """Settings of every method that trains the two-stream network by Adam; defaults are the field's common ones."""

    learning_rate: float = value(3.5e-4, "predecessor", "Adam learning rate", gt=0)
    weight_decay: float = value(5e-4, "predecessor", "L2 weight decay", ge=0)
    lr_schedule: Literal["step", "cosine"] = value("step", "predecessor", "decay of the learning rate")
    lr_step: int = value(20, "predecessor", "epochs between two decays by lr_gamma (step)", ge=1)
    lr_gamma: float = value(0.1, "predecessor", "factor of a decay (step)", gt=0, le=1)
    iterations: int = value(200, "predecessor", "iterations an epoch", ge=1)
    labels_per_batch: int = value(4, "predecessor", "pseudo-identities in a batch of a stream", ge=1)
    instances: int = value(16, "predecessor", "images of each pseudo-identity", ge=2)
    temperature: float = value(0.05, "published code", "temperature of contrastive losses", gt=0)
    min_samples: int = value(4, "published code", "DBSCAN: a core point's neighbours, itself included", ge=1)
    non_local: bool = value(False, "published code", "non-local blocks in layer2 and layer3")
    non_local_width: int = value(1, "published code", "inner channels of a non-local block (quirk Q1)", ge=1)
    bn_chunks: int = value(
        1, "reconstructed", "emulate n DataParallel chunks in batch norm (quirk Q12)", ge=1
    )


class ContrastConfig(TrainingConfig):
    """Settings of contrast of each modality against its cluster memory; defaults are SYSU-MM01's."""

    k1: int = value(30, "published code", "neighbours within a modality, the sample included", ge=1)
    k2: int = value(6, "published code", "expansion neighbours within a modality", ge=1)
    eps: float = value(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, le=1)
    memory_momentum: float = value(
        0.1, "published code", "share of the old centroid in an update", ge=0, le=1
    )
    memory_update: UpdateRule = value(
        "sequential", "published code", "which batch samples move a cluster's centroid"
    )
    memory_gradient: Literal["frozen", "in_backward"] = value(
        "frozen",
        "reconstructed",
        "centroids that gradients see: those of the forward pass, or those already moved by a later loss on the same "
        "memory (the public codes, quirk Q6)",
    )
    renormalise_flip: bool = value(
        True,
        "reconstructed",
        "unit length for features averaged with their mirrors'; the public codes leave them shorter (quirk Q2)",
    )
    labels_per_batch: int = value(8, "published code", "pseudo-identities in a visible batch", ge=1)
    infrared_labels: int = value(16, "published code", "pseudo-identities in an infrared batch", ge=1)
    repeat_singletons: bool = value(
        False,
        "published code",
        "repeat an image that is alone under its label to a full K; the public sampler gives it once (quirk Q8)",
    )


class TwoStageConfig(ContrastConfig):
    """Settings of a dual stage (each modality alone) and a cross stage; defaults are SYSU-MM01's."""

    epochs_dual: int = value(50, "published code", "epochs of stage I (each modality alone)", ge=0)
    epochs_cross: int = value(50, "published code", "epochs of stage II (with the method's own part)", ge=0)
    stage_init: Literal["last", "best-of-stage"] = value(
        "last",
        "reconstructed",
        "weights stage II starts from; best-of-stage is the public codes' leak (quirk Q10)",
    )


class JointContrastConfig(TwoStageConfig):
    """Settings of a cross stage with joint clusters from modality-balanced neighbours (PCA's CNE and MCL)."""

    joint_k1: int = value(40, "published code", "neighbours over both modalities", ge=1)
    joint_k2: int = value(32, "published code", "expansion neighbours over both modalities", ge=1)

    @model_validator(mode="after")
    def _joint_lists_are_longer(self) -> JointContrastConfig:
        if self.joint_k2 > self.joint_k1:
            raise ValueError(f"joint_k2 = {self.joint_k2} is larger than joint_k1 = {self.joint_k1}")
        return self


class WarmUpConfig(MethodConfig):
    """Two learning rates under a warm-up, as in AGW and OTLA; defaults are AGW's."""

    learning_rate: float = value(0.1, "published code", "learning rate of necks and heads", gt=0)
    backbone_rate: float = value(
        0.1, "published code", "the backbone's learning rate, as a share of it", gt=0
    )
    weight_decay: float = value(5e-4, "published code", "L2 weight decay", ge=0)
    lr_schedule: Literal["step", "cosine"] = value(
        "step", "published code", "rise for 10 epochs, x0.1 at 20, x0.01 at 50; or a cosine"
    )


class SelfPacedConfig(MethodConfig):
    """Settings of self-paced clusters and of the hybrid memory; defaults are SpCL's."""

    k1: int = value(30, "published code", "neighbours, the sample included", ge=1)
    k2: int = value(6, "published code", "expansion neighbours", ge=1)
    eps: float = value(0.6, "published code", "DBSCAN radius on the Jaccard distance", gt=0, lt=1)
    eps_gap: float = value(
        0.02, "published code", "tighter and looser radius: eps minus and plus this", ge=0, lt=1
    )
    independent_share: float = value(
        0.9, "published code", "share of the first epoch's clusters that count as independent", ge=0, le=1
    )
    min_samples: int = value(4, "published code", "DBSCAN: a core point's neighbours, itself included", ge=1)
    temperature: float = value(0.05, "published code", "temperature of the instance memory", gt=0)
    memory_momentum: float = value(0.2, "published code", "share of the old row in an update", ge=0, le=1)

    @model_validator(mode="after")
    def _radii_exist(self) -> SelfPacedConfig:
        if self.eps <= self.eps_gap or self.eps + self.eps_gap >= 1:
            raise ValueError(f"eps = {self.eps} minus and plus eps_gap = {self.eps_gap} leave (0, 1)")
        return self
