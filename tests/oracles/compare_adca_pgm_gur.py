"""ADCA, PGM and GUR beside their public code: whole small trainings, what their launch scripts ask for, single steps.

In the files a side is visible or infrared, labels are int16 with -1 for noise, and images are in units of 1/64.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods.adca import ADCA
from methods.base import (
    MODALITIES,
    OUTSIDE,
    Batch,
    Epoch,
    EpochPlan,
    FeatureBank,
    Part,
    Phase,
)
from methods.gur import GUR
from methods.parts.backbone import embed
from methods.parts.contrast import start_memory
from methods.pgm import PGM
from methods.values import Optimisation
from tests.oracles.cases import (
    Arrays,
    Comparison,
    Differences,
    Mutation,
    cases_of,
    configured,
    network,
    take_step,
    training_data,
)

METHODS: dict[str, Any] = {"adca": ADCA, "pgm": PGM, "gur": GUR}
CAMERAS: dict[str, dict[str, tuple[int, ...]]] = {
    "sysu-mm01": {"visible": (1, 2, 4, 5), "infrared": (3, 6)},
    "regdb": {"visible": (1,), "infrared": (2,)},
}
GRID, SHAPE = 64.0, (3, 4, 2)
CROSS_WEIGHT = 0.25
"""Of PGM's cross-modality term, which the files hold without it."""


class Toy(nn.Module):
    """Two linear stems, a shared linear map, batch norm without shift: the network of the recorded trainings."""

    dimension = 32

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        self.stems = nn.ModuleDict({side: nn.Linear(24, 32, bias=False) for side in MODALITIES})
        self.shared = nn.Linear(32, 32, bias=False)
        self.neck = nn.BatchNorm1d(32)
        self.neck.bias.requires_grad_(False)
        self.register_buffer("common", torch.zeros(32))

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        rows = {side: (modality == m).nonzero().flatten() for side, m in MODALITIES.items()}
        stemmed = torch.cat([self.stems[side](images[rows[side]].flatten(1)) for side in MODALITIES])
        pooled = self.shared(stemmed)[torch.cat([*rows.values()]).argsort()]
        return self.neck(pooled) + self.common, pooled

    def tensors(self) -> dict[str, Any]:
        """Weights and statistics by the names in the files."""
        return {
            **{side: self.stems[side].weight for side in MODALITIES},
            "shared": self.shared.weight,
            "neck": self.neck.weight,
            "mean": self.neck.running_mean,
            "var": self.neck.running_var,
            "common": self.common,
        }


class Handed(nn.Module):
    """Hands its input on: the images are raw features, so that gradients can be read off them."""

    dimension = 48

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


# -- whole small trainings -----------------------------------------------------------------------------------------


def pixels(values: np.ndarray) -> Tensor:
    """Turn stored images (n, 24) into (n, 3, 4, 2)."""
    return torch.from_numpy(values).float().div(GRID).view(-1, *SHAPE)


@dataclass(frozen=True)
class Training:
    """A recorded training and our method on its images."""

    arrays: Arrays
    method: Any
    images: Tensor
    offset: Mapping[str, int]
    """Row of a side's first image."""
    cameras: Mapping[str, tuple[int, ...]]

    @property
    def toy(self) -> Toy:
        return self.method.backbone

    def at(self, phase: int, key: str) -> np.ndarray:
        return self.arrays[f"p{phase:02d}_{key}"]

    def has(self, phase: int, key: str) -> bool:
        return f"p{phase:02d}_{key}" in self.arrays

    def spaces(self, phase: int) -> list[str]:
        """Label spaces of a phase, as the file calls them."""
        start = f"p{phase:02d}_labels_"
        return [key.removeprefix(start) for key in self.arrays if key.startswith(start)]

    def phase_name(self, phase: int) -> str:
        """The name of a phase; the file numbers the cameras of each side from 0."""
        name = str(self.at(phase, "phase"))
        if not name.startswith("camera"):
            return name
        a, b = map(int, name.split("-")[1:])
        return f"camera-{self.cameras['visible'][a]}-{self.cameras['infrared'][b]}"

    def bank(self) -> FeatureBank:
        """Extract the features of all images as the harness does."""
        data = self.method.data
        self.toy.eval()
        with torch.no_grad():
            found = embed(self.toy, self.images, data.modality, renormalise=self.method.renormalise_flip)
        self.toy.train()
        return FeatureBank(found, data.modality, data.camera, torch.arange(len(found)))


