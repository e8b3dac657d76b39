"""One call of the trainers of PCA and MPJL beside ours; DMIC's terms and writes beside MPJL's trainers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from methods.base import Batch, Epoch, FeatureBank, Method, Part
from methods.clustering import Clustering
from methods.dmic import DMIC
from methods.mpjl import MPJL
from methods.pca import PCA
from tests.oracles.cases import (
    Arrays,
    Comparison,
    Differences,
    cases_of,
    configured,
    network,
    training_data,
)
from tests.oracles.compare_dmic import rows_of as rows_of_dmic
from tests.oracles.compare_pca_mpjl import compare_discriminator, rows_of_mpjl, rows_of_pca, set_discriminator
from tests.oracles.trajectories import SPACES, orders, tensor, under

ADAPTED: Mapping[str, tuple[type[Method], dict[str, Any]]] = {
    "pca": (PCA, {"memory_gradient": "in_backward"}),
    "mpjl": (MPJL, {}),
    # weights apart from the terms; a mean a modality, as the trainers have it
    "dmic": (
        DMIC,
        {"joint_instance": "per-modality", "instance_weight": 1.0, "cluster_weight": 1.0}
        # lists that few images can fill: labels are given
        | {"k1": 4, "k2_start": 1, "k2_end": 1, "joint_k2": 1},
    ),
}
JOINT_WEIGHT = 0.7
"""Of the trainers that made the numbers of MPJL and DMIC."""
CLUSTERING = ("methods.mpjl", "methods.dmic", "methods.parts.contrast")
"""Modules that ask for clusters."""


class Pixels(nn.Module):
    """Features are the pixels."""

    dimension = 24

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        features = images.flatten(1) * self.scale
        return features, features


def iterations(arrays: Arrays, name: str) -> dict[str, float]:
    """Terms, gradients and memories of one iteration; of PCA the discriminator too."""
    seen = Differences()
    for case in cases_of(arrays, ".features"):
        iteration(seen, name, under(arrays, f"{case}."), case)
    return seen.largest


def iteration(seen: Differences, name: str, recorded: Arrays, case: str) -> None:
    """Follow one iteration on given labels, memories and images."""
    kind, changes = ADAPTED[name]
    modality = (torch.arange(len(recorded["features"])) >= int(recorded["n_visible"])).long()
    with network(lambda *_, **__: Pixels()):
        method = kind(
            configured(kind, "sysu-mm01", **changes), training_data("sysu-mm01", modality, 1 + modality)
        )
    if isinstance(method, PCA):
        set_discriminator(method.discriminator)
    stage = method.stages(method.config)[int(recorded["stage"]) - 1]
    epoch = Epoch(1000 * int(recorded["stage"]), stage, int(recorded["epoch"]))
    bank = FeatureBank(tensor(recorded["features"]), modality, 1 + modality, torch.arange(len(modality)))
    optimisations = method.optimisers(stage)
    with given_labels(recorded), orders([]):
        plan = method.begin_epoch(epoch, bank)
    for space, rows in (rows_of_pca(method) if isinstance(method, PCA) else rows_of(method)).items():
        if f"memory.{space}" in recorded:
            rows.copy_(tensor(recorded[f"memory.{space}"]))
    spaces = {stream.name: stream.label_space for stream in plan.streams}
    parts = {stream: part_of(recorded, stream, modality, space) for stream, space in spaces.items()}
    terms, forwards = {}, {}
    for step in plan.steps:
        batch = Batch(step.name, 0, {stream: parts[stream] for stream in step.streams})
        optimiser = optimisations[step.optimiser or "model"].optimiser
        optimiser.zero_grad(set_to_none=True)
        forwards[step.name] = forwards[step.reuses] if step.reuses else method.forward(batch)
        with orders(orders_of(recorded, name, batch)):
            found = method.loss(forwards[step.name], batch, epoch)
            torch.stack(list(found.values())).sum().backward()
            if step.optimiser != "model":
                optimiser.step()
            with torch.no_grad():
                method.update(forwards[step.name], batch, epoch)
        terms |= {key: float(term.detach()) for key, term in found.items()}
    compare_terms(seen, method, terms, recorded, case)
    compare_gradients(seen, name, parts, recorded, case)
    memories = rows_of_pca(method) if isinstance(method, PCA) else rows_of(method)
    for space, rows in memories.items():
        seen.close("rows", rows, recorded[f"after.{space}"], 1e-5, where=f"{case} {space}")
    if isinstance(method, PCA) and "D.Liner.weight" in recorded:
        compare_discriminator(seen, method.discriminator, under(recorded, "D."), case)


def rows_of(method: Method) -> dict[str, Tensor]:
    """Return the rows of the memories of DMIC or MPJL."""
    return rows_of_dmic(method) if isinstance(method, DMIC) else rows_of_mpjl(method)  # type: ignore[arg-type]


@contextmanager
def given_labels(recorded: Arrays) -> Iterator[None]:
    """Let clustering find the labels of the case, by the number of samples that it is given."""
    labels = {len(recorded[f"labels.{s}"]): tensor(recorded[f"labels.{s}"], torch.int64) for s in SPACES}

    def found(features: Tensor, **_: object) -> Clustering:
        chosen = labels[len(features)]
        return Clustering(chosen, int(chosen.max()) + 1, 0.0, 0.0)

    with ExitStack() as stack:
        for module in CLUSTERING:
            stack.enter_context(mock.patch(f"{module}.jaccard_clusters", found))
        yield


def part_of(recorded: Arrays, stream: str, modality: Tensor, label_space: str) -> Part:
    """Return a stream's images, which are leaves of the graph, view after view."""
    given = under(recorded, f"batch.{stream}.")
    views, n = given["images"].shape[:2]
    row, label = (tensor(given[key], torch.int64).repeat(views) for key in ("row", "label"))
    images = (
        tensor(given["images"].astype(np.float32)).flatten(0, 1).reshape(views * n, 3, 4, -1).requires_grad_()
    )
    view = torch.arange(views).repeat_interleave(n)
    return Part(images, modality[row], 1 + modality[row], label, row, view, label_space)


