"""N-ULC beside its public code: whole small trainings, what its notes ask for, single steps, soft labels, partners.

The trainings are recorded as those of PGM are, with soft labels and sample weights beside.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.matching import Matching, match_clusters
from methods.association.neighbour_labels import SoftLabels
from methods.base import MODALITIES, Batch, Epoch, FeatureBank, Part
from methods.nulc import NULC, VIEWS
from methods.parts.contrast import start_memory
from methods.parts.spaces import by_modality, label_space
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
from tests.oracles.compare_adca_pgm_gur import (
    PIPELINES,
    Handed,
    Training,
    close,
    compare_training,
    start_training,
)

DATASETS = {"sysu": "sysu-mm01", "regdb": "regdb"}
DECLARED = {
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "step_size": "lr_step",
    "temp": "temperature",
    "momentum": "memory_momentum",
    "k1": "k1",
    "k2": "k2",
    "num_instances": "instances",
    "iters": "iterations",
    "eps": "eps",
}
CALIBRATION = {
    "neighbour": "neighbours",
    "lambda1": "cross_weight",
    "balance": "label_share",
    "coe": "weight_sharpness",
}
"""Public option -> our setting, in both stages; then in stage II."""
TEST = "Resize ToTensor Normalize"
"""The public transforms of images that are tested or clustered."""
KINDS = {
    ("visible", "visible"): "visible",
    ("infrared", "infrared"): "infrared",
    ("visible", "infrared"): "visible_cross",
    ("infrared", "visible"): "infrared_cross",
}
"""Images' and clusters' modality -> how the files call their soft labels."""


# -- whole small trainings, and what the notes ask for -------------------------------------------------------------


def compare_file(arrays: Arrays, dataset: str, variant: str) -> dict[str, float]:
    """Compare the settings that a file declares, and the whole training."""
    found = Differences()
    compare_settings(dataset, arrays, found)
    training = start_training(NULC, dataset, variant, arrays, neighbours=int(arrays["size_neighbours"]))
    compare_training(training, found, compare_soft_labels)
    return found.largest


def compare_settings(dataset: str, arrays: Arrays, found: Differences) -> None:
    """Compare the preset ``paper`` with what the public scripts, launched by the notes, ask for."""
    c = configured(NULC, dataset)
    for number, stage in enumerate(NULC.stages(c), 1):
        found.equal("settings", stage.epochs, arrays[f"declared_stage{number}_epochs"], "epochs")
        options = DECLARED | CALIBRATION if number == 2 else DECLARED
        for key, ours in options.items():
            if (name := f"declared_stage{number}_{key}") in arrays:
                found.close("settings", getattr(c, ours), arrays[name], 0, 1e-12, name)
    for p in range(int(arrays["phases"])):
        for side in MODALITIES:
            found.close("settings", c.eps, arrays[f"p{p:02d}_eps_{side}"], 0, 1e-12, "eps")
            found.equal("settings", c.min_samples, arrays[f"p{p:02d}_min_samples_{side}"], "min_samples")
    for text in map(str, arrays["declared_asked"]):
        side, _, *asked = text.split()
        labels = c.labels_per_batch if side == "visible" else c.infrared_labels
        ours = [labels * c.instances, c.iterations, c.instances]
        found.equal("settings", ours, [int(number) for number in asked[::2]], text)
    # parameters of the transforms are compared with those of the codes that this one shares them with
    public = {re.sub(r"\(.*?\)", "", str(text)) for text in arrays["declared_pipelines"]}
    ours = {" | ".join(PIPELINES[view] for view in views) for views in VIEWS}
    assert ours == public - {TEST}, public


def compare_soft_labels(training: Training, p: int, found: Differences, where: str) -> None:
    """Compare soft labels and weights of all images at the beginning of a phase of stage II."""
    if training.has(p, "soft_visible"):
        compare_tables(training.method.soft, {key: training.at(p, key) for key in keys_of()}, found, where)


def keys_of() -> list[str]:
    """Name the arrays of soft labels and weights."""
    return [f"{what}_{kind}" for what in ("soft", "weight") for kind in KINDS.values()]


def compare_tables(soft: Any, recorded: Arrays, found: Differences, where: str) -> None:
    """Compare soft labels where the public code has any, and weights where those are numbers."""
    for sides, kind in KINDS.items():
        ours, theirs = soft[sides], recorded[f"soft_{kind}"]
        dense = ours.of(torch.arange(len(theirs)), theirs.shape[1]).numpy()
        defined = np.isfinite(theirs).all(1)
        found.close("soft labels", dense[defined], theirs[defined], 1e-6, where=f"{where} {kind}")
        weight = recorded[f"weight_{kind}"]
        known = np.isfinite(weight)
        found.close(
            "sample weights", ours.weight.numpy()[known], weight[known], 2e-6, where=f"{where} {kind}"
        )


# -- one iteration on given features -------------------------------------------------------------------------------


def compare_steps(arrays: Arrays) -> dict[str, float]:
    """Compare terms, gradients of raw features and moved centroids, with and without quirk Q6."""
    found = Differences()
    for case in cases_of(arrays, "_raw_visible"):
        values = {key.removeprefix(f"{case}_"): v for key, v in arrays.items() if key.startswith(f"{case}_")}
        for gradient in ("frozen", "in_backward"):
            compare_step(values, gradient, found, f"{case} {gradient}")
    return found.largest


def compare_step(values: Arrays, gradient: str, found: Differences, where: str) -> None:
    """Take one step from the rows of a case."""
    given = {key: float(values[key]) for key in ("label_share", "cross_weight") if key in values}
    c = configured(NULC, "sysu-mm01", memory_gradient=gradient, **given)
    assert c.memory_update == str(values["update"]), where
    assert not bool(values["shared"]), where
    found.close("settings", c.memory_momentum, values["momentum"], 1e-12)
    sizes = {side: len(values[f"label_{side}"]) for side in MODALITIES}
    with network(Handed):
        method = NULC(c, training_data("sysu-mm01", torch.tensor([0, 1]), torch.tensor([1, 2])))
    stages, number, in_stage = method.stages(c), int(values["stage"]), int(values["epoch"])
    epoch = Epoch(in_stage + sum(s.epochs for s in stages[:number]), stages[number], in_stage)
    method.memories = {
        side: start_memory(c, torch.from_numpy(values[f"rows_{side}"].copy()), torch.Generator())
        for side in MODALITIES
    }
    if number:
        maps = (("visible", "visible_to_infrared"), ("infrared", "infrared_to_visible"))
        method.partner = {side: torch.from_numpy(values[key]).long() for side, key in maps}
        method.soft = {sides: table(values, kind) for sides, kind in KINDS.items()}
        # an image of the batch has a row for all its views
        images = {side: len(values[f"soft_{side}"]) for side in MODALITIES}
        method.row_of = {side: torch.arange(sizes[side]) % images[side] for side in MODALITIES}
    raw = {side: torch.from_numpy(values[f"raw_{side}"].copy()).requires_grad_() for side in MODALITIES}
    parts = {}
    for side, m in MODALITIES.items():
        same, label = torch.full((sizes[side],), m), torch.from_numpy(values[f"label_{side}"]).long()
        parts[side] = Part(raw[side], same, same + 1, label, torch.arange(len(same)), same * 0, side)
    terms = take_step(method, Batch("dual", 0, parts), epoch, None)
    wanted = {f"cluster_{side}": values[f"loss_{side}"] for side in MODALITIES}
    if number and c.cross_weight:
        wanted["cross"] = c.cross_weight * values["loss_cross"]
    assert terms.keys() == wanted.keys(), where
    for key, value in wanted.items():
        close(found, "losses", terms[key], value, f"{where} {key}")
    close(found, "losses", sum(terms.values()), values["loss"], where)
    tail = "_frozen" if gradient == "frozen" else ""
    for side in MODALITIES:
        found.close("gradients", raw[side].grad, values[f"grad_{side}{tail}"], 2e-6, where=f"{where} {side}")
        rows = method.memories[side].centroids
        found.close("memories after", rows, values[f"after_{side}"], 2e-6, where=f"{where} {side}")


def table(values: Arrays, kind: str) -> SoftLabels:
    """Return given soft labels and weights as our method keeps them."""
    share = torch.from_numpy(values[f"soft_{kind}"].copy())
    clusters = torch.arange(share.shape[1]).expand(share.shape)
    return SoftLabels(clusters, share, torch.from_numpy(values[f"weight_{kind}"].copy()))


# -- soft labels and partners on given inputs ----------------------------------------------------------------------


def compare_soft(arrays: Arrays) -> dict[str, float]:
    """Compare soft labels and weights; where the public code divides 0 by 0, ours are the labels themselves."""
    found = Differences()
    for case in cases_of(arrays, "_neighbours"):
        values = {key.removeprefix(f"{case}_"): v for key, v in arrays.items() if key.startswith(f"{case}_")}
        labels = {side: torch.from_numpy(values[f"labels_{side}"]).long() for side in MODALITIES}
        maps = [torch.from_numpy(values[k]).long() for k in ("visible_to_infrared", "infrared_to_visible")]
        soft = soft_labels(values, labels, Matching(*maps))
        used = {
            ("visible", "visible"): labels["visible"],
            ("infrared", "infrared"): labels["infrared"],
            ("visible", "infrared"): partner(labels["visible"], maps[0]),
            ("infrared", "visible"): partner(labels["infrared"], maps[1]),
        }
        recorded = {key: values[key] for key in keys_of()}
        for sides, kind in KINDS.items():
            undefined = torch.from_numpy(~np.isfinite(values[f"soft_{kind}"]).all(1))
            compare_undefined(soft[sides], used[sides], undefined, float(values["sharpness"]), found, case)
            weight = recorded[f"weight_{kind}"].copy()
            weight[undefined.numpy()] = np.nan
            recorded[f"weight_{kind}"] = weight
        compare_tables(soft, recorded, found, case)
    return found.largest


def soft_labels(values: Arrays, labels: dict[str, Tensor], matching: Matching) -> Any:
    """Ask the neighbours in given features, which are not of unit length."""
    features = [torch.from_numpy(values[f"features_{side}"]) for side in MODALITIES]
    modality = torch.arange(2).repeat_interleave(torch.tensor([len(f) for f in features]))
    n = len(modality)
    bank = FeatureBank(torch.cat(features), modality, modality + 1, torch.arange(n))
    m, sharpness = int(values["neighbours"]), float(values["sharpness"])
    c = configured(NULC, "sysu-mm01", "public", neighbours=m, weight_sharpness=sharpness)
    with network(Handed):
        method = NULC(c, training_data("sysu-mm01", modality, modality + 1))
    spaces = {side: label_space(part, labels[side], n) for side, part in by_modality(bank).items()}
    return method.ask_neighbours(spaces, matching)


def partner(labels: Tensor, other: Tensor) -> Tensor:
    """Map labels to partners; noise stays."""
    return torch.tensor([int(other[y]) if y >= 0 else -1 for y in labels.tolist()])


def compare_undefined(
    soft: SoftLabels, label: Tensor, undefined: Tensor, sharpness: float, found: Differences, where: str
) -> None:
    """Images of which no neighbour has a cluster: their own label, and the weight of full disagreement."""
    rows = undefined.nonzero().flatten()
    clusters = int(max(soft.cluster.max(), label.max())) + 1
    known = label[rows] >= 0
    wanted = torch.nn.functional.one_hot(label[rows].clamp(min=0), clusters) * known[:, None]
    found.close("undefined soft labels", soft.of(rows, clusters), wanted, 0, where=where)
    wanted = known * float(np.exp(-sharpness))
    found.close("undefined soft labels", soft.weight[rows], wanted, 2e-6, where=where)


def compare_partners(arrays: Arrays) -> dict[str, float]:
    """Compare the maps of both scripts, as far as these came."""
    found = Differences()
    for case in cases_of(arrays, "_rows_visible"):
        rows = [normalize(torch.from_numpy(arrays[f"{case}_rows_{side}"])) for side in MODALITIES]
        matching = match_clusters(*rows)
        ours = {
            "visible_to_infrared": matching.visible_to_infrared,
            "infrared_to_visible": matching.infrared_to_visible,
        }
        assert all(bool((partners >= 0).all()) for partners in ours.values()), case
        for dataset in DATASETS.values():
            theirs = {key: arrays[f"{case}_{dataset}_{key}"] for key in ours}
            if str(arrays[f"{case}_{dataset}_died"]) and all((x < 0).all() for x in theirs.values()):
                continue
            smaller = min(theirs, key=lambda key: len(theirs[key]))
            complete = all((partners >= 0).all() for partners in theirs.values())
            for key in theirs if complete else [smaller]:
                found.equal("partners", ours[key], theirs[key], f"{case} {dataset} {key}")
    return found.largest


COMPARISONS: dict[str, Comparison] = {
    **{
        rf"nulc_{short}(_\w+)?_{variant}": partial(compare_file, dataset=dataset, variant=variant)
        for short, dataset in DATASETS.items()
        for variant in ("public", "default")
    },
    r"nulc_\w+_step": compare_steps,
    r"nulc_\w+_soft": compare_soft,
    r"nulc_\w+_match": compare_partners,
}
MUTATIONS: list[Mutation] = [
    Mutation(
        "N-ULC: hard and soft labels change shares",
        "methods/nulc.py",
        "blended = share * blended + (1 - share) * soft.of(",
        "blended = (1 - share) * blended + share * soft.of(",
        ("nulc_sysu_default",),
    ),
    Mutation(
        "N-ULC: no sample weights",
        "methods/nulc.py",
        "return weighted_cross_entropy(logits, blended, soft.weight[rows])",
        "return weighted_cross_entropy(logits, blended, torch.ones_like(soft.weight[rows]))",
        ("nulc_sysu_default",),
    ),
    Mutation(
        "N-ULC: weights that are not squared",
        "methods/association/neighbour_labels.py",
        "(1 - own).square()",
        "(1 - own)",
        ("nulc_sysu_default",),
    ),
    Mutation(
        "N-ULC: intersection without union",
        "methods/association/neighbour_labels.py",
        "(count / (m - count + size[cluster]))",
        "(count / m)",
        ("nulc_sysu_default",),
    ),
    Mutation(
        "N-ULC: the weighted loss is divided by the weights",
        "methods/nulc.py",
        "(target * logits.log_softmax(1)).sum(1)).mean()",
        "(target * logits.log_softmax(1)).sum(1)).sum() / weight.sum()",
        ("nulc_sysu_default",),
    ),
    Mutation(
        "N-ULC: cross-modality soft labels of the hard label's own side",
        "methods/nulc.py",
        "neighbour_labels(near[a, b], spaces[b].labels, label[a, b],",
        "neighbour_labels(near[a, b], spaces[b].labels, label[a, a],",
        ("nulc_sysu_default",),
    ),
    Mutation(
        "N-ULC: the cross term does not move memories",
        "methods/nulc.py",
        "            self.memories[target].update(seen.features[source], partner)\n",
        "",
        ("nulc_sysu_default",),
    ),
    Mutation(
        "matching stops after the first round",
        "methods/association/matching.py",
        "while (left := np.flatnonzero(to_small < 0)).size:",
        "while (left := np.flatnonzero(to_small < -1)).size:",
        ("nulc_sysu_match",),
    ),
]
