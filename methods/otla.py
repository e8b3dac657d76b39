"""OTLA: optimal transport label assignment (Wang et al., ECCV 2022).

Visible images keep fixed pseudo-labels; infrared images are dealt out to the visible classes by a balanced
optimal transport over the classifier's predictions; a modality discriminator behind a reversed gradient and a
prediction alignment loss close the gap. The paper's unsupervised setting takes the visible labels from a
network trained on labelled Market-1501, which is not available here: ours come from SpCL on the visible images
alone, in a stage of its own (quirk Q23).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim import Adam

from methods.association.transport import MeanPredictions
from methods.base import (
    MODALITIES,
    NOISE,
    TRAIN,
    VISIBLE,
    Adapted,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Method,
    Optimisation,
    Phase,
    Reference,
    Stage,
    Step,
    Stream,
    TrainingData,
    timed,
    value,
)
from methods.clustering.labels import n_clusters, scatter_labels
from methods.parts.alignment import ModalityDiscriminator, prediction_alignment, reversal_scale
from methods.parts.backbone import SingleStreamResNet
from methods.parts.config import DEMO_SIZES, FIRST_GALLERY, SelfPacedConfig, WarmUpConfig
from methods.parts.heads import Classifier
from methods.parts.host import to_device
from methods.parts.hybrid_memory import HybridMemory
from methods.parts.losses import batch_hard_triplet
from methods.parts.optimisers import adam_in_steps, warmed_up
from methods.parts.samplers import paired_batches

LABEL = Phase("label")
VIEWS = (("grey-erasing",), ("erasing",))
REGDB = {"iterations": 129, "passes": 2, "visible_iterations": 50, "eps": 0.3, "reversal_speed": 5}
DEMO_STAGES = {"epochs_visible": 4, "visible_iterations": 5, "epochs_transport": 6}


class OTLAConfig(WarmUpConfig, SelfPacedConfig):
    """Hyper-parameters of OTLA; defaults are SYSU-MM01's."""

    visible_labels: Literal["spcl"] = value(
        "spcl",
        "reconstructed",
        "visible labels: SpCL on visible images alone (no labelled source, quirk Q23)",
    )
    epochs_visible: int = value(51, "published code", "epochs of the stage that finds them", ge=1)
    visible_iterations: int = value(800, "published code", "its iterations an epoch", ge=1)
    visible_batch: int = value(64, "published code", "its batch: 4 images of every class", ge=8)
    visible_rate: float = value(3.5e-4, "published code", "its Adam learning rate, x0.1 every 20", gt=0)
    epochs_transport: int = value(81, "published code", "epochs of label assignment and training", ge=1)
    iterations: int = value(696, "published code", "iterations an epoch at most; see passes", ge=1)
    passes: int = value(
        1,
        "published code",
        "iterations: this times max(labelled visible, infrared images) / batch, + 1",
        ge=1,
    )
    labels_per_batch: int = value(4, "published code", "classes in a batch", ge=2)
    instances: int = value(8, "published code", "images of each class and modality", ge=2)
    transport_power: float = value(25.0, "published code", "lambda: exponent of the predictions", gt=0)
    transport_tolerance: float = value(0.1, "published code", "bound that ends the scaling", gt=0)
    label_pass: Literal["train", "eval"] = value(
        "train", "published code", "batch statistics, or running ones, in the label pass (quirk Q25)"
    )
    infrared_identity: float = value(0.1, "published code", "weight of infrared cross entropy", ge=0)
    infrared_triplet: float = value(0.5, "published code", "weight of the infrared triplet", ge=0)
    margin: float = value(0.3, "published code", "margin of the triplets", ge=0)
    alignment_visible: float = value(0.1, "published code", "prediction alignment, first term", ge=0)
    alignment_infrared: float = value(0.5, "published code", "prediction alignment, second term", ge=0)
    reversal_speed: int = value(
        1, "published code", "how fast the reversed gradient comes in (per_add_iters)", ge=1
    )
    learning_rate: float = value(3.5e-3, "published code", "Adam learning rate of necks and heads", gt=0)


