"""RPNR beside its public code: whole small trainings, calibration, matching, double memory, relations, single steps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.matching import match_by_transport, matching_cost
from methods.association.prototypes import density_prototypes, nearest_prototypes
from methods.association.transport import transport_plan
from methods.base import MODALITIES, Batch, Epoch, EpochPlan, FeatureBank, Part
from methods.parts.contrast import cluster_modalities_plainly
from methods.parts.memories import cluster_means
from methods.rpnr import HYBRID, RPNR, DoubleMemory, hybrid_means, relation_loss
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
from tests.oracles.compare_adca_pgm_gur import Handed
from tests.oracles.trajectories import (
    VIEW,
    Optimisers,
    Recording,
    compare_rows,
    compare_weights,
    tensor,
    under,
)

DATASETS = {"sysu": "sysu-mm01", "regdb": "regdb"}
TERMS = ("cluster_infrared", "cluster_visible", "cross", "hybrid", "relation_visible", "relation_infrared")
"""Our names of the terms that are recorded, in their order."""
MEMORIES = ("visible", "infrared", HYBRID)


def labels_of(array: np.ndarray) -> Tensor:
    return tensor(array, torch.int64)


# -- calibration and matching on given inputs ----------------------------------------------------------------------


def calibration(arrays: Arrays, dataset: str) -> dict[str, float]:
    """Density prototypes, means and calibrated labels."""
    found, c = Differences(), configured(RPNR, dataset)
    for case in cases_of(arrays, ".features"):
        given = under(arrays, f"{case}.")
        features, labels = tensor(given["features"]), labels_of(given["labels"])
        prototypes = density_prototypes(features, labels, c.prototype_size, c.density_cut)
        found.close("prototypes", prototypes, given["prototypes"], 1e-6, where=case)
        found.close("means", cluster_means(features, labels), given["means"], 1e-6, where=case)
        calibrated = nearest_prototypes(features, labels, prototypes)
        found.equal("calibrated labels", calibrated, given["calibrated"], case)
    return found.largest


def matching(arrays: Arrays, dataset: str) -> dict[str, float]:
    """Transport plans, their rounds, both maps and hybrid rows."""
    found, c = Differences(), configured(RPNR, dataset)
    limits = c.transport_regularisation, c.transport_tolerance
    for case in cases_of(arrays, ".rounds"):
        given = under(arrays, f"{case}.")
        visible, infrared = (tensor(given[f"means_{side}"]) for side in MODALITIES)
        rows = normalize(visible), normalize(infrared)
        plan, partners = transport_plan(matching_cost(*rows), *limits), match_by_transport(*rows, *limits)
        found.equal("rounds", plan.rounds, given["rounds"], case)
        if "plan" in given:
            found.close("plan", plan.mass * plan.mass.numel(), given["plan"], 1e-5, where=case)
        for key, ours in (("v2r", partners.visible_to_infrared), ("r2v", partners.infrared_to_visible)):
            if key in given:
                found.equal("partners", ours, given[key], f"{case} {key}")
        if "hybrid" in given:
            labels = labels_of(given["calibrated_infrared"])
            hybrid = hybrid_means(visible, infrared, partners.infrared_to_visible, labels)
            found.close("hybrid rows", torch.cat([hybrid, hybrid]), given["hybrid"], 1e-6, where=case)
    return found.largest


# -- losses and updates on given features --------------------------------------------------------------------------


def double_memory(arrays: Arrays, dataset: str) -> dict[str, float]:
    """Loss, gradient of raw features and rows afterwards, with and without quirk Q6."""
    found, c = Differences(), configured(RPNR, dataset)
    for case in cases_of(arrays, ".rows"):
        given = under(arrays, f"{case}.")
        for in_backward in (False, True):
            raw, labels = tensor(given["outputs"]).requires_grad_(), labels_of(given["labels"])
            memory = DoubleMemory(
                tensor(given["rows"]),
                c.temperature,
                c.memory_momentum,
                c.mean_margin,
                in_backward=in_backward,
            )
            features = normalize(raw)
            loss = memory.loss(features, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            memory.update(features, labels)
            found.close("loss of a memory", loss, given["loss"], 1e-5, where=case)
            found.close("gradient of a memory", raw.grad, given["gradient"], 1e-6, where=case)
            found.close("rows", memory.centroids, given["after"], 1e-6, where=case)
    return found.largest


def relations(arrays: Arrays) -> dict[str, float]:
    """Value and gradient of the relation loss."""
    found = Differences()
    for case in cases_of(arrays, ".outputs"):
        given = under(arrays, f"{case}.")
        raw = tensor(given["outputs"]).requires_grad_()
        loss = relation_loss(raw)
        loss.backward()  # type: ignore[no-untyped-call]
        found.close("relation", loss, given["loss"], 0, 1e-5, case)
        close_relative(found, "gradient of the relation (relative)", raw.grad, given["gradient"], 5e-4, case)
    return found.largest


def close_relative(
    found: Differences, kind: str, ours: Tensor | None, theirs: np.ndarray, tolerance: float, where: str
) -> None:
    """Assert closeness relative to the largest entry."""
    assert ours is not None, where
    scale = max(1e-12, float(np.abs(theirs).max()))
    found.close(kind, ours / scale, theirs / scale, tolerance, where=where)


def iterations(arrays: Arrays, dataset: str) -> dict[str, float]:
    """Terms, gradients of raw features and rows after one iteration, with and without quirk Q6."""
    found = Differences()
    for case in cases_of(arrays, ".epoch"):
        given = under(arrays, f"{case}.")
        for gradient in ("frozen", "in_backward"):
            iteration(given, dataset, gradient, found, f"{case} {gradient}")
    return found.largest


def iteration(given: Arrays, dataset: str, gradient: str, found: Differences, where: str) -> None:
    """Take one step from the rows of a case."""
    c = configured(RPNR, dataset, memory_gradient=gradient)
    with network(Handed):
        method = RPNR(c, training_data(dataset, torch.tensor([0, 1]), torch.tensor([1, 2])))
    stages, number, in_stage = method.stages(c), int("v2r" in given), int(given["epoch"])
    epoch = Epoch(in_stage + sum(s.epochs for s in stages[:number]), stages[number], in_stage)
    method.memories = {
        name: DoubleMemory(
            tensor(rows),
            c.temperature,
            c.memory_momentum,
            c.mean_margin,
            in_backward=gradient == "in_backward",
        )
        for name, rows in under(given, "rows.").items()
    }
    if number:
        method.partner = {"visible": labels_of(given["v2r"]), "infrared": labels_of(given["r2v"])}
    raw = {side: tensor(given[f"outputs.{side}"]).requires_grad_() for side in MODALITIES}
    parts = {}
    for side, m in MODALITIES.items():
        label = labels_of(given[f"labels.{side}"])
        same, views = torch.full((len(raw[side]),), m), len(raw[side]) // len(label)
        label = label.repeat(views)
        parts[side] = Part(raw[side], same, same + 1, label, torch.arange(len(same)), same * 0, side)
    terms = take_step(method, Batch("dual", 0, parts), epoch, None)
    compare_terms(
        method, {k: float(v.detach()) for k, v in terms.items()}, given["terms"], 1e-5, found, where
    )
    for side in MODALITIES:
        theirs = given[f"{gradient}.gradient.{side}"]
        close_relative(found, "gradients (relative)", raw[side].grad, theirs, 1e-4, f"{where} {side}")
    for name, rows in under(given, "after.").items():
        found.close("rows", method.memories[name].centroids, rows, 1e-6, where=f"{where} {name}")


def compare_terms(
    method: RPNR,
    terms: Mapping[str, float],
    recorded: np.ndarray,
    tolerance: float,
    found: Differences,
    where: str,
) -> None:
    """Compare all terms without their weights."""
    c = method.config
    weights = dict(
        zip(TERMS, (1, 1, c.cross_weight, c.hybrid_weight, *2 * (c.relation_weight,)), strict=True)
    )
    assert terms.keys() == {*TERMS[: len(recorded)]}, where
    for name, value in zip(TERMS, recorded, strict=False):
        found.close("terms", terms[name] / weights[name], value, tolerance, tolerance, f"{where} {name}")


# -- whole small trainings -----------------------------------------------------------------------------------------


def recording_of(arrays: Arrays) -> Recording:
    """Return a recorded training as one set of images, visible first."""
    joined = {
        key: np.concatenate([arrays[f"{key}.{side}"] for side in MODALITIES]) for key in ("images", "camera")
    }
    sizes = [len(arrays[f"images.{side}"]) for side in MODALITIES]
    return Recording({**first_weights(arrays), **joined, "modality": np.arange(2).repeat(sizes)})


def first_weights(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return the first weights, with the counters of batches that the file leaves out."""
    first = {key: value for key, value in arrays.items() if key.startswith("initial.")}
    norms = [key.removesuffix("running_mean") for key in first if key.endswith("running_mean")]
    return first | {f"{norm}num_batches_tracked": np.array(0) for norm in norms}


