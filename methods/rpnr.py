"""RPNR: robust pseudo-label learning with neighbour relation (ACM MM 2024, arXiv 2405.05613).

Dual contrast with two centroids a cluster, a mean and a hard one. In stage II labels move to the nearest density
prototype (NPC), clusters are matched by optimal transport (OTPM), images are compared with centroids averaged over
matched clusters too (MHL), and the images of a batch are spread by their relations to each other (NRL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from methods.association.matching import match_by_transport
from methods.association.prototypes import density_prototypes, nearest_prototypes
from methods.base import (
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Reference,
    Stage,
    Step,
    TrainingData,
    timed,
    value,
)
from methods.parts.config import (
    DEMO,
    FIRST_GALLERY,
    FROZEN_CENTROIDS,
    LAST_EPOCH,
    PUBLIC,
    UNIT_AVERAGE,
    TwoStageConfig,
    network_parts,
)
from methods.parts.contrast import (
    CROSS,
    alternate,
    cluster_modalities_plainly,
    contrast,
    dual_streams,
    move_memories,
    start_memory,
    two_stages,
)
from methods.parts.host import to_device
from methods.parts.memories import ClusterMemory, cluster_means
from methods.parts.spaces import LabelSpace, distances_seen, label_space, plan, skipped
from methods.parts.two_stream import Seen, TwoStreamMethod
from methods.parts.update_rules import hardest_members, mean, momentum_update

HYBRID = "hybrid"


class RPNRConfig(TwoStageConfig):
    """Hyper-parameters of RPNR; defaults are SYSU-MM01's."""

    stage_weights: str = value("", "published code", "file stage II starts from, without a stage I; or none")
    non_local: bool = value(True, "published code", "non-local blocks in layer2 and layer3")
    infrared_labels: int = value(8, "published code", "pseudo-identities in an infrared batch", ge=1)
    double_memory: bool = value(
        True,
        "published code",
        "a mean and a hard centroid of each cluster, as its launch scripts ask for; else one, moved by memory_update",
    )
    mean_margin: float = value(
        0.2, "published code", "r: cross entropy of a batch with mean centroids that costs nothing", ge=0
    )
    prototype_size: int = value(20, "published code", "n: densest images that make a prototype", ge=1)
    density_cut: float = value(
        0.5, "published code", "cosine above which an image adds to another's density", ge=-1, le=1
    )
    transport_regularisation: float = value(
        5.0, "published code", "of the transport between clusters (quirk Q47)", gt=0
    )
    transport_tolerance: float = value(1e-5, "published code", "error at which its rounds end", gt=0)
    cross_weight: float = value(0.25, "published code", "weight of the cross-modality term", ge=0)
    hybrid_weight: float = value(0.5, "published code", "weight of the term on the hybrid memory", ge=0)
    relation_weight: float = value(10.0, "published code", "weight of the relation terms", ge=0)
    relation_unit: bool = value(
        False,
        "published code",
        "relations of unit features; those of the published code are not, so that none attract (quirk Q48)",
    )