@dataclass(frozen=True)
class Predictions:
    """What the networks made of a batch.

    Features (b, width) after the BNNeck of the stem and of each layer, the deepest (b, d) before it, and logits
    (b, classes).
    """

    depths: list[Tensor]
    pooled: Tensor
    logits: Tensor


class OTLA(Method):
    """Optimal transport label assignment, with visible labels from SpCL."""

    name = "otla"
    written = "OTLA"
    summary = (
        "infrared images dealt out to visible clusters by optimal transport, reversed-gradient alignment"
    )
    Config = OTLAConfig
    config: OTLAConfig
    reference = Reference(
        title="Optimal Transport for Label-Efficient Visible-Infrared Person Re-Identification",
        venue="ECCV",
        year=2022,
        parts={
            "network, transport, sampler, losses, optimiser": ("published code", ""),
            "visible labels": (
                "reconstructed",
                "SpCL on visible images alone, on OTLA's own network; the published code adapts SpCL from labelled "
                "Market-1501. Labels of images or of files are not taken",
            ),
            "eps on RegDB": ("adapted", "the value of cluster contrast's visible-infrared descendants"),
            "a transport that prefers no class": ("reconstructed", "infrared labels stay, with a warning"),
            "transport arithmetic": ("harness", "float64 logarithms; published code underflows (quirk Q34)"),
            "stage I": (
                "reconstructed",
                "network, views, neck scale of stage II; SpCL's: its own, with crops, other erasing fill, scale 1",
            ),
            "resizing in training": ("harness", "bicubic, where the published code resizes by Lanczos"),
            "mirrored extraction": (
                "harness",
                "at test and for SpCL's first rows; OTLA's code does not mirror",
            ),
            "selection of the best epoch": FIRST_GALLERY,
            "preset public": (
                "harness",
                "none: every run has rows of its best test epoch (quirk Q10); Q23, Q34 are not rebuilt",
            ),
        },
    )

    def __init__(self, config: OTLAConfig, data: TrainingData) -> None:
        network = first_network(data)
        self.network, self.classifier = network, Classifier(network.dimension)
        self.discriminator = ModalityDiscriminator(network.depth_dimension, data.seed("discriminator"))
        super().__init__(
            config, data, backbone=network, classifier=self.classifier, discriminator=self.discriminator
        )
        self.hybrid = HybridMemory(config)
        # training rows of each modality and their labels in one numbering; all are open at first
        modality = data.modality.cpu()
        self.rows = {name: torch.nonzero(modality == m).flatten() for name, m in MODALITIES.items()}
        self.labels = {name: torch.full((len(rows),), NOISE) for name, rows in self.rows.items()}

    @classmethod
    def stages(cls, config: OTLAConfig) -> Sequence[Stage]:
        """Stage I labels the visible images, stage II starts anew and assigns labels to the infrared ones."""
        visible = Stage("visible", config.epochs_visible, config.visible_iterations)
        return visible, Stage("transport", config.epochs_transport, config.iterations)

    def phases(self, epoch: Epoch) -> Sequence[Phase]:
        """In stage II every epoch looks at the infrared images before it trains."""
        return (LABEL, TRAIN) if epoch.stage.name == "transport" else (TRAIN,)

    def uses_features(self, epoch: Epoch) -> bool:
        """Features start the hybrid memory; from then on the memory and the classifier speak."""
        return epoch.number == 0

    def optimisers(self, stage: Stage) -> Mapping[str, Optimisation]:
        """Make Adam: over the network alone in stage I, with a smaller rate for its body in stage II."""
        c, network = self.config, self.network
        body = [*network.stem.parameters(), *network.trunk.parameters()]
        necks = [p for p in network.necks.parameters() if p.requires_grad]
        if stage.name == "visible":
            return {"model": adam_in_steps([*body, necks[-1]], c.visible_rate, 20, c, stage)}
        if len(self.classifier.weight) != self.classes:
            self.classifier.resize(self.classes, self.data.seed("classifier"))
        discriminator = [p for p in self.discriminator.parameters() if p.requires_grad]
        head = [*necks, self.classifier.weight, *discriminator]
        return {"model": warmed_up(Adam, head, body, c, stage)}

    @property
    def classes(self) -> int:
        """The number of visible classes."""
        return n_clusters(self.labels["visible"])

    @property
    def iterations(self) -> int:
        """Iterations of an epoch of stage II: fewer than configured if visible images have no label."""
        c, labelled = self.config, int((self.labels["visible"] > NOISE).sum())
        larger = max(labelled, len(self.rows["infrared"]))
        return min(c.iterations, c.passes * larger // (c.labels_per_batch * c.instances) + 1)

    def begin_epoch(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Stage I: cluster visible images. Stage II: draw batches and look, then assign infrared labels and train."""
        if epoch.stage.name == "visible":
            return self.label_visible(epoch, bank)
        if epoch.phase == LABEL and epoch.in_stage == 0:
            self.start_transport()
        if self.classes < 2:
            return self.skip(f"{self.classes} clusters of visible images")
        if epoch.phase == LABEL:
            return self.look(epoch)
        with timed("associate"):
            return self.assign()

    def label_visible(self, epoch: Epoch, bank: FeatureBank) -> EpochPlan:
        """Find visible labels by SpCL; labels of an epoch without clusters do not replace earlier ones."""
        c = self.config
        labels = self.hybrid.cluster(bank.of(VISIBLE)).cpu()
        if (classes := n_clusters(labels)) < 2:
            return self.skip(f"{classes} clusters of visible images with eps = {c.eps:.3g}, k1 = {c.k1}")
        self.labels["visible"] = labels
        seed = self.data.seed("visible", epoch.number)
        stream = self.hybrid.stream("visible", c.visible_batch // 4, 4, c.visible_iterations, seed)
        return self.plan("visible", stream, c.visible_iterations)

    def start_transport(self) -> None:
        """Go back to the first weights, and deal out infrared labels at random."""
        self.network.load_state_dict(first_network(self.data).state_dict())
        self.hybrid = HybridMemory(self.config)  # its rows are of no use any more
        classes, size = max(self.classes, 1), (len(self.rows["infrared"]),)
        self.labels["infrared"] = torch.randint(classes, size, generator=self.data.generator("infrared"))

    def look(self, epoch: Epoch) -> EpochPlan:
        """Draw an epoch's batches by the labels of the epoch before (quirk Q24); plan to see their infrared half."""
        c = self.config
        drawn = paired_batches(
            self.labels["visible"].numpy(),
            self.labels["infrared"].numpy(),
            c.labels_per_batch,
            c.instances,
            self.iterations,
            np.random.default_rng(self.data.seed("pairs", epoch.number)),
            blind=epoch.in_stage == 0,  # the infrared labels mean nothing yet
        )
        self.batches = torch.from_numpy(drawn)
        device = self.classifier.weight.device
        self.predictions = MeanPredictions(len(self.rows["infrared"]), self.classes, device)
        half = self.batches.chunk(2, 1)[1]
        infrared = self.stream("infrared", self.rows["infrared"], self.labels["infrared"], half)
        return self.plan("label", infrared, len(self.batches), optimiser=None)

    def assign(self) -> EpochPlan:
        """Transport the mean predictions to labels, which the next epoch draws by; plan training on both halves."""
        c, sampled = self.config, torch.cat([*self.labels.values()])
        before = self.labels["infrared"]
        self.labels["infrared"] = self.predictions.labels(before, c.transport_power, c.transport_tolerance)
        seen, unseen = self.batches.chunk(2, 1)
        batches = torch.cat([seen, unseen + len(self.rows["visible"])], 1)
        both = self.stream("both", torch.cat([*self.rows.values()]), sampled, batches)
        return self.plan("train", both, len(self.batches))

    def stream(self, name: str, rows: Tensor, labels: Tensor, batches: Tensor) -> Stream:
        """Take the batches that were drawn."""
        sizes = self.config.labels_per_batch, self.config.instances
        return Stream(name, name, rows, labels, *sizes, *VIEWS, batch_indices=batches)

    def spaces(self) -> dict[str, Tensor]:
        """Return the labels of all images by modality, and of both together: they share the visible classes."""
        n = len(self.data)
        visible, infrared = (scatter_labels(self.labels[name], rows, n) for name, rows in self.rows.items())
        return {"visible": visible, "infrared": infrared, "joint": torch.maximum(visible, infrared)}

    def plan(self, step: str, stream: Stream, iterations: int, optimiser: str | None = "model") -> EpochPlan:
        """Plan one step on one stream, under the labels as they are."""
        return EpochPlan(self.spaces(), (stream,), (Step(step, (stream.name,), optimiser),), iterations)

    def skip(self, why: str) -> EpochPlan:
        """Plan nothing."""
        return EpochPlan(self.spaces(), (), (), 0, skipped=why)

    def forward(self, batch: Batch) -> Predictions:
        """Run the one stream of a step through network and classifier."""
        (part,) = batch.parts.values()
        if batch.step == "label":
            self.network.train(self.config.label_pass == "train")
        depths, pooled = self.network.depths(part.images)
        self.network.train()
        return Predictions(depths, pooled, self.classifier(depths[-1]))

    def loss(self, seen: Predictions, batch: Batch, epoch: Epoch) -> Mapping[str, Tensor]:
        """Stage I: SpCL's; stage II: identities, triplets, modality, alignment."""
        c, (part,) = self.config, batch.parts.values()
        if batch.step == "visible":
            return {"spcl": self.hybrid.loss(normalize(seen.depths[-1].float()), part.drawn.sample_index)}
        # the visible half's classes count for both halves, position by position
        y = part.pseudo_label.chunk(2)[0]
        visible, infrared = seen.logits.float().chunk(2)
        x_visible, x_infrared = seen.pooled.chunk(2)
        depths = torch.cat(seen.depths, 1)
        # the network forgets the modalities little by little; the first iteration counts as 1
        iteration = epoch.in_stage * self.iterations + batch.iteration + 1
        scale = reversal_scale(iteration * c.reversal_speed)
        dropout = self.data.generator("dropout", epoch.number, batch.iteration)
        return {
            "identity_visible": cross_entropy(visible, y),
            "triplet_visible": batch_hard_triplet(x_visible, y, c.margin),
            "identity_infrared": c.infrared_identity * cross_entropy(infrared, y),
            "triplet_infrared": c.infrared_triplet * batch_hard_triplet(x_infrared, y, c.margin),
            "modality": self.discriminator.loss(depths, part.modality == VISIBLE, scale, dropout),
            "alignment": prediction_alignment(visible, infrared, (c.alignment_visible, c.alignment_infrared)),
        }

    def update(self, seen: Predictions, batch: Batch, epoch: Epoch) -> None:
        """Move the hybrid memory in stage I; collect the predictions of infrared images in the look of stage II."""
        (part,) = batch.parts.values()
        if batch.step == "visible":
            self.hybrid.update(normalize(seen.depths[-1].float()), part.drawn.sample_index)
        elif batch.step == "label":
            row = torch.searchsorted(self.rows["infrared"], part.drawn.sample_index)
            self.predictions.add(to_device(row, seen.logits.device), seen.logits)

    def state(self) -> dict[str, Tensor]:
        """Return the labels, and what SpCL keeps."""
        labels = {f"labels.{name}": labels for name, labels in self.labels.items()}
        return labels | self.hybrid.state("hybrid")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore labels and hybrid memory."""
        self.labels = {name: state[f"labels.{name}"].cpu() for name in MODALITIES}
        self.hybrid.load_state("hybrid", state)

    presets = {
        "paper": {"sysu-mm01": {}, "llcm": Adapted(), "regdb": REGDB},
        "demo": {
            "*": DEMO_SIZES
            | DEMO_STAGES
            | {"labels_per_batch": 8, "reversal_speed": 100, "k1": 12, "k2": 4, "eps": 0.55},
            "regdb": {"k1": 10, "k2": 3, "eps": 0.5},
        },
    }


def first_network(data: TrainingData) -> SingleStreamResNet:
    """Make the network as it starts."""
    return SingleStreamResNet(data.architecture, weights=data.weights, seed=data.seed("backbone"))
