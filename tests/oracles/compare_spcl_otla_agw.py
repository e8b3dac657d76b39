"""Whole small trainings of SpCL, cluster contrast, CA-Jaccard, OTLA, AGW and CAJ beside their public code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from methods.base import TRAIN, Epoch, EpochPlan, FeatureBank, LabelledTrainingData, Method, Stream
from methods.ca_jaccard import CAJaccard
from methods.cluster_contrast import ClusterContrast
from methods.otla import LABEL, OTLA
from methods.spcl import SpCL
from methods.supervised import Supervised
from tests.oracles.cases import (
    Arrays,
    Comparison,
    Differences,
    Mutation,
    configured,
    network,
    seed,
    training_data,
)
from tests.oracles.frozen import (
    TinySingle,
    TinyTwo,
    bank_features,
    case,
    names_of,
    people,
    seeded_state,
    settings_of,
    stable,
)
from tests.oracles.trainings import same_state, similar_state, train, with_images

DATASET = "sysu-mm01"
CONTRAST: dict[str, tuple[type[Method], dict[str, Any]]] = {
    "cc": (ClusterContrast, {"k1": 12, "k2": 4, "eps": 0.5}),
    "spcl": (SpCL, {"k1": 12, "k2": 4, "eps": 0.5}),
    "cajaccard": (CAJaccard, {"k1_intra": 3, "k1_inter": 9, "eps": 0.52}),
}
"""The sizes of the recorded trainings, by the first word of a case's name; ``hard`` in it is the hardest update."""


def epochs_in(arrays: Arrays, key: str) -> range:
    """Return the epochs of which a file has `key`."""
    return range(sum(name.removeprefix(key).isdigit() for name in arrays if name.startswith(key)))


def two_modalities(n_v: int, n_r: int) -> Tensor:
    return torch.tensor([0] * n_v + [1] * n_r)