def orders_of(recorded: Arrays, name: str, batch: Batch) -> list[np.ndarray]:
    """Return how the public code shuffled the visible images of a step; over both, infrared ones come last."""
    drawn = {s: recorded[f"batch.{s}.order"] for s in batch.parts if f"batch.{s}.order" in recorded}
    if name == "dmic" and "joint-visible" in drawn:
        first = drawn["joint-visible"]
        last = len(first) + np.arange(len(batch.parts["joint-infrared"]))
        drawn["joint-visible"] = np.concatenate([first, last])
    return [*drawn.values()]


def compare_terms(
    seen: Differences, method: Method, terms: Mapping[str, float], recorded: Arrays, case: str
) -> None:
    """Every term that we have, beside the recorded one."""
    theirs = under(recorded, "terms.")
    expected: dict[str, float] = {}
    for space in SPACES[:2]:
        expected[f"cluster_{space}"] = theirs[space][0]
        expected |= (
            {f"instance_{space}": theirs[f"instance_{space}"][0]} if f"instance_{space}" in theirs else {}
        )
    c = method.config
    if "criterion" in theirs:
        expected["discriminator"] = theirs["criterion"][:3].sum()
        if len(theirs["criterion"]) > 3:
            weight = c.adversarial_weight_cross if "joint" in theirs else c.adversarial_weight_dual  # type: ignore[attr-defined]
            expected["adversarial"] = weight * theirs["criterion"][3:].sum()
    if "joint" in theirs and isinstance(method, PCA):
        expected |= {f"cluster_joint-{m}": theirs["joint"][k] for k, m in enumerate(("infrared", "visible"))}
    elif "joint" in theirs:
        weight = JOINT_WEIGHT if isinstance(method, MPJL) else 1.0
        expected["cluster_joint"] = weight * theirs["joint"][0]
        pair = weight * theirs["instance_joint"]
        both = {"instance_joint-infrared": pair[0], "instance_joint-visible": pair[1]}
        expected |= both if isinstance(method, MPJL) else {"instance_joint": pair.sum()}
    assert expected.keys() == terms.keys(), f"{case}: {sorted(expected)}, here {sorted(terms)}"
    for key, value in expected.items():
        seen.close("terms", terms[key], value, 2e-5, where=f"{case} {key}")


def compare_gradients(
    seen: Differences, name: str, parts: Mapping[str, Part], recorded: Arrays, case: str
) -> None:
    """Gradients at the images, relative to the largest of a stream."""
    for stream, part in parts.items():
        if f"gradient.{stream}" not in recorded:
            continue
        theirs = recorded[f"gradient.{stream}"].astype(np.float64).reshape(len(part), -1)
        assert part.images.grad is not None
        weight = JOINT_WEIGHT if name == "dmic" and stream.startswith("joint") else 1.0
        ours = weight * part.images.grad.flatten(1)
        size = max(1e-12, float(np.abs(theirs).max()))
        seen.close("gradients", ours / size, theirs / size, 1e-4, where=f"{case} {stream}")


COMPARISONS: dict[str, Comparison] = {f"{name}_iteration": partial(iterations, name=name) for name in ADAPTED}