def start_training(cls: Any, dataset: str, variant: str, arrays: Arrays, **sizes: int) -> Training:
    """Make our method at the sizes of a recorded training, with its first weights; `sizes` are its own ones."""
    n = {side: len(arrays[f"base_{side}"]) for side in MODALITIES}
    modality = torch.arange(2).repeat_interleave(torch.tensor([*n.values()]))
    cameras = CAMERAS[dataset]
    camera = torch.cat(
        [
            torch.tensor(cameras[side])[torch.from_numpy(arrays[f"camera_{side}"]).long()]
            for side in MODALITIES
        ]
    )
    instances = int(arrays["size_instances"])
    config = configured(
        cls,
        dataset,
        *(["public"] if variant == "public" else []),
        k1=int(arrays["size_k1"]),
        k2=int(arrays["size_k2"]),
        instances=instances,
        labels_per_batch=int(arrays["size_batch_v"]) // instances,
        infrared_labels=int(arrays["size_batch_r"]) // instances,
        **sizes,
    )
    with network(Toy):
        method = cls(config, training_data(dataset, modality, camera))
    with torch.no_grad():
        for key, tensor in method.backbone.tensors().items():
            tensor.copy_(torch.from_numpy(arrays[f"start_{key}"]))
    images = torch.cat([pixels(arrays[f"base_{side}"]) for side in MODALITIES])
    return Training(arrays, method, images, {"visible": 0, "infrared": n["visible"]}, cameras)


Beside = Callable[[Training, int, Differences, str], None]
"""Compares what a method alone has, at the beginning of a phase."""


def nothing_else(training: Training, p: int, found: Differences, where: str) -> None:
    """Compare nothing beside what all have."""


def epochs_of(training: Training) -> Iterator[tuple[Epoch, list[int]]]:
    """Yield the epochs that were recorded with the numbers of their phases; other epochs were left out."""
    at, method = training.at, training.method
    stages = method.stages(method.config)
    grouped: dict[tuple[int, int], list[int]] = {}
    for phase in range(int(training.arrays["phases"])):
        grouped.setdefault((int(at(phase, "stage")), int(at(phase, "epoch"))), []).append(phase)
    for (stage, in_stage), phases in grouped.items():
        before = sum(s.epochs for s in stages[:stage])
        yield Epoch(before + in_stage, stages[stage], in_stage), phases


def compare_training(training: Training, found: Differences, also: Beside = nothing_else) -> None:
    """Replay the recorded batches of every phase; labels, streams, terms, memories and weights must be equal."""
    method, optimisation, stage = training.method, None, None
    for epoch, recorded in epochs_of(training):
        if epoch.stage is not stage:
            stage, optimisation = epoch.stage, method.optimisers(epoch.stage)["model"]
        assert optimisation is not None
        ours = method.phases(epoch)
        assert [phase.name for phase in ours] == [training.phase_name(p) for p in recorded]
        for phase, p in zip(ours, recorded, strict=True):
            compare_phase(training, replace(epoch, phase=phase), p, optimisation, found, also)
        for key, tensor in training.toy.tensors().items():
            if key != "common":
                close(found, "weights", tensor, training.at(recorded[-1], f"weights_{key}"), str(epoch))
        optimisation.schedule.step()


def close(found: Differences, kind: str, ours: Any, theirs: Any, where: str) -> None:
    """Assert equality up to rounding."""
    found.close(kind, ours, theirs, 1e-5, 1e-5, where)