class DoubleMemory(ClusterMemory):
    """A mean and a hard centroid of every cluster: the first and the second half of the rows.

    Parameters
    ----------
    centroids : float32 tensor (2 c, d)
        Owned by the memory from here on.
    margin : float
        Cross entropy of a batch with the mean centroids up to which it neither costs nor teaches (quirk Q45).
    temperature, momentum, in_backward
        As :class:`~methods.parts.memories.ClusterMemory` has them.
    """

    def __init__(
        self,
        centroids: Tensor,
        temperature: float,
        momentum: float,
        margin: float,
        *,
        in_backward: bool = False,
    ) -> None:
        super().__init__(centroids, temperature, momentum, in_backward=in_backward)
        self.margin = margin

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return half the cross entropy with hard centroids, and half what that with mean ones has above the margin."""
        by_mean, by_hard = self.logits(features, labels).chunk(2, dim=1)
        target = to_device(labels, features.device)
        excess = (cross_entropy(by_mean, target) - self.margin).clamp(min=0)
        return (cross_entropy(by_hard, target) + excess) / 2

    @torch.no_grad()
    def move(self, features: Tensor, labels: Tensor) -> None:
        """Move mean centroids by the means of their samples, hard ones by the sample farthest from the old mean."""
        features = features.detach().to(self.centroids.dtype)
        means, hard = self.centroids.chunk(2)
        present, group = labels.cpu().unique(return_inverse=True)
        touched = to_device(present, means.device)
        chosen = hardest_members(means[touched], features, group)
        means[touched] = mean(means[touched], features, group, self.momentum)
        hard[touched] = momentum_update(hard[touched], features[chosen], self.momentum)


def hybrid_means(visible: Tensor, infrared: Tensor, partner: Tensor, labels: Tensor) -> Tensor:
    """Return the direction of each infrared mean averaged with its partner's; 0 if no image has the label any more.

    Parameters
    ----------
    visible, infrared : float32 tensors (K_v, d), (K_r, d)
        Not normalised: the tighter cluster weighs more.
    partner : int64 tensor (K_r,)
    labels : int64 tensor (n_r,)
        Calibrated labels of infrared images (quirk Q46).
    """
    present = labels[labels >= 0].bincount(minlength=len(infrared)) > 0
    return normalize((infrared + visible[partner]) / 2) * present[:, None]


def relation_loss(features: Tensor) -> Tensor:
    """Pull near images of a batch together and push others to the average distance, whatever their labels (NRL).

    With D the distances, S_ij = D_ij over the mean of row i, and constant W_ij = exp(-D_ij^2), the mean over i != j of
    W S^2 + (1 - W) max(0, 1 - S)^2.

    Parameters
    ----------
    features : float32 tensor (b, d)
        Of any length; after batch norm D^2 is so large that W is 0 (quirk Q48).
    """
    with torch.autocast(features.device.type, enabled=False):
        x = features.double()
        squares = x.square().sum(1)
        squared = squares[:, None] + squares - 2 * x @ x.T
        # equal rows, and a row and itself, are at distance 0 without a gradient
        apart = (squared > 1e-12 * (squares[:, None] + squares)).fill_diagonal_(False)
        distance = squared.where(apart, 1).sqrt() * apart
        relative = distance / distance.mean(1, keepdim=True).clamp(min=1e-12)
        near = torch.exp(-distance.detach().square())
        terms = near * relative.square() + (1 - near) * (1 - relative).clamp(min=0).square()
        pairs = max(1, len(x) * (len(x) - 1))
        return (terms.fill_diagonal_(0).sum() / pairs).float()


class RPNR(TwoStreamMethod):
    """Robust pseudo-label learning with neighbour relation."""

    name = "rpnr"
    written = "RPNR"
    summary = "labels moved to density prototypes, clusters matched by transport, a hybrid memory, relations in a batch"
    Config = RPNRConfig
    config: RPNRConfig
    reference = Reference(
        title="Robust Pseudo-label Learning with Neighbor Relation for Unsupervised Visible-Infrared Person "
        "Re-Identification",
        venue="ACM MM",
        year=2024,
        parts={
            "calibration (NPC), matching (OTPM), hybrid memory (MHL), double memory": (
                "published code",
                "of the paper only the abstract and a figure were seen",
            ),
            "relation loss (NRL)": (
                "published code",
                "it only repels (quirk Q48); the paper's figure shows near pairs attracted",
            ),
            "which images make a prototype": (
                "ours",
                "equally dense ones by our order of images; the public order is by identity (quirks Q44 and Q4)",
            ),
            "stage I on SYSU-MM01": (
                "follow-up",
                "absent from the published code, which starts from a download; that of PCLHD, by the same group",
            ),
            "a modality without clusters": ("ours", "the other trains alone; the published code stops"),
            "partner of a side's only cluster": ("ours", "the first; the plan does not tell"),
            "stage II from stage I's last epoch": LAST_EPOCH,
            "features that are clustered": UNIT_AVERAGE,
            "centroids that gradients see": FROZEN_CENTROIDS,
            **network_parts("published code"),
            "selection of the best epoch": FIRST_GALLERY,
        },
        url="https://arxiv.org/abs/2405.05613",
    )

    def __init__(self, config: RPNRConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}
        self.partner: dict[str, Tensor] = {}

    @classmethod
    def stages(cls, config: RPNRConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with all parts; from a file, stage II alone."""
        stages, file = two_stages(config), config.stage_weights
        return tuple(replace(s, weights=file) for s in stages if s.name == CROSS) if file else stages

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality, start its memory; in stage II calibrate labels and match clusters.

        Memories and matching are made of the clusters as they were found, batches of calibrated labels (quirk Q46).
        """
        c = self.config
        spaces = cluster_modalities_plainly(c, bank)
        record = {"eps": c.eps, "k2": float(c.k2)}
        clustered = {name: space for name, space in spaces.items() if len(space)}
        if not clustered:
            why = f"no cluster with eps = {c.eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}"
            return skipped(spaces, why, record)

        with timed("memory"):
            means = {
                name: cluster_means(space.bank.features, space.labels) for name, space in clustered.items()
            }
        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        self.partner = {}
        self.memories = {name: self.start(normalize(rows), generator) for name, rows in means.items()}
        if epoch.stage.name == CROSS:
            with timed("refine"):
                calibrated = {name: self.calibrate(space, len(bank)) for name, space in clustered.items()}
            record |= {f"moved_{name}": moved(spaces[name], space) for name, space in calibrated.items()}
            spaces |= calibrated
            if len(means) == 2:
                with timed("associate"):
                    record["one_to_one"] = self.associate(means, spaces["infrared"].labels, generator)

        streams = dual_streams(c, spaces)
        step = Step("dual", tuple(stream.name for stream in streams))
        return plan(spaces, streams, (step,), epoch.stage.iterations, record)

    def start(self, rows: Tensor, generator: torch.Generator) -> ClusterMemory:
        """Start a memory whose mean and hard centroids are the same rows."""
        c = self.config
        if not c.double_memory:
            return start_memory(c, rows, generator)
        in_backward = c.memory_gradient == "in_backward"
        return DoubleMemory(
            torch.cat([rows, rows]), c.temperature, c.memory_momentum, c.mean_margin, in_backward=in_backward
        )

    def calibrate(self, space: LabelSpace, n: int) -> LabelSpace:
        """Move the labels of a modality's images to their nearest density prototypes (NPC)."""
        c, features = self.config, space.bank.features
        prototypes = density_prototypes(features, space.labels, c.prototype_size, c.density_cut)
        labels = nearest_prototypes(features, space.labels, prototypes)
        return label_space(space.bank, labels, n, space.distances_seen)

    def associate(self, means: Mapping[str, Tensor], labels: Tensor, generator: torch.Generator) -> float:
        """Match clusters (OTPM) and start the hybrid memory (MHL); return how many matches are mutual."""
        c, visible, infrared = self.config, means["visible"], means["infrared"]
        matching = match_by_transport(
            normalize(visible), normalize(infrared), c.transport_regularisation, c.transport_tolerance
        )
        pairs = {"visible": matching.visible_to_infrared, "infrared": matching.infrared_to_visible}
        self.partner = {name: partner.cpu() for name, partner in pairs.items()}
        rows = hybrid_means(visible, infrared, matching.infrared_to_visible, labels)
        self.memories[HYBRID] = self.start(rows, generator)
        return float(matching.one_to_one.sum())

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Compare each modality with its own memory; in stage II one of them across, and the images of a batch."""
        terms = contrast(self.memories, seen, batch)
        if epoch.stage.name != CROSS:
            return terms
        for name, (weight, memory, features, label) in self.across(seen, batch, epoch).items():
            terms[name] = weight * self.memories[memory].loss(features, label)
        if weight := self.config.relation_weight:
            sizes = [len(part) for part in batch.parts.values()]
            for name, post_bn in zip(batch.parts, seen.post_bn.split(sizes), strict=True):
                features = seen.features[name] if self.config.relation_unit else post_bn
                terms[f"relation_{name}"] = weight * relation_loss(features)
        return terms

    def across(self, seen: Seen, batch: Batch, epoch: Epoch) -> dict[str, tuple[float, str, Tensor, Tensor]]:
        """Return weight, memory, features and labels of the cross-modality and of the hybrid term (quirk Q49)."""
        c, (source, target) = self.config, alternate(epoch)
        if not self.partner:
            return {}
        features, label = seen.features[source], batch.parts[source].drawn.pseudo_label
        partner = self.partner[source][label]
        # clusters of the hybrid memory are numbered as the infrared ones
        hybrid = partner if source == "visible" else label
        terms = {
            "cross": (c.cross_weight, target, features, partner),
            HYBRID: (c.hybrid_weight, HYBRID, features, hybrid),
        }
        return {name: term for name, term in terms.items() if term[0]}

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of the labels in the batch; in stage II first the hybrid ones, then the partners'."""
        if epoch.stage.name == CROSS:
            for _, memory, features, label in reversed(self.across(seen, batch, epoch).values()):
                self.memories[memory].update(features, label)
        move_memories(self.memories, seen, batch)

    presets = {
        "paper": {
            "sysu-mm01": {},
            "llcm": Adapted({"k1": 25}),
            "regdb": {"eps": 0.3, "iterations": 100, "labels_per_batch": 4, "prototype_size": 5},
        },
        "demo": {
            "*": DEMO
            | {"epochs_dual": 4, "epochs_cross": 6, "prototype_size": 5}
            | {"k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "public": {"*": PUBLIC | {"bn_chunks": 2, "stage_init": "best-of-stage"}},
        "plain-memory": {"*": {"double_memory": False}},
        "no-relation": {"*": {"relation_weight": 0.0}},
    }


def moved(before: LabelSpace, after: LabelSpace) -> float:
    """Return how many images have another label."""
    return float((before.labels != after.labels).sum())