def integers(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def contrast_trajectories(arrays: Arrays) -> dict[str, float]:
    """SpCL, cluster contrast, CA-Jaccard: labels, losses, memory after every epoch, weights at the end."""
    differences = Differences()
    for name in names_of(arrays):
        contrast_trajectory(differences, name, case(arrays, name))
    return differences.largest


def contrast_trajectory(differences: Differences, name: str, d: Arrays) -> None:
    """One training on the joint set: given features, batches and images."""
    cls, sizes = CONTRAST[name.split("-")[0]]
    changes = sizes | ({"memory_update": "hardest"} if "hard" in name else {}) | settings_of(d)
    identity, n_v = d["identity"], int(d["n_v"])
    backbone = TinyTwo(len(d["final:neck.weight"]))
    backbone.load_state_dict(seeded_state(backbone, 21))
    data = training_data(DATASET, two_modalities(n_v, len(identity) - n_v), integers(d["camera"]))
    with network(lambda *_, **__: backbone):
        method: Any = cls(configured(cls, DATASET, **changes), data)
    (stage,) = cls.stages(method.config)
    made = method.optimisers(stage)
    for e in epochs_in(d, "labels"):
        features = bank_features(40 + e, identity, backbone.dimension)
        bank = FeatureBank(features, data.modality, data.camera, torch.arange(len(data)))
        epoch = Epoch(e, stage, e)
        plan = method.begin_epoch(epoch, bank)
        memory = method.memories["joint"]
        labels = memory.classes if cls is SpCL else plan.labels["joint"]
        differences.equal("labels", labels, d[f"labels{e}"], where=f"{name} epoch {e}")
        (stream,) = plan.streams
        drawn = with_images(stream, integers(d[f"batches{e}"]))
        plan = replaced(plan, drawn)
        losses = [sum(terms.values()) for terms in train(method, plan, epoch, made, [people(31, identity)])]
        differences.close("losses", losses, d[f"loss{e}"], 1e-5, 1e-5, where=f"{name} epoch {e}")
        rows = memory.state("x")["x.rows"] if cls is SpCL else memory.centroids
        differences.close("memory rows", rows, d[f"rows{e}"], 1e-5, where=f"{name} epoch {e}")
        made["model"].schedule.step()
    same_state(differences, "weights", backbone, d, "final:")


def replaced(plan: EpochPlan, stream: Stream) -> EpochPlan:
    """A plan with one stream, as long as what it draws."""
    assert stream.batch_indices is not None
    return replace(plan, streams=(stream,), iterations=len(stream.batch_indices))


def supervised_trajectories(arrays: Arrays) -> dict[str, float]:
    """AGW, its batch-hard baseline, CAJ, CAJ with its KL term: every term, weights at the end."""
    differences = Differences()
    for name in names_of(arrays):
        supervised_trajectory(differences, name, case(arrays, name))
    return differences.largest


def supervised_trajectory(differences: Differences, name: str, d: Arrays) -> None:
    """One training; the first word of its name says which loss, ``kl`` that the KL term counts half."""
    identity, n_v, word = d["identity"], int(d["n_v"]), name.split("-")[0]
    changes: dict[str, Any] = {"iterations": len(d["batches0"])}
    changes |= {"metric_loss": "batch-hard"} if word == "base" else {}
    changes |= {"kl_weight": 0.5} if "kl" in name.split("-") else {}
    config = configured(Supervised, DATASET, *(["caj"] if word == "caj" else []), **changes | settings_of(d))
    backbone = TinyTwo(len(d["final:neck.weight"]))
    backbone.load_state_dict(seeded_state(backbone, 22))
    modality = two_modalities(n_v, len(identity) - n_v)
    data = LabelledTrainingData(
        DATASET, modality, torch.zeros_like(modality), "resnet18", None, seed, identity=integers(identity)
    )
    with mock.patch("methods.supervised.TwoStreamResNet", return_value=backbone):
        method = Supervised(config, data)
    weights = stable(22, "classifier").randn(int(identity.max()) + 1, backbone.dimension)
    with torch.no_grad():
        method.classifier.weight.copy_(torch.from_numpy(0.05 * weights))
    (stage,) = method.stages(config)
    made = method.optimisers(stage)
    views = [people(32, identity), people(33, identity)]
    for e in epochs_in(d, "batches"):
        epoch, drawn = Epoch(e, stage, e), d[f"batches{e}"]
        with mock.patch("methods.supervised.shared_label_batches", lambda *_, drawn=drawn: drawn.copy()):
            plan = method.begin_epoch(epoch, None)  # type: ignore[arg-type]
        terms = train(method, plan, epoch, made, views)
        ours = {"identity": "identity", config.metric_loss: "metric", "kl": "kl"}
        for term in terms[0]:
            recorded = d[f"{ours[term]}{e}"]
            found = [row[term] for row in terms]
            differences.close(f"loss {ours[term]}", found, recorded, 1e-5, 1e-5, where=f"{name} epoch {e}")
        made["model"].schedule.step()
    same_state(differences, "weights", backbone, d, "final:")
    differences.close("classifier", method.classifier.weight, d["classifier"], 1e-5, 1e-5, where=name)


def otla_on(d: Arrays, weights: int, data: Any, config: Any) -> OTLA:
    """OTLA on a small network as wide as the recorded one."""
    widths = [len(d[f"final:necks.{i}.weight"]) for i in range(5)]

    def single(*_: Any, **__: Any) -> TinySingle:
        made = TinySingle(widths)
        made.load_state_dict(seeded_state(made, weights))
        return made

    with mock.patch("methods.otla.SingleStreamResNet", single):
        method = OTLA(config, data)
    method.first = single  # type: ignore[attr-defined]
    return method


def otla_visible(d: Arrays) -> dict[str, float]:
    """OTLA's first stage: classes, labels without singletons, losses, memory, weights."""
    differences = Differences()
    identity, n_v = d["identity"], int(d["n_v"])
    data = training_data(DATASET, two_modalities(n_v, len(identity) - n_v), integers(d["camera"]))
    batch = d["batches0"].shape[1]
    sizes = {"k1": 12, "k2": 4, "eps": 0.5, "visible_batch": batch, "visible_iterations": len(d["batches0"])}
    method = otla_on(d, 23, data, configured(OTLA, DATASET, **sizes | settings_of(d)))
    stage = method.stages(method.config)[0]
    made = method.optimisers(stage)
    for e in epochs_in(d, "labels"):
        features = bank_features(50 + e, identity, method.network.dimension)
        bank = FeatureBank(features, data.modality, data.camera, torch.arange(len(data)))
        epoch = Epoch(e, stage, e)
        plan = method.begin_epoch(epoch, bank)
        differences.equal("classes", method.hybrid.classes, d[f"labels{e}"], where=f"epoch {e}")
        differences.equal("labels", method.labels["visible"], d[f"kept{e}"], where=f"epoch {e}")
        plan = replaced(plan, with_images(plan.streams[0], integers(d[f"batches{e}"])))
        terms = train(method, plan, epoch, made, [people(34, identity, 16, 8)])
        differences.close(
            "losses", [row["spcl"] for row in terms], d[f"loss{e}"], 1e-5, 1e-5, where=f"epoch {e}"
        )
        rows = method.hybrid.state("x")["x.rows"]
        differences.close("memory rows", rows, d[f"rows{e}"], 1e-5, where=f"epoch {e}")
        made["model"].schedule.step()
    # the public network has the last neck alone; the others see no loss
    shallow = tuple(f"final:necks.{i}." for i in range(4))
    same_state(
        differences,
        "weights",
        method.network,
        {key: value for key, value in d.items() if not key.startswith(shallow)},
        "final:",
    )
    return differences.largest


OTLA_TERMS = (
    *(
        "identity_visible",
        "triplet_visible",
        "identity_infrared",
        "triplet_infrared",
        "modality",
        "alignment",
    ),
)


def otla_transport(d: Arrays) -> dict[str, float]:
    """OTLA's second stage: label pass, transport, training; labels, weighted terms, all weights."""
    differences = Differences()
    n_v, n_r, classes, speed = (int(x) for x in d["sizes"])
    identity, iterations = d["identity"], len(d["batches0"])
    modality = two_modalities(n_v, n_r)
    data = training_data(DATASET, modality, torch.zeros_like(modality))
    sizes: dict[str, Any] = {"iterations": iterations, "reversal_speed": speed}
    # so many passes over the larger modality must end after as many iterations as the public code made
    sizes["passes"] = max(1, -(-(iterations - 1) * 32 // max(n_v, n_r)))
    method = otla_on(d, 24, data, configured(OTLA, DATASET, **sizes | settings_of(d)))
    method.labels["visible"] = integers(identity[:n_v])
    assert method.iterations == iterations
    stage = method.stages(method.config)[1]
    made = method.optimisers(stage)
    prepare_heads(method, classes)
    images = [people(35, identity, 16, 8)]
    for e in epochs_in(d, "labels"):
        drawn = d[f"batches{e}"]
        look = Epoch(51 + e, stage, e, LABEL)
        with (
            mock.patch("methods.otla.paired_batches", lambda *_, drawn=drawn, **__: drawn.copy()),
            mock.patch("methods.otla.SingleStreamResNet", method.first),  # type: ignore[attr-defined]
        ):
            plan = method.begin_epoch(look, None)  # type: ignore[arg-type]
        if e == 0:
            method.labels["infrared"] = integers(d["first"])
        train(method, plan, look, made, images)
        epoch = Epoch(51 + e, stage, e, TRAIN)
        plan = method.begin_epoch(epoch, None)  # type: ignore[arg-type]
        differences.equal("labels", method.labels["infrared"], d[f"labels{e}"], where=f"epoch {e}")
        terms = train(method, plan, epoch, made, images)
        found = [[row[name] for name in OTLA_TERMS] for row in terms]
        # rounding grows from step to step, as Adam makes whole steps of gradients that are hardly more than that
        kind, tolerance = ("losses of the first epoch", 1e-4) if e == 0 else ("losses", 1e-3)
        differences.close(kind, found, d[f"loss{e}"], tolerance, where=f"epoch {e}")
        made["model"].schedule.step()
    similar_state(differences, "weights", method.network, d, "final:", 5e-4)
    differences.close("classifier", method.classifier.weight, d["classifier"], 5e-5, 5e-5)
    # the gradient of a bias before a batch norm is rounding, and Adam makes steps of it; the public label pass moves
    # the discriminator's running statistics too, which nobody reads
    read = {key: value for key, value in d.items() if key != "disc:out.bias" and "running" not in key}
    similar_state(differences, "discriminator", method.discriminator, read, "disc:", 1e-3)
    return differences.largest


def prepare_heads(method: OTLA, classes: int) -> None:
    """Give classifier and discriminator their recorded starts; no dropout."""
    drawn = stable(24, "classifier").randn(classes, method.network.dimension)
    with torch.no_grad():
        method.classifier.weight.copy_(torch.from_numpy(0.2 * drawn))
    start = method.discriminator.norm.weight.detach().clone()
    method.discriminator.load_state_dict(seeded_state(method.discriminator, 25))
    with torch.no_grad():
        method.discriminator.norm.weight.copy_(start)
        method.discriminator.norm.bias.zero_()
    method.discriminator.dropout = 0.0


COMPARISONS: dict[str, Comparison] = {
    r"(spcl|cc|cajaccard)(_\w+)?_trajectory\w*": contrast_trajectories,
    r"agw(_\w+)?_trajectory\w*": supervised_trajectories,
    r"otla(?=\w*visible)\w*_trajectory\w*": otla_visible,
    r"otla(?!\w*visible)\w*_trajectory\w*": otla_transport,
}
MUTATIONS = [
    Mutation(
        "CA-Jaccard: the warm-up lasts an epoch more",
        "methods/ca_jaccard.py",
        "epoch.number == 0",
        "epoch.number <= 1",
        ("cajaccard_trajectory",),
    ),
    Mutation(
        "SpCL: the memory begins anew in every epoch",
        "methods/parts/hybrid_memory.py",
        "if not len(self._rows):",
        "if True:",
        ("spcl_trajectory", "otla_trajectory_visible"),
    ),
    Mutation(
        "cluster contrast: momentum 0.9 instead of 0.1",
        "methods/parts/one_stage.py",
        "memory_momentum: float = value(\n        0.1,",
        "memory_momentum: float = value(\n        0.9,",
        ("cc_trajectory", "cajaccard_trajectory"),
    ),
    Mutation(
        "OTLA: the reversed gradient comes in one iteration late",
        "methods/otla.py",
        "+ batch.iteration + 1",
        "+ batch.iteration",
        ("otla_trajectory", "otla_reversal"),
    ),
    Mutation(
        "OTLA: infrared images are trained as their own classes",
        "methods/otla.py",
        "y = part.pseudo_label.chunk(2)[0]\n        visible, infrared = seen.logits.float().chunk(2)",
        "y = part.pseudo_label.chunk(2)[1]\n        visible, infrared = seen.logits.float().chunk(2)",
        ("otla_trajectory",),
    ),
    Mutation(
        "OTLA: the discriminator takes infrared for visible",
        "methods/otla.py",
        "part.modality == VISIBLE, scale",
        "part.modality != VISIBLE, scale",
        ("otla_trajectory",),
    ),
    Mutation(
        "CAJ: visible images teach infrared ones",
        "methods/supervised.py",
        "softened_kl(logits[plain], logits[infrared])",
        "softened_kl(logits[infrared], logits[plain])",
        ("agw_trajectory",),
    ),
]
