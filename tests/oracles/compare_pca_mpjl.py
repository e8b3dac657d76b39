"""PCA and MPJL beside their public code: schedules, SBMR, and whole small trainings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods.association.aggregation import refine_rows
from methods.base import Epoch, Method
from methods.mpjl import MPJL, MPJLConfig, settings_at
from methods.pca import PCA, PCAConfig
from tests.oracles.cases import Arrays, Comparison, Differences, Mutation, cases_of, configured
from tests.oracles.trajectories import (
    SPACES,
    Optimisers,
    Recording,
    compare_plan,
    compare_rows,
    compare_weights,
    learning_rates,
    on_nothing,
    orders,
    take_steps,
    tensor,
    under,
    wave,
)

DATASETS = {"sysu": "sysu-mm01", "regdb": "regdb"}
MPJL_TRAINING = "mpjl_sysu_trajectory_five_epochs"


def sbmr(arrays: Arrays) -> dict[str, float]:
    """Rows after the clusters of the other modality have moved them."""
    seen = Differences()
    for case in cases_of(arrays, ".labels_visible"):
        recorded = under(arrays, f"{case}.")
        for name, other in (("visible", "infrared"), ("infrared", "visible")):
            features, labels = tensor(recorded[name]), tensor(recorded[f"labels_{name}"], torch.int64)
            moved = refine_rows(features, labels, tensor(recorded[f"rows_{other}"]))
            seen.close("rows", moved, recorded[f"after_{other}"], 1e-6, where=f"{case} {other}")
    return seen.largest


# ------------------------------------------------------------------------------------------------ schedules


def schedule_pca(arrays: Arrays, dataset: str) -> dict[str, float]:
    """eps, k1, k2, learning rates and iterations of every epoch, as the public script used them."""
    config: PCAConfig = configured(PCA, dataset)
    constant = {
        "eps": config.eps,
        "k1.visible": config.k1,
        "k1.infrared": config.k1,
        "k1.joint": config.joint_k1,
    }
    constant |= {"k2.visible": config.k2, "k2.infrared": config.k2, "k2.joint": config.joint_k2}
    constant["min_samples"] = config.min_samples
    rows = [[constant] * stage.epochs for stage in PCA.stages(config)]
    return compare_schedule(arrays, on_nothing(PCA, config, dataset), rows, ("model", "discriminator"))


def schedule_mpjl(arrays: Arrays, dataset: str) -> dict[str, float]:
    """eps, k1, cap, learning rate and iterations of every epoch, as the public script used them."""
    config: MPJLConfig = configured(MPJL, dataset)
    rows = []
    for stage in MPJL.stages(config):
        rows.append([])
        for epoch in range(stage.epochs):
            now = settings_at(config, stage, epoch)
            row = {"eps": now["eps"], "min_samples": config.min_samples}
            for side in SPACES[:2]:
                row |= {f"k1.{side}": now["k1"], f"kb.{side}": now["cap"]}
            rows[-1].append(row | {"k1.joint": now["joint_k1"], "kb.joint": now["joint_cap"]})
    return compare_schedule(arrays, on_nothing(MPJL, config, dataset), rows, ("model",))


def compare_schedule(
    arrays: Arrays, method: Method, rows: list[list[dict[str, float]]], optimisers: tuple[str, ...]
) -> dict[str, float]:
    """Compare the settings of every epoch of every stage, learning rates and iterations with the recorded ones."""
    seen = Differences()
    stages = method.stages(method.config)
    assert len([key for key in arrays if key.endswith(".iterations")]) == len(stages)
    for number, (stage, settings) in enumerate(zip(stages, rows, strict=True), 1):
        recorded = under(arrays, f"stage{number}.")
        where = f"stage {number}"
        seen.equal("iterations", [stage.iterations] * stage.epochs, recorded["iterations"], where)
        rate_keys = {"model": "learning_rate", "discriminator": "discriminator_rate"}
        for optimiser in optimisers:
            rates = learning_rates(method, stage, optimiser)
            seen.close("learning rates", rates, recorded[rate_keys[optimiser]], 1e-9, where=where)
        for key in settings[0]:
            if key not in recorded:
                assert key.endswith(".joint"), f"{where}: {key} was not recorded"
                continue
            theirs = recorded[key] if recorded[key].ndim == 1 else recorded[key].T
            ours = np.broadcast_to([row[key] for row in settings], theirs.shape)
            seen.close(key.partition(".")[0], ours, theirs, 1e-9, where=f"{where} {key}")
    return seen.largest


# ------------------------------------------------------------------------------------------------ PCA


def set_discriminator(discriminator: nn.Module) -> None:
    """Give a discriminator the weights of the recordings; batch norms whose ReLUs do not flip by rounding."""
    linears = [m for m in discriminator.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in discriminator.modules() if isinstance(m, nn.BatchNorm1d)]
    with torch.no_grad():
        for k, (linear, norm) in enumerate(zip(linears, norms, strict=False)):
            o, i = linear.weight.shape
            linear.weight.copy_(tensor(wave(o * i, 101 + k, 1 / (3 * i) ** 0.5).reshape(o, i)))
            linear.bias.copy_(tensor(wave(o, 201 + k, 1 / (3 * i) ** 0.5)))
            norm.weight.copy_(tensor(0.4 + wave(o, 301 + k, 0.05)))
            norm.bias.copy_(tensor(2 + wave(o, 401 + k, 0.1)))
        linears[-1].weight.copy_(tensor(wave(24, 501, 8**-0.5).reshape(3, 8)))
        linears[-1].bias.copy_(tensor(wave(3, 502, 8**-0.5)))


def summary(weights: Tensor) -> np.ndarray:
    """Return what recordings keep of a discriminator's weights: of matrices some sums and some entries."""
    array = weights.detach().double().numpy()
    if array.ndim < 2:
        return array.reshape(-1)
    return np.concatenate([array.sum(0), array.sum(1), array.reshape(-1)[::997]])