def compare_phase(
    training: Training,
    epoch: Epoch,
    p: int,
    optimisation: Optimisation,
    found: Differences,
    also: Beside,
) -> None:
    """Plan a phase and train it on the recorded batches."""
    method, at, where = (
        training.method,
        training.at,
        f"{epoch.stage.name} {epoch.in_stage} {epoch.phase.name}",
    )
    found.close("learning rate", optimisation.optimiser.param_groups[0]["lr"], at(p, "lr"), 1e-9, 0, where)
    plan = method.begin_epoch(epoch, training.bank())
    assert not plan.skipped, where
    compare_plan(training, plan, p, found, where)
    also(training, p, found, where)
    for i in range(len(at(p, "loss_visible"))):
        terms = take_step(method, batch_of(training, plan, p, i, found), epoch, optimisation)
        crosses = training.has(p, "loss_cross")
        assert terms.keys() == {"cluster_visible", "cluster_infrared"} | ({"cross"} if crosses else set())
        for side in MODALITIES:
            close(found, "losses", terms[f"cluster_{side}"], at(p, f"loss_{side}")[i], f"{where} {side} {i}")
        if crosses:
            recorded = method.config.cross_weight * at(p, "loss_cross")[i]
            close(found, "losses", terms["cross"], recorded, f"{where} cross {i}")
    for side in MODALITIES:
        rows = method.memories[side].centroids
        close(found, "memories after", rows, at(p, f"memory_{side}_after"), f"{where} {side}")


def compare_plan(training: Training, plan: EpochPlan, p: int, found: Differences, where: str) -> None:
    """Compare labels, streams, first memories and partners of a phase."""
    method, at = training.method, training.at
    for space in training.spaces(p):
        labels = plan.labels[space.removeprefix("camera_")]
        found.equal("labels", labels[labels != OUTSIDE], at(p, f"labels_{space}"), f"{where} {space}")
    assert {stream.name for stream in plan.streams} == {*MODALITIES}
    for stream in plan.streams:
        side, order = stream.name, stream.sample_index.argsort()
        index, label = stream.sample_index[order] - training.offset[side], stream.pseudo_label[order]
        found.equal("streams", index, at(p, f"stream_{side}_index"), f"{where} {side}")
        found.equal("streams", label, at(p, f"stream_{side}_label"), f"{where} {side}")
        rows = method.memories[side].centroids
        close(found, "memories before", rows, at(p, f"memory_{side}_before"), f"{where} {side}")
    shared = method.memories["visible"] is method.memories["infrared"]
    assert shared == bool(at(p, "shared_memory")), f"{where}: one memory for both sides"
    for side, key in (("visible", "visible_to_infrared"), ("infrared", "infrared_to_visible")):
        if training.has(p, key):
            found.equal("partners", method.partner[side], at(p, key), f"{where} {side}")


def batch_of(training: Training, plan: EpochPlan, p: int, i: int, found: Differences) -> Batch:
    """Put iteration `i` of a phase together; labels and numbers of views must be those of our streams."""
    data, parts = training.method.data, {}
    for stream in plan.streams:
        side, n = stream.name, len(training.images)
        rows = torch.from_numpy(training.at(p, f"batch_{side}_index")[i]).long() + training.offset[side]
        label = torch.full((n,), -9).index_put((stream.sample_index,), stream.pseudo_label)[rows]
        found.equal("streams", label, training.at(p, f"batch_{side}_label")[i], f"phase {p} {side} batch {i}")
        images = pixels(training.at(p, f"batch_{side}_images")[i])
        views = len(stream.visible_views if side == "visible" else stream.infrared_views)
        assert len(images) == views * len(rows), f"phase {p} {side}: {views} views"
        parts[side] = Part(
            images,
            data.modality[rows].repeat(views),
            data.camera[rows].repeat(views),
            label.repeat(views),
            rows.repeat(views),
            torch.arange(views).repeat_interleave(len(rows)),
            stream.label_space,
        )
    (step,) = plan.steps
    return Batch(step.name, i, {side: parts[side] for side in step.streams})


