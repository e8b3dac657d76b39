"""DMIC beside a second implementation, written from the paper's text alone; its clusters beside the released MIE.

No public code trains DMIC: the trajectories compare two readings of the same text, which must agree.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch

from methods.base import Epoch
from methods.dmic import DMIC, DMICConfig, eps_at, k2_at
from tests.oracles.cases import Arrays, Comparison, Differences, Mutation, configured
from tests.oracles.trajectories import (
    Optimisers,
    Recording,
    compare_plan,
    compare_rows,
    compare_weights,
    learning_rates,
    on_nothing,
    orders,
    take_steps,
    under,
)

DATASETS = {"sysu": "sysu-mm01", "regdb": "regdb"}


def schedule(arrays: Arrays) -> dict[str, float]:
    """eps, k2, k1, joint k2 and the learning rate of every epoch, both stages, both data sets."""
    seen = Differences()
    for key, dataset in DATASETS.items():
        config = configured(DMIC, dataset)
        for number, stage in enumerate(DMIC.stages(config), 1):
            recorded = under(arrays, f"{key}.stage{number}.")
            if not recorded:
                continue
            where, epochs = f"{dataset} stage {number}", range(len(recorded["eps"]))
            assert stage.epochs == len(epochs)
            seen.close("eps", [eps_at(config, stage, e) for e in epochs], recorded["eps"], 1e-9, where=where)
            seen.equal("k2", [k2_at(config, stage, e) for e in epochs], recorded["k2"], where)
            seen.equal("k1", [config.k1] * len(epochs), recorded["k1"], where)
            joint_k2 = config.joint_k2 if number == 2 else -1
            seen.equal("joint k2", [joint_k2] * len(epochs), recorded["joint_k2"], where)
            rates = learning_rates(on_nothing(DMIC, config, dataset), stage)
            seen.close("learning rate", rates, recorded["learning_rate"], 1e-9, where=where)
    assert seen.largest
    return seen.largest


def config_of(arrays: Arrays, dataset: str) -> DMICConfig:
    """Return the configuration of a trajectory: the paper's, with its own small sizes."""
    s = {key: value.item() for key, value in under(arrays, "settings.").items()}
    config: DMICConfig = configured(
        DMIC,
        dataset,
        **{"k1": s["k1"], "joint_k2": s["joint_k2"], "turning_epoch": s["T"]},
        **{"k2_start": s["k2_first"], "k2_end": round(s["k2_first"] * s["sigma_k"])},
        **{"eps": s["high"], "eps_low": s["low"], "labels_per_batch": s["P"], "instances": s["K"]},
        **{"epochs_intra": s["E"], "epochs_joint": s["E"]},
        **{"expansion": s["expansion"], "joint_step": s["joint_step"]},
    )
    assert config.eps * s["sigma_n"] == pytest.approx(config.eps_low)
    assert config.eps_low * s["sigma_b"] == pytest.approx(config.eps)
    return config


def trajectory(arrays: Arrays, dataset: str) -> dict[str, float]:
    """Labels, streams, rows, terms and weights of a whole small training, given features, batches and orders."""
    seen, recording = Differences(), Recording(arrays)
    config = config_of(arrays, dataset)
    method = recording.make(DMIC, config, dataset)
    assert isinstance(method, DMIC)
    stages, optimisers = DMIC.stages(config), Optimisers(method)
    for number in range(int(arrays["epochs"])):
        recorded, where = under(arrays, f"e{number}."), f"epoch {number}"
        in_stage, stage = int(recorded["in_stage"]), stages[int(recorded["stage"]) - 1]
        epoch = Epoch(number, stage, in_stage)
        optimisations = optimisers.at(epoch)
        seen.close("extraction", recording.extract(method), recorded["features"], 1e-5, where=where)
        rate = optimisations["model"].optimiser.param_groups[0]["lr"]
        seen.close("learning rate", rate, recorded["lr"], 1e-12, where=where)
        compare_settings(seen, config, epoch, recorded, where)
        plan = method.begin_epoch(epoch, recording.bank(recorded["features"]))
        compare_plan(seen, recording, plan, recorded, where)
        compare_rows(seen, rows_of(method), recorded, "start", 1e-6, where)
        method.backbone.train()
        for i in range(len(recorded["batch.visible.row"])):
            parts = recording.parts(plan, recorded, i)
            with orders([recorded[f"batch.{space}.order"][i] for space in method.clusters]):
                terms = take_steps(method, plan, epoch, parts, i, optimisations)
            compare_terms(seen, config, terms, recorded, i, where)
        compare_rows(seen, rows_of(method), recorded, "end", 1e-5, where)
        compare_weights(seen, method.backbone, recorded, where)
    return seen.largest