def compare_discriminator(seen: Differences, discriminator: nn.Module, recorded: Arrays, where: str) -> None:
    """Weights and running statistics of the discriminator, relative to the largest of each where that exceeds 1."""
    linears = [m for m in discriminator.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in discriminator.modules() if isinstance(m, nn.BatchNorm1d)]
    pairs = [(linears[-1].weight, "Liner.weight"), (linears[-1].bias, "Liner.bias")]
    for k, name in enumerate(["first_layer", *(f"layers.{k}" for k in range(7))]):
        pairs += [(linears[k].weight, f"{name}.0.weight"), (linears[k].bias, f"{name}.0.bias")]
        kinds = ("weight", "bias", "running_mean", "running_var")
        pairs += [(getattr(norms[k], kind), f"{name}.1.{kind}") for kind in kinds]
    for ours, name in pairs:
        size = max(1.0, float(np.abs(recorded[name]).max()))
        seen.close(
            "discriminator", summary(ours) / size, recorded[name] / size, 2e-3, where=f"{where} {name}"
        )


def trajectory_pca(arrays: Arrays, dataset: str, *, adversary: bool) -> dict[str, float]:
    """Labels, streams, rows, terms, weights and the discriminator of a whole small training."""
    seen, recording = Differences(), Recording(arrays)
    # as published: rows that move in the backward pass, and averages that are shorter than one
    changes: dict[str, Any] = {"memory_gradient": "in_backward", "renormalise_flip": not adversary}
    if not adversary:
        changes |= {"adversarial_weight_dual": 0.0, "adversarial_weight_cross": 0.0}
    method = recording.make(PCA, configured(PCA, dataset, **changes), dataset)
    assert isinstance(method, PCA)
    set_discriminator(method.discriminator)
    stages, optimisers = PCA.stages(method.config), Optimisers(method)
    for number in range(int(arrays["epochs"])):
        recorded, where = under(arrays, f"e{number}."), f"epoch {number}"
        epoch = Epoch(number, stages[int(recorded["stage"]) - 1], int(recorded["in_stage"]))
        plan = method.begin_epoch(epoch, recording.bank(recorded["features"]))
        spaces = method.memories.keys() & set(SPACES) | (
            {"joint"} if "joint-visible" in method.memories else set()
        )
        compare_plan(seen, recording, plan, recorded, where, spaces)
        compare_rows(seen, rows_of_pca(method), recorded, "start", 1e-5, where, spaces)
        for module in method.modules.values():
            module.train()
        optimisations = optimisers.next(epoch)
        for i in range(len(recorded["batch.visible.row"])):
            parts = recording.parts(plan, recorded, i)
            terms = take_steps(method, plan, epoch, parts, i, optimisations)
            compare_terms_of_pca(seen, method, terms, recorded, i, f"{where} iteration {i}")
        compare_rows(seen, rows_of_pca(method), recorded, "end", 1e-5, where, spaces)
        compare_weights(seen, method.backbone, recorded, where)
        if adversary:
            compare_discriminator(seen, method.discriminator, under(recorded, "D."), where)
    return seen.largest