# -- what the launch scripts ask for -------------------------------------------------------------------------------

GEOMETRY = "Resize Pad RandomCrop RandomHorizontalFlip"
FLOATS = "ToTensor Normalize ChannelRandomErasing"
PIPELINES = {
    "plain": f"{GEOMETRY} {FLOATS}",
    "channel-exchange": f"{GEOMETRY} {FLOATS} ChannelExchange",
    "channel-adapt-gray": f"{GEOMETRY} {FLOATS} ChannelAdapGray",
    "jitter-exchange": f"{GEOMETRY} ColorJitter {FLOATS} ChannelExchange",
    "jitter-adapt-gray": f"{GEOMETRY} ColorJitter {FLOATS} ChannelAdapGray",
}
"""The public transforms of each of our recipes."""
DECLARED = {
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "step_size": "lr_step",
    "temp": "temperature",
    "momentum": "memory_momentum",
    "k1": "k1",
    "k2": "k2",
    "num_instances": "instances",
}
"""Public option -> our setting."""


def compare_settings(name: str, dataset: str, arrays: Arrays) -> dict[str, float]:
    """Compare the preset ``paper`` with what the public scripts, run by their launch scripts, ask for."""
    cls, found = METHODS[name], Differences()
    c = configured(cls, dataset)
    for key, ours in DECLARED.items():
        found.close("settings", getattr(c, ours), arrays[f"declared_{key}"], 0, 1e-12, key)
    stages = cls.stages(c)
    assert len(stages) == (1 if name == "gur" else 2)
    for stage in stages:
        found.equal("settings", stage.epochs, arrays["declared_epochs"], "epochs")
    for p in range(int(arrays["phases"])):
        compare_phase_settings(c, arrays, p, found)
        compare_views(name, dataset, arrays, p)
    if name == "pgm":
        assert c.cross_weight == CROSS_WEIGHT
        assert c.cross_update == ("hardest" if dataset == "sysu-mm01" else "sequential")
    return found.largest


def compare_phase_settings(c: Any, arrays: Arrays, p: int, found: Differences) -> None:
    """Compare eps, min_samples, batches and iterations of a phase."""
    name = str(arrays[f"p{p:02d}_phase"])
    eps, iterations = (c.camera_eps, c.camera_iterations) if "camera" in name else (c.eps, c.iterations)
    for key in [key for key in arrays if key.startswith(f"p{p:02d}_eps_")]:
        found.close("settings", eps, arrays[key], 0, 1e-12, f"eps {name}")
        found.equal("settings", c.min_samples, arrays[key.replace("_eps_", "_min_samples_")], name)
    for side, *asked in ast.literal_eval(str(arrays["declared_asked"][p])):
        labels = c.labels_per_batch if side == "visible" else c.infrared_labels
        ours = [labels * c.instances, iterations, c.instances]
        found.equal("settings", ours, asked, f"batch, iterations, instances {name} {side}")


def compare_views(name: str, dataset: str, arrays: Arrays, p: int) -> None:
    """Compare the augmentation of each view with the public transforms, on a plan of separable features."""
    modality = torch.arange(2).repeat_interleave(32)
    bank = FeatureBank(torch.eye(8).repeat_interleave(8, 0), modality, modality + 1, torch.arange(64))
    levels = {"camera_level": False} if name == "gur" else {}
    c = configured(METHODS[name], dataset, k1=8, k2=1, **levels)
    with network(Toy):
        method = METHODS[name](c, training_data(dataset, modality, modality + 1))
    stages = method.stages(c)
    stage, in_stage = (int(arrays[f"p{p:02d}_{key}"]) for key in ("stage", "epoch"))
    phase = Phase("modality") if name == "gur" else Phase()
    number = in_stage + (stages[0].epochs if stage else 0)
    public = ast.literal_eval(str(arrays["declared_pipelines"][p]))
    for stream in method.begin_epoch(Epoch(number, stages[stage], in_stage, phase), bank).streams:
        ours = stream.visible_views if stream.name == "visible" else stream.infrared_views
        assert [PIPELINES[view].split() for view in ours] == public[stream.name], f"{stream.name}, phase {p}"