def trajectory(arrays: Arrays, dataset: str, variant: str) -> dict[str, float]:
    """Labels, streams, partners, terms, rows and weights of a whole small training."""
    found, recording = Differences(), recording_of(arrays)
    instances = int(arrays["instances"])
    sizes = {side: arrays[f"e0.batch.{side}.row"].shape[1] // instances for side in MODALITIES}
    config = configured(
        RPNR,
        dataset,
        *(["public"] if variant == "public" else []),
        **{key: int(arrays[key]) for key in ("k1", "k2", "iterations", "lr_step")},
        instances=instances,
        labels_per_batch=sizes["visible"],
        infrared_labels=sizes["infrared"],
        # the recorded network ran on one device
        bn_chunks=1,
    )
    method = recording.make(RPNR, config, dataset)
    assert isinstance(method, RPNR)
    stages, optimisers = RPNR.stages(config), Optimisers(method)
    for number in range(sum(key.endswith(".stage") for key in arrays)):
        recorded, where = under(arrays, f"e{number}."), f"epoch {number}"
        stage, in_stage = int(recorded["stage"]) - 1, int(recorded["epoch"])
        epoch = Epoch(in_stage + sum(s.epochs for s in stages[:stage]), stages[stage], in_stage)
        optimisations = optimisers.at(epoch)
        rate = optimisations["model"].optimiser.param_groups[0]["lr"]
        found.close("learning rate", rate, recorded["lr"], 1e-9, where=where)
        found.close("settings", config.eps, recorded["eps"], 1e-6, where=where)
        bank = recording.bank(recording.extract(method).numpy())
        plan = begin(method, epoch, bank, recorded, found, where)
        method.backbone.train()
        (step,) = plan.steps
        for i in range(plan.iterations):
            parts = {name: part_of(recording, plan, recorded, name, i, found) for name in step.streams}
            terms = take_step(method, Batch(step.name, i, parts), epoch, optimisations["model"])
            detached = {name: float(term.detach()) for name, term in terms.items()}
            compare_terms(method, detached, recorded["terms"][i], 1e-5, found, f"{where} iteration {i}")
        compare_rows(found, rows_of(method), recorded, "end", 1e-5, where)
        compare_weights(found, method.backbone, recorded, where)
    return found.largest


def begin(
    method: RPNR, epoch: Epoch, bank: FeatureBank, recorded: Arrays, found: Differences, where: str
) -> EpochPlan:
    """Begin an epoch; compare features, clusters, calibrated labels, streams, partners and first rows."""
    spaces = cluster_modalities_plainly(method.config, bank)
    plan = method.begin_epoch(epoch, bank)
    assert not plan.skipped, where
    streams = {stream.name: stream for stream in plan.streams}
    for side, m in MODALITIES.items():
        features, calibrated = recorded[f"features.{side}"], recorded[f"calibrated.{side}"]
        found.close("features", bank.of(m).features, features, 1e-5, where=f"{where} {side}")
        found.equal("labels", spaces[side].labels, recorded[f"labels.{side}"], f"{where} {side}")
        found.equal("calibrated labels", plan.labels[side][bank.modality == m], calibrated, f"{where} {side}")
        first, kept = int((bank.modality < m).sum()), np.flatnonzero(calibrated >= 0)
        found.equal("streams", streams[side].sample_index - first, kept, f"{where} {side}")
        found.equal("streams", streams[side].pseudo_label, calibrated[kept], f"{where} {side}")
        if (key := {"visible": "v2r", "infrared": "r2v"}[side]) in recorded:
            found.equal("partners", method.partner[side], recorded[key], f"{where} {key}")
    compare_rows(found, rows_of(method), recorded, "start", 1e-5, where)
    return plan


def rows_of(method: RPNR) -> dict[str, Tensor]:
    return {name: memory.centroids for name, memory in method.memories.items()}


def part_of(
    recording: Recording, plan: EpochPlan, recorded: Arrays, side: str, i: int, found: Differences
) -> Part:
    """Return the recorded part of an iteration's batch; labels and number of views must be those of our streams."""
    stream = next(stream for stream in plan.streams if stream.name == side)
    views = stream.visible_views if side == "visible" else stream.infrared_views
    names = ("v", "a") if side == "visible" else ("r",)
    assert len(views) == len(names), side
    first = int((recording.modality < MODALITIES[side]).sum())
    drawn = {key: np.stack([recorded[f"batch.{name}.{key}"] for name in names], 1) for key in VIEW}
    drawn |= {"row": recorded[f"batch.{side}.row"] + first, "label": recorded[f"batch.{side}.label"]}
    label = torch.full((len(recording.modality),), -9).index_put((stream.sample_index,), stream.pseudo_label)
    found.equal("streams", label[labels_of(drawn["row"][i])], drawn["label"][i], f"{side} {i}")
    return recording.part(drawn, i, stream.label_space)


COMPARISONS: dict[str, Comparison] = {
    r"rpnr_\w+_relation": relations,
    **{
        rf"rpnr_{short}_{kind.__name__.removesuffix('s').removeprefix('double_')}": partial(
            kind, dataset=dataset
        )
        for short, dataset in DATASETS.items()
        for kind in (calibration, matching, double_memory, iterations)
    },
    **{
        rf"rpnr_{short}(_\w+)?_{variant}": partial(trajectory, dataset=dataset, variant=variant)
        for short, dataset in DATASETS.items()
        for variant in ("public", "default")
    },
}
MUTATIONS: list[Mutation] = [
    Mutation(
        "RPNR: the densest image last",
        "methods/association/prototypes.py",
        "density.argsort(descending=True, stable=True)",
        "density.argsort(stable=True)",
        ("rpnr_sysu_calibration",),
    ),
    Mutation(
        "RPNR: equally dense images in reverse order",
        "methods/association/prototypes.py",
        "by_density = density.argsort(descending=True, stable=True)",
        "by_density = density.flip(0).argsort(descending=True, stable=True).sub(len(density) - 1).neg()",
        ("rpnr_sysu_calibration",),
    ),
    Mutation(
        "RPNR: memories from calibrated labels",
        "methods/rpnr.py",
        "name: cluster_means(space.bank.features, space.labels) for",
        "name: cluster_means(space.bank.features, self.calibrate(space, len(bank)).labels) for",
        ("rpnr_sysu_public",),
    ),
    Mutation(
        "RPNR: the hard sample is the one farthest from the hard row",
        "methods/rpnr.py",
        "hardest_members(means[touched], features, group)",
        "hardest_members(hard[touched], features, group)",
        ("rpnr_sysu_public",),
    ),
    Mutation(
        "RPNR: no margin",
        "methods/rpnr.py",
        "(cross_entropy(by_mean, target) - self.margin).clamp(min=0)",
        "cross_entropy(by_mean, target)",
        ("rpnr_sysu_public",),
    ),
    Mutation(
        "RPNR: hybrid rows of unit means",
        "methods/rpnr.py",
        "normalize((infrared + visible[partner]) / 2)",
        "normalize(normalize(infrared) + normalize(visible[partner]))",
        ("rpnr_sysu_matching",),
    ),
    Mutation(
        "RPNR: transport with a hundredth of the regularisation",
        "methods/rpnr.py",
        "normalize(visible), normalize(infrared), c.transport_regularisation,",
        "normalize(visible), normalize(infrared), c.transport_regularisation / 100,",
        ("rpnr_sysu_public",),
    ),
    Mutation(
        "transport tests the columns after every round",
        "methods/association/transport.py",
        "    test_every: int = 10,\n    max_rounds",
        "    test_every: int = 1,\n    max_rounds",
        ("rpnr_sysu_matching",),
    ),
    Mutation(
        "RPNR: relations of unit features",
        "methods/rpnr.py",
        "features = seen.features[name] if self.config.relation_unit else post_bn",
        "features = seen.features[name]",
        ("rpnr_sysu_public",),
    ),
]