def rows_of_pca(method: PCA) -> dict[str, Tensor]:
    """Return the rows of all memories by the names that recordings give them."""
    return {
        "joint" if name.startswith("joint") else name: memory.centroids
        for name, memory in method.memories.items()
    }


def compare_terms_of_pca(
    seen: Differences, method: PCA, terms: Mapping[str, float], recorded: Arrays, i: int, where: str
) -> None:
    """Contrast, the discriminator's loss and the network's, whose weight is in our term."""
    for space in SPACES[:2]:
        seen.close("terms", terms[f"cluster_{space}"], recorded[f"terms.{space}"][i, 0], 1e-4, where=where)
    if "terms.joint" in recorded:
        for k, stream in enumerate(("joint-infrared", "joint-visible")):
            seen.close("terms", terms[f"cluster_{stream}"], recorded["terms.joint"][i, k], 1e-4, where=where)
    if "terms.criterion" not in recorded:
        return
    played = recorded["terms.criterion"][i]
    seen.close("discriminator's loss", terms["discriminator"], played[:3].sum(), 1e-4, where=where)
    if len(played) > 3:
        c = method.config
        weight = c.adversarial_weight_cross if "terms.joint" in recorded else c.adversarial_weight_dual
        seen.close("adversarial term", terms["adversarial"], weight * played[3:].sum(), 1e-4, where=where)


# ------------------------------------------------------------------------------------------------ MPJL


def trajectory_mpjl(arrays: Arrays, dataset: str) -> dict[str, float]:
    """Labels, streams, rows, terms and weights of the stages of a small training; each starts from public weights."""
    seen, recording = Differences(), Recording(arrays)
    numbers = range(int(arrays["epochs"]))
    config: MPJLConfig = configured(MPJL, dataset)
    stages = MPJL.stages(config)
    for stage_number in sorted({int(arrays[f"e{k}.stage"]) for k in numbers}):
        mine = [k for k in numbers if int(arrays[f"e{k}.stage"]) == stage_number]
        method = recording.make(MPJL, config, dataset)
        assert isinstance(method, MPJL)
        if mine[0]:
            recording.load(method, f"e{mine[0] - 1}.weights.")
        optimisers = Optimisers(method)
        for number in mine:
            recorded, where = under(arrays, f"e{number}."), f"epoch {number}"
            epoch = Epoch(number, stages[stage_number - 1], int(recorded["in_stage"]))
            epoch_of_mpjl(seen, recording, method, epoch, recorded, optimisers, where)
    return seen.largest


def epoch_of_mpjl(
    seen: Differences,
    recording: Recording,
    method: MPJL,
    epoch: Epoch,
    recorded: Arrays,
    optimisers: Optimisers,
    where: str,
) -> None:
    """Follow one epoch."""
    with orders([]):  # the random member is the first one
        plan = method.begin_epoch(epoch, recording.bank(recorded["features"]))
    compare_plan(seen, recording, plan, recorded, where, set(plan.labels))
    compare_rows(seen, rows_of_mpjl(method), recorded, "start", 1e-5, where, set(plan.labels))
    method.backbone.train()
    optimisations = optimisers.next(epoch)
    for i in range(len(recorded["batch.visible.row"])):
        parts = recording.parts(plan, recorded, i)
        drawn = [recorded[f"batch.{name}.order"][i] for name in parts if f"batch.{name}.order" in recorded]
        with orders(drawn):
            terms = take_steps(method, plan, epoch, parts, i, optimisations)
        compare_terms_of_mpjl(seen, method, terms, recorded, i, f"{where} iteration {i}")
    compare_rows(seen, rows_of_mpjl(method), recorded, "end", 1e-5, where, None)
    compare_weights(seen, method.backbone, recorded, where)


def rows_of_mpjl(method: MPJL) -> dict[str, Tensor]:
    """Return the rows of all memories by the names that recordings give them."""
    clusters = {name: memory.centroids for name, memory in method.clusters.items()}
    return clusters | {f"instance_{name}": memory.rows for name, memory in method.instances.items()}