def training_file(name: str, dataset: str, variant: str) -> Comparison:
    """Return the comparison of a file of a whole training, and of the settings that it declares."""

    def compare(arrays: Arrays) -> dict[str, float]:
        settings = compare_settings(name, dataset, arrays)
        found = Differences()
        compare_training(start_training(METHODS[name], dataset, variant, arrays), found)
        return settings | found.largest

    return compare


# -- one iteration on given features -------------------------------------------------------------------------------


def compare_steps(name: str, arrays: Arrays) -> dict[str, float]:
    """Compare terms, gradients of raw features and moved centroids, with and without quirk Q6."""
    found = Differences()
    for case in cases_of(arrays, "_raw_visible"):
        for gradient in ("frozen", "in_backward"):
            compare_step(name, arrays, case, gradient, found)
    return found.largest


def compare_step(name: str, arrays: Arrays, case: str, gradient: str, found: Differences) -> None:
    """Take one step from the rows of a case."""

    def at(key: str) -> np.ndarray:
        return arrays[f"{case}_{key}"]

    # the file tells the update rule; on which data set and in which stage it is in force is ours to know
    dataset = "regdb" if name == "pgm" and str(at("update")) == "sequential" else "sysu-mm01"
    c = configured(METHODS[name], dataset, *(["public"] if gradient == "in_backward" else []))
    with network(Handed):
        method = METHODS[name](c, training_data(dataset, torch.tensor([0, 1]), torch.tensor([1, 2])))
    stages, number = method.stages(c), int(at("stage"))
    in_stage = int(at("epoch"))
    phase = Phase("modality") if name == "gur" else Phase()
    epoch = Epoch(in_stage + sum(s.epochs for s in stages[:number]), stages[number], in_stage, phase)
    rule = c.cross_update if name == "pgm" and number else c.memory_update
    assert rule == str(at("update"))
    found.close("settings", c.memory_momentum, at("momentum"), 1e-12)
    method.memories = {
        side: start_memory(c, torch.from_numpy(at(f"rows_{side}").copy()), torch.Generator(), rule)
        for side in MODALITIES
    }
    if bool(at("shared")):
        method.memories["visible"] = method.memories["infrared"]
    if f"{case}_visible_to_infrared" in arrays:
        maps = (("visible", "visible_to_infrared"), ("infrared", "infrared_to_visible"))
        method.partner = {side: torch.from_numpy(at(key)).long() for side, key in maps}
    raw = {side: torch.from_numpy(at(f"raw_{side}").copy()).requires_grad_() for side in MODALITIES}
    parts = {}
    for side, m in MODALITIES.items():
        same, label = torch.full((len(raw[side]),), m), torch.from_numpy(at(f"label_{side}")).long()
        parts[side] = Part(raw[side], same, same + 1, label, torch.arange(len(same)), same * 0, side)
    terms = take_step(method, Batch("dual", 0, parts), epoch, None)
    wanted = {f"cluster_{side}": at(f"loss_{side}") for side in MODALITIES}
    if f"{case}_loss_cross" in arrays:
        wanted["cross"] = CROSS_WEIGHT * at("loss_cross")
    assert terms.keys() == wanted.keys(), case
    tail = "_frozen" if gradient == "frozen" else ""
    for key, value in wanted.items():
        close(found, "losses", terms[key], value, f"{case} {key}")
    for side in MODALITIES:
        close(found, "gradients", raw[side].grad, at(f"grad_{side}{tail}"), f"{case} {gradient} {side}")
        close(found, "memories after", method.memories[side].centroids, at(f"after_{side}"), f"{case} {side}")