def compare_settings(seen: Differences, c: DMICConfig, epoch: Epoch, recorded: Arrays, where: str) -> None:
    """eps, k1 and k2 of every clustering of an epoch."""
    for space, eps in under(recorded, "eps.").items():
        k2 = c.joint_k2 if space == "joint" else k2_at(c, epoch.stage, epoch.in_stage)
        seen.close("eps", eps_at(c, epoch.stage, epoch.in_stage), eps, 1e-9, where=where)
        seen.equal("k1", c.k1, recorded[f"k1.{space}"], where)
        seen.equal("k2", k2, recorded[f"k2.{space}"], where)


def rows_of(method: DMIC) -> dict[str, torch.Tensor]:
    """Return the rows of all memories by the names that recordings give them."""
    clusters = {name: memory.centroids for name, memory in method.clusters.items()}
    return clusters | {f"instance_{name}": memory.rows for name, memory in method.instances.items()}


def compare_terms(
    seen: Differences, c: DMICConfig, terms: dict[str, float], recorded: Arrays, iteration: int, where: str
) -> None:
    """Every term without its weight, and what the optimiser steps differentiate."""
    found, weighted = under(recorded, "terms."), dict(terms)
    totals = {key: float(value[iteration, 0]) for key, value in found.items() if key.startswith("total")}
    for name, value in found.items():
        if name in totals:
            continue
        key, weight = (
            (name, c.instance_weight) if "instance" in name else (f"cluster_{name}", c.cluster_weight)
        )
        seen.close("terms", weighted.pop(key) / weight, value[iteration, 0], 1e-4, where=f"{where} {name}")
    assert not weighted, f"{where}: terms that the recording has not: {sorted(weighted)}"
    seen.close("total", sum(terms.values()), sum(totals.values()), 1e-4, where=where)


COMPARISONS: dict[str, Comparison] = {
    "dmic_text_schedule": schedule,
    **{
        rf"dmic_text_{key}_trajectory(_\w+)?": partial(trajectory, dataset=dataset)
        for key, dataset in DATASETS.items()
    },
}

SMALL_TRAINING = ("dmic_text_sysu_trajectory",)
MUTATIONS: list[Mutation] = [
    Mutation(
        "DMIC: eps falls and rises in stage I too",
        "methods/dmic.py",
        "falling = stage.epochs if stage.name == INTRA else c.turning_epoch",
        "falling = c.turning_epoch",
        ("dmic_text_schedule", *SMALL_TRAINING),
    ),
    Mutation(
        "DMIC: eps one epoch early",
        "methods/dmic.py",
        "eps, k2 = eps_at(c, epoch.stage, epoch.in_stage), k2_at",
        "eps, k2 = eps_at(c, epoch.stage, epoch.in_stage + 1), k2_at",
        SMALL_TRAINING,
    ),
    Mutation(
        "DMIC: k2 reaches its end in the last epoch",
        "methods/dmic.py",
        "c.k2_end, epoch / stage.epochs",
        "c.k2_end, epoch / (stage.epochs - 1)",
        ("dmic_text_schedule",),
    ),
    Mutation(
        "DMIC: phi_1 and phi_2 the other way round",
        "methods/dmic.py",
        "= c.cluster_weight * cluster",
        "= c.instance_weight * cluster",
        SMALL_TRAINING,
    ),
    Mutation(
        "DMIC: momentum 0.1 in place of 0",
        "methods/dmic.py",
        'memory_momentum: float = value(0.0, "paper (III-D)"',
        'memory_momentum: float = value(0.1, "paper (III-D)"',
        SMALL_TRAINING,
    ),
    Mutation(
        "DMIC: joint rows start from means balanced over modalities",
        "methods/dmic.py",
        "rows = compute_centroids(space.bank.features, space.labels)",
        "rows = compute_centroids(space.bank.features, space.labels, space.bank.modality)",
        SMALL_TRAINING,
    ),
    Mutation(
        "DMIC: instances are not shuffled with the clusters",
        "methods/dmic.py",
        "self.instances[space].update(features[place], drawn.sample_index[order])",
        "self.instances[space].update(features, drawn.sample_index)",
        SMALL_TRAINING,
    ),
    Mutation(
        "DMIC: instance memories live on over epochs",
        "methods/dmic.py",
        "c, rows = self.config, space.bank.features.clone()",
        "c, rows = self.config, space.bank.features.clone()\n"
        "        old = [m.rows for m in self.instances.values() if len(m.rows) == len(rows)]\n"
        "        rows = old[0] if old else rows",
        SMALL_TRAINING,
    ),
    Mutation(
        "MIE: a vote a camera, whatever its modality",
        "methods/clustering/expansion.py",
        "votes = modalities * cameras[:, modality_of] * count",
        "votes = cameras.sum(1, keepdim=True) * count",
        SMALL_TRAINING,
    ),
]