def compare_terms_of_mpjl(
    seen: Differences, method: MPJL, terms: Mapping[str, float], recorded: Arrays, i: int, where: str
) -> None:
    """Every term; joint ones with their weight."""
    expected = {}
    for space in SPACES[:2]:
        expected[f"cluster_{space}"] = recorded[f"terms.{space}"][i, 0]
        expected[f"instance_{space}"] = recorded[f"terms.instance_{space}"][i, 0]
    if "terms.joint" in recorded:
        weight = method.config.joint_weight
        expected["cluster_joint"] = weight * recorded["terms.joint"][i, 0]
        for k, stream in enumerate(("joint-infrared", "joint-visible")):
            expected[f"instance_{stream}"] = weight * recorded["terms.instance_joint"][i, k]
    assert expected.keys() == terms.keys(), where
    for name, value in expected.items():
        seen.close("terms", terms[name], value, 1e-4, where=f"{where} {name}")


COMPARISONS: dict[str, Comparison] = {
    "mpjl_sbmr": sbmr,
    **{f"pca_{key}_schedule": partial(schedule_pca, dataset=d) for key, d in DATASETS.items()},
    **{f"mpjl_{key}_schedule": partial(schedule_mpjl, dataset=d) for key, d in DATASETS.items()},
    **{
        rf"pca_{key}_trajectory.*": partial(trajectory_pca, dataset=d, adversary=True)
        for key, d in DATASETS.items()
    },
    **{
        rf"pca_{key}_noadversary.*": partial(trajectory_pca, dataset=d, adversary=False)
        for key, d in DATASETS.items()
    },
    **{rf"mpjl_{key}_trajectory.*": partial(trajectory_mpjl, dataset=d) for key, d in DATASETS.items()},
}
MUTATIONS: list[Mutation] = [
    Mutation(
        "PCA: the discriminator sees a kind of views at a time",
        "methods/pca.py",
        "own = scores[rows_where(view_class == k, scores.device)]",
        "own = discriminator(post_bn[rows_where(view_class == k, scores.device)]).float()",
        ("pca_sysu_trajectory",),
    ),
    Mutation(
        "PCA: the network plays one epoch late",
        "methods/pca.py",
        "epoch.in_stage >= config.adversarial_from",
        "epoch.in_stage > config.adversarial_from",
        ("pca_sysu_trajectory",),
    ),
    Mutation(
        "PCA: infrared and augmented images change classes",
        "methods/pca.py",
        'VIEW_CLASS = {"visible": 0, "infrared": 1, "augmented": 2}',
        'VIEW_CLASS = {"visible": 0, "infrared": 2, "augmented": 1}',
        ("pca_sysu_trajectory",),
    ),
    Mutation(
        "PCA: joint rows start from plain means",
        "methods/parts/contrast.py",
        "rows = compute_centroids(bank.features, joint.labels, bank.modality)",
        "rows = compute_centroids(bank.features, joint.labels)",
        ("pca_sysu_trajectory",),
    ),
    Mutation(
        "PCA: joint clusters from plain expansion",
        "methods/parts/contrast.py",
        "expansion=ModalityMean(config.joint_k2, bank.modality),",
        "expansion=ModalityMean(config.joint_k2, torch.zeros_like(bank.modality)),",
        ("pca_sysu_trajectory",),
    ),
    Mutation(
        "MPJL: SBMR waits for stage III",
        "methods/mpjl.py",
        "if epoch.stage.name != FIRST:",
        "if epoch.stage.name == THIRD:",
        (MPJL_TRAINING,),
    ),
    Mutation(
        "MPJL: one forward pass in stage III",
        "methods/mpjl.py",
        "return forward_apart(super().forward, batch)",
        "return super().forward(batch)",
        (MPJL_TRAINING,),
    ),
    Mutation(
        "MPJL: visible before infrared in the joint writes is turned round",
        "methods/parts/hierarchy.py",
        "chosen = [one for one in queries.values() if one.label_space == space]",
        "chosen = [one for one in [*queries.values()][::-1] if one.label_space == space]",
        (MPJL_TRAINING,),
    ),
    Mutation(
        "MPJL: instance memories begin anew in every epoch",
        "methods/mpjl.py",
        "rows = self.instances[name].rows if name in self.instances else start",
        "rows = start",
        (MPJL_TRAINING,),
    ),
    Mutation(
        "MPJL: eps falls a tenth too slowly after stage I",
        "methods/mpjl.py",
        "falling = c.eps_span if stage == FIRST else c.turning_epoch",
        "falling = c.eps_span if stage == FIRST else c.turning_epoch + 1",
        ("mpjl_sysu_schedule", MPJL_TRAINING),
    ),
    Mutation(
        "MPJL: joint terms weigh 1",
        "methods/parts/hierarchy.py",
        "weight, space = joint_weight if",
        "weight, space = 1.0 if",
        (MPJL_TRAINING,),
    ),
]