def step_file(name: str) -> Comparison:
    """Return the comparison of a file of single steps."""
    return lambda arrays: compare_steps(name, arrays)


COMPARISONS: dict[str, Comparison] = {
    **{
        rf"{name}_{short}_{variant}": training_file(name, dataset, variant)
        for name in METHODS
        for short, dataset in (("sysu", "sysu-mm01"), ("regdb", "regdb"))
        for variant in ("public", "default")
    },
    **{f"{name}_step": step_file(name) for name in METHODS},
}
MUTATIONS: list[Mutation] = [
    Mutation(
        "centroids keep 0.9 of the old one, not 0.1",
        "methods/parts/update_rules.py",
        "normalize(momentum * rows + (1 - momentum) * features)",
        "normalize((1 - momentum) * rows + momentum * features)",
        (
            "adca_step",
            "gur_step",
            "pgm_sysu_default",
        ),
    ),
    Mutation(
        "features are not made unit before the loss",
        "methods/parts/two_stream.py",
        "features = normalize(post_bn).split(",
        "features = post_bn.split(",
        (
            "adca_sysu_public",
            "gur_step",
        ),
    ),
    Mutation(
        "first centroids are means that nobody makes unit",
        "methods/parts/memories.py",
        "return normalize(cluster_means(features, labels, modality))",
        "return cluster_means(features, labels, modality)",
        (
            "adca_sysu_public",
            "gur_sysu_public",
        ),
    ),
    Mutation(
        "the loss computed last is the infrared one",
        "methods/parts/contrast.py",
        "for name in reversed([*batch.parts])",
        "for name in [*batch.parts]",
        (
            "gur_step",
            "gur_sysu_public",
        ),
    ),
    Mutation(
        "ADCA aggregates in stage I instead of stage II",
        "methods/adca.py",
        "if epoch.stage.name == CROSS:",
        "if epoch.stage.name != CROSS:",
        ("adca_sysu_public",),
    ),
    Mutation(
        "ADCA moves visible centroids to themselves: sides swapped",
        "methods/adca.py",
        'aggregate_rows(centroids["visible"], centroids["infrared"], partner, c.cma_mixing)',
        'aggregate_rows(centroids["visible"], centroids["visible"], partner, c.cma_mixing)',
        ("adca_sysu_public",),
    ),
    Mutation(
        "PGM alternates an epoch early",
        "methods/parts/contrast.py",
        "if epoch.in_stage % 2 else",
        "if not epoch.in_stage % 2 else",
        ("pgm_sysu_default",),
    ),
    Mutation(
        "PGM's hardest update in stage I already",
        "methods/pgm.py",
        "rule = c.cross_update if cross else c.memory_update",
        "rule = c.cross_update",
        ("pgm_sysu_default",),
    ),
    Mutation(
        "PGM's cross term does not move memories",
        "methods/pgm.py",
        "            self.memories[target].update(seen.features[source], partner)\n",
        "",
        ("pgm_sysu_default",),
    ),
    Mutation(
        "GUR's embeddings of features left short",
        "methods/gur.py",
        "memory_embedding(normalize(bank.features), rows,",
        "memory_embedding(bank.features, rows,",
        ("gur_sysu_public",),
    ),
    Mutation(
        "GUR's labels travel an epoch late",
        "methods/gur.py",
        "epoch.in_stage < c.unification_from",
        "epoch.in_stage <= c.unification_from",
        ("gur_sysu_public",),
    ),
    Mutation(
        "GUR's joint level ends an epoch late",
        "methods/gur.py",
        "epoch.in_stage < self.config.joint_until",
        "epoch.in_stage <= self.config.joint_until",
        ("gur_sysu_public",),
    ),
    Mutation(
        "GUR keeps the memories of a camera's first pair, not of its last",
        "methods/gur.py",
        "            self.camera_memories[name][cameras[name]] = memory\n",
        "            self.camera_memories[name].setdefault(cameras[name], memory)\n",
        ("gur_sysu_public",),
    ),
]
