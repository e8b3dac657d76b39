"""N-ULC: neighbour-guided universal label calibration (AAAI 2025, arXiv 2412.12220).

PGM's two stages, with labels that are not trusted. In stage II every hard label is blended with a soft one that an
image's nearest neighbours give, within its modality and across (N-ULC), and every sample counts as far as these
neighbours agree with its label (N-DW).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.matching import Matching, match_clusters
from methods.association.neighbour_labels import SoftLabels, neighbour_labels
from methods.association.neighbours import cross_neighbours
from methods.base import (
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Part,
    Reference,
    Stage,
    Step,
    TrainingData,
    timed,
    value,
)
from methods.clustering import nearest_neighbours
from methods.parts.config import (
    DEMO,
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
    centroids_of,
    cluster_modalities_plainly,
    contrast,
    dual_streams,
    move_memories,
    start_memory,
    two_stages,
)
from methods.parts.host import to_device
from methods.parts.memories import ClusterMemory
from methods.parts.spaces import LabelSpace, bank_row_of, distances_seen, plan, skipped, too_few_clusters
from methods.parts.two_stream import Seen, TwoStreamMethod

VIEWS = (("plain", "jitter-exchange"), ("channel-adapt-gray",))


class NULCConfig(TwoStageConfig):
    """Hyper-parameters of N-ULC; defaults are SYSU-MM01's."""

    memory_momentum: float = value(
        0.2, "published code", "share of the old centroid in an update", ge=0, le=1
    )
    neighbours: int = value(30, "published code", "m: nearest images that give a soft label", ge=1)
    label_share: float = value(
        0.7, "published code", "beta: share of the hard label in a blended one", ge=0, le=1
    )
    weight_sharpness: float = value(
        10.0, "published code", "gamma: how fast a sample loses weight as its neighbours disagree", ge=0
    )
    cross_weight: float = value(3.0, "published code", "lambda: weight of the cross-modality term", ge=0)


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the sum of weighted cross entropies over the number of rows, not over the weights (quirk Q41).

    Parameters
    ----------
    logits, target : float32 tensors (b, clusters)
    weight : float32 tensor (b,)
    """
    with torch.autocast(logits.device.type, enabled=False):
        return -(weight * (target * logits.log_softmax(1)).sum(1)).mean()


class NULC(TwoStreamMethod):
    """Neighbour-guided universal label calibration."""

    name = "nulc"
    written = "N-ULC"
    summary = "matched clusters, with labels softened and samples weighted by what their neighbours say"
    Config = NULCConfig
    config: NULCConfig
    reference = Reference(
        title="Relieving Universal Label Noise for Unsupervised Visible-Infrared Person Re-Identification by "
        "Inferring from Neighbors",
        venue="AAAI",
        year=2025,
        parts={
            "soft labels, sample weights, blended losses": (
                "published code",
                "of the paper only the abstract was read: there soft labels replace the hard ones, here 30 % of them",
            ),
            "weights, shares, neighbours": (
                "published code",
                "as its notes launch it; a run without these options is another method",
            ),
            "soft label of an image of which no neighbour has a cluster": (
                "ours",
                "its own label, with the weight of full disagreement; the published code divides 0 by 0 (quirk Q43)",
            ),
            "network without non-local blocks": (
                "published code",
                "what its scripts import; a folder with them, as in PGM, lies unused beside it",
            ),
            "matching of clusters": (
                "published code",
                "rounds until all have a partner; there three on SYSU-MM01 and two on RegDB (quirks Q26 and Q27)",
            ),
            "cross term, which moves memories whatever a sample weighs": ("published code", "quirk Q28"),
            "equally similar neighbours": ("ours", "the lower number first"),
            "stage II from stage I's last epoch": LAST_EPOCH,
            "features that are clustered": UNIT_AVERAGE,
            "centroids that gradients see": FROZEN_CENTROIDS,
            **network_parts("published code"),
            "colour jitter": (
                "adapted",
                "on tensors; the published code's is on Pillow images, 1.6 of 256 levels apart on average",
            ),
            "selection of the best epoch": (
                "published code",
                "by mean mAP over SYSU-MM01's ten galleries of all search",
            ),
        },
        url="https://arxiv.org/abs/2412.12220",
    )

    def __init__(self, config: NULCConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.memories: dict[str, ClusterMemory] = {}
        self.partner: dict[str, Tensor] = {}
        self.soft: dict[tuple[str, str], SoftLabels] = {}
        """By the modality of the images and that of the clusters."""
        self.row_of: dict[str, Tensor] = {}
        """Row of every training image in the soft labels of its modality."""

    @classmethod
    def stages(cls, config: NULCConfig) -> Sequence[Stage]:
        """Stage I within modalities, stage II with calibrated labels."""
        return two_stages(config)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Cluster each modality, start its memory; in stage II match clusters and ask the neighbours."""
        c = self.config
        spaces = cluster_modalities_plainly(c, bank)
        record = {"eps": c.eps, "k2": float(c.k2)}
        if why := too_few_clusters(spaces):
            return skipped(
                spaces, f"{why} with eps = {c.eps:.3g}, k1 = {c.k1}; {distances_seen(spaces)}", record
            )

        with timed("memory"):
            centroids = centroids_of(spaces)
        generator = self.data.generator("memory", epoch.number, epoch.phase.name)
        self.memories = {name: start_memory(c, rows, generator) for name, rows in centroids.items()}
        if epoch.stage.name == CROSS:
            with timed("associate"):
                matching = match_clusters(centroids["visible"], centroids["infrared"])
            with timed("refine"):
                self.soft = self.ask_neighbours(spaces, matching)
            pairs = {"visible": matching.visible_to_infrared, "infrared": matching.infrared_to_visible}
            self.partner = {name: partner.cpu() for name, partner in pairs.items()}
            self.row_of = {name: bank_row_of(space.bank, len(bank)).cpu() for name, space in spaces.items()}
            record["one_to_one"] = float(matching.one_to_one.sum())
            record |= {
                f"weight_{a}_{b}": float(soft.weight[spaces[a].labels >= 0].mean())
                for (a, b), soft in self.soft.items()
            }

        streams = dual_streams(c, spaces, VIEWS)
        step = Step("dual", tuple(stream.name for stream in streams))
        return plan(spaces, streams, (step,), epoch.stage.iterations, record)

    def ask_neighbours(
        self, spaces: Mapping[str, LabelSpace], matching: Matching
    ) -> dict[tuple[str, str], SoftLabels]:
        """Soften the labels of each modality by its own clusters and by those of the other one."""
        c, visible, infrared = self.config, spaces["visible"], spaces["infrared"]
        v, r = (normalize(space.bank.features) for space in (visible, infrared))
        near = {(name, name): self.own_neighbours(space) for name, space in spaces.items()}
        near["visible", "infrared"], near["infrared", "visible"] = cross_neighbours(v, r, c.neighbours)
        label = {
            ("visible", "visible"): visible.labels,
            ("infrared", "infrared"): infrared.labels,
            ("visible", "infrared"): partner_of(visible.labels, matching.visible_to_infrared),
            ("infrared", "visible"): partner_of(infrared.labels, matching.infrared_to_visible),
        }
        return {
            (a, b): neighbour_labels(near[a, b], spaces[b].labels, label[a, b], c.weight_sharpness)
            for a, b in near
        }

    def own_neighbours(self, space: LabelSpace) -> Tensor:
        """List the nearest images of a modality, the image itself among them; the clustering may have done so."""
        c, lists = self.config, space.neighbours
        m = min(c.neighbours, len(space.bank))
        if lists is None or lists.index.shape[1] < m or not c.renormalise_flip:
            lists = nearest_neighbours(normalize(space.bank.features), m)
        return lists.first(m).index.long()

    def loss(self, seen: Seen, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Cross entropy of each modality against its own memory; in stage II by blended labels, and across too."""
        if epoch.stage.name != CROSS:
            return contrast(self.memories, seen, batch)
        terms = {
            f"cluster_{name}": self.calibrated(name, name, seen, part, part.drawn.pseudo_label)
            for name, part in reversed([*batch.parts.items()])
        }
        if self.crosses(epoch):
            source, target = alternate(epoch)
            part = batch.parts[source]
            partner = self.partner[source][part.drawn.pseudo_label]
            terms["cross"] = self.config.cross_weight * self.calibrated(source, target, seen, part, partner)
        return terms

    def calibrated(self, source: str, target: str, seen: Seen, part: Part, label: Tensor) -> Tensor:
        """Compare images of one modality with a memory, by hard labels blended with soft ones, as they weigh."""
        logits = self.memories[target].logits(seen.features[source], label)
        soft, share = self.soft[source, target], self.config.label_share
        rows = to_device(self.row_of[source][part.drawn.sample_index], logits.device)
        blended = torch.zeros_like(logits).scatter_(1, to_device(label, logits.device)[:, None], 1)
        if share < 1:
            blended = share * blended + (1 - share) * soft.of(rows, logits.shape[1])
        return weighted_cross_entropy(logits, blended, soft.weight[rows])

    def update(self, seen: Seen, batch: Batch, epoch: Epoch) -> None:
        """Move the centroids of hard labels, sample by sample; in stage II those of the partners first."""
        if self.crosses(epoch):
            source, target = alternate(epoch)
            partner = self.partner[source][batch.parts[source].drawn.pseudo_label]
            self.memories[target].update(seen.features[source], partner)
        move_memories(self.memories, seen, batch)

    def crosses(self, epoch: Epoch) -> bool:
        """Whether an epoch has the cross-modality term; without weight its memory updates are left out too."""
        return epoch.stage.name == CROSS and self.config.cross_weight > 0

    presets = {
        "paper": {
            "sysu-mm01": {},
            "llcm": Adapted({"k1": 25}),
            "regdb": {"eps": 0.2, "iterations": 100, "neighbours": 20},
        },
        "demo": {
            "*": DEMO
            | {"epochs_dual": 4, "epochs_cross": 6, "labels_per_batch": 8, "infrared_labels": 8}
            | {"neighbours": 10, "k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
        "public": {"*": PUBLIC | {"stage_init": "best-of-stage"}},
        "hard-labels": {"*": {"label_share": 1.0, "weight_sharpness": 0.0}},
        "no-weights": {"*": {"weight_sharpness": 0.0}},
    }


def partner_of(labels: Tensor, partner: Tensor) -> Tensor:
    """Return the partner (n,) of every image's cluster; noise stays noise."""
    return torch.where(labels >= 0, partner[labels.clamp(min=0)], labels)
