"""Single steps of SpCL, cluster contrast, CA-Jaccard, OTLA, AGW and CAJ beside their public code."""

from __future__ import annotations

from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.transport import MeanPredictions
from methods.base import TRAIN, Batch, Epoch, FeatureBank, Part
from methods.clustering import (
    CameraAware,
    MeanExpansion,
    camera_aware_clusters,
    camera_aware_graph,
    density_clusters,
    jaccard_graph,
)
from methods.clustering.pipeline import LARGEST_RADIUS
from methods.otla import OTLA
from methods.parts.alignment import ModalityDiscriminator, prediction_alignment, reversal_scale
from methods.parts.config import SelfPacedConfig
from methods.parts.hybrid_memory import HybridMemory
from methods.parts.losses import batch_hard_triplet
from methods.parts.memories import ClusterMemory, InstanceMemory
from methods.parts.samplers import paired_batches, shared_label_batches
from methods.supervised import METRIC_LOSSES, softened_kl
from tests.oracles.cases import Arrays, Comparison, Differences, Mutation, configured, training_data
from tests.oracles.frozen import Keyed, TinySingle, case, names_of


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def leaf(array: np.ndarray) -> Tensor:
    return tensor(array).requires_grad_()


def integers(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))


def spcl_select(arrays: Arrays) -> dict[str, float]:
    """SpCL's classes over several epochs: the three labelings, the threshold, the numbers of the classes."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        k1, k2, eps, gap = d["setting"]
        config = SelfPacedConfig(k1=int(k1), k2=int(k2), eps=float(eps), eps_gap=float(gap))
        radii = (float(eps), float(eps - gap), float(eps + gap))
        memory = HybridMemory(config)
        for epoch, features in enumerate(d["features"]):
            f, where = tensor(features), f"{name} epoch {epoch}"
            graph, _ = jaccard_graph(f, k1=int(k1), radius=max(radii), expansion=MeanExpansion(int(k2)))
            for radius, labels in zip(radii, d["raw"][epoch], strict=True):
                found = density_clusters(graph, radius, config.min_samples)
                differences.equal("three labelings", found, labels, where=where)
            if epoch:
                memory.load_state("rows", memory.state("rows") | {"rows.rows": f.clone()})
            n = len(f)
            bank = FeatureBank(f, torch.zeros(n).long(), integers(d["camera"]), torch.arange(n))
            memory.cluster(bank)
            differences.equal("classes", memory.classes, d["labels"][epoch], where=where)
            differences.close("threshold", memory.threshold, d["threshold"][epoch], 1e-6, where=where)
    return differences.largest


def spcl_memory(arrays: Arrays) -> dict[str, float]:
    """SpCL's hybrid memory: loss, gradient to what is not normalised yet, rows after the update."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        config = SelfPacedConfig()
        memory = InstanceMemory(
            tensor(d["rows"]), tensor(d["labels"]), config.temperature, config.memory_momentum, "mean"
        )
        raw, index = leaf(d["raw"]), tensor(d["index"])
        features = normalize(raw)
        loss = memory.loss(features, index)
        loss.backward()
        memory.update(features, index)
        differences.close("loss", loss, d["loss"], 1e-5, where=name)
        differences.close("gradient", raw.grad, d["grad"], 1e-5, where=name)
        differences.close("rows", memory.rows, d["rows_after"], 1e-5, where=name)
    return differences.largest


def cluster_memory(arrays: Arrays) -> dict[str, float]:
    """Cluster contrast's memory, both rules: loss, gradient, rows after the update."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        for rule in ("sequential", "hardest"):
            memory = ClusterMemory(tensor(d["rows"]), 0.05, float(d["momentum"]), rule)
            raw, labels = leaf(d["raw"]), tensor(d["labels"])
            features = normalize(raw)
            loss = memory.loss(features, labels)
            loss.backward()
            memory.update(features, labels)
            where = f"{name} {rule}"
            differences.close("loss", loss, d[f"{rule}_loss"], 1e-5, where=where)
            differences.close("gradient", raw.grad, d[f"{rule}_grad"], 1e-5, where=where)
            differences.close("rows", memory.centroids, d[f"{rule}_rows"], 1e-5, where=where)
    return differences.largest


def camera_aware_distance(arrays: Arrays) -> dict[str, float]:
    """CA-Jaccard: all distances below the largest radius, DBSCAN's labels at several."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        k1_intra, k1_inter, k2_intra, k2_inter, fill = (int(x) for x in d["setting"])
        features, n = tensor(d["features"]), len(d["features"])
        camera = integers(d["camera"])
        settings = CameraAware(camera, k1_intra, k1_inter, k2_intra, k2_inter, bool(fill))
        graph, _ = camera_aware_graph(features, settings, radius=LARGEST_RADIUS)
        dense = np.ones((n, n))
        dense[graph.rows.numpy(), graph.indices.numpy()] = graph.values.numpy()
        differences.close("distances", dense[np.triu_indices(n)], d["distance"], 1e-5, where=name)
        for eps, labels in zip(d["eps"], d["labels"], strict=True):
            found = camera_aware_clusters(features, settings, eps=float(eps), min_samples=4).labels
            differences.equal("labels", found, labels, where=f"{name} eps {eps}")
    return differences.largest


def otla_sinkhorn(arrays: Arrays) -> dict[str, float]:
    """OTLA's label pass: labels of all infrared images; where the public code fails, ours are only legal."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        _, size, classes = d["logits"].shape
        index, before = integers(d["index"]), integers(d["before"])
        predictions = MeanPredictions(len(before), classes, torch.device("cpu"))
        for i, logits in enumerate(d["logits"]):
            predictions.add(index[i * size : (i + 1) * size], tensor(logits))
        found = predictions.labels(before, 25.0, 0.1)
        if int(d["failed"]):
            assert bool(((found >= 0) & (found < classes)).all()), name
        else:
            differences.equal("labels", found, d["labels"], where=name)
    return differences.largest


def otla_losses(arrays: Arrays) -> dict[str, float]:
    """OTLA's prediction alignment and triplet: values and gradients."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        visible, infrared, pooled = (leaf(d[key]) for key in ("visible", "infrared", "pooled"))
        alignment = prediction_alignment(visible, infrared, (0.1, 0.5))
        alignment.backward()
        triplet = batch_hard_triplet(pooled, tensor(d["classes"]), 0.3)
        triplet.backward()
        differences.close("alignment", alignment, d["loss"], 1e-6, 1e-5, where=name)
        differences.close("alignment gradient", visible.grad, d["grad_visible"], 1e-6, 1e-5, where=name)
        differences.close("alignment gradient", infrared.grad, d["grad_infrared"], 1e-6, 1e-5, where=name)
        differences.close("triplet", triplet, d["triplet"], 1e-6, 1e-5, where=name)
        differences.close("triplet gradient", pooled.grad, d["triplet_grad"], 1e-6, 1e-5, where=name)
    return differences.largest


def otla_reversal(arrays: Arrays) -> dict[str, float]:
    """OTLA's factor of the reversed gradient in every training iteration, epochs and iterations counted by ours."""
    differences = Differences()
    for name, recorded in arrays.items():
        speed = int(name.removeprefix("speed"))
        for t in [0, 1, 2, *range(0, len(recorded), max(1, len(recorded) // 20)), len(recorded) - 1]:
            found = factor_at(t, 11, speed)
            differences.close("factor", found, recorded[t], 1e-9, where=f"{name} iteration {t}")
    return differences.largest


def factor_at(iteration: int, per_epoch: int, speed: int) -> float:
    """Return the factor that the loss of a training iteration uses."""
    modality = torch.tensor([0] * 40 + [1] * 40)
    with mock.patch("methods.otla.SingleStreamResNet", return_value=TinySingle((8, 8, 8, 8, 8))):
        config = configured(OTLA, "sysu-mm01", reversal_speed=speed, iterations=per_epoch, passes=per_epoch)
        method = OTLA(config, training_data("sysu-mm01", modality, torch.zeros_like(modality)))
    method.labels["visible"] = torch.arange(40) % 4
    stage = method.stages(config)[1]
    method.optimisers(stage)
    label = torch.tensor([0, 0, 1, 1] * 2)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(8, dtype=torch.int64)
    part = Part(images, torch.tensor([0] * 4 + [1] * 4), nothing, label, torch.arange(8), nothing)
    epoch_number, i = divmod(iteration, per_epoch)
    batch, epoch = Batch("train", i, {"both": part}), Epoch(51 + epoch_number, stage, epoch_number, TRAIN)
    used: list[float] = []

    def noted(*at: float) -> float:
        used.append(reversal_scale(*at))
        return used[-1]

    with mock.patch("methods.otla.reversal_scale", noted):
        method.loss(method.forward(batch), batch, epoch)
    (factor,) = used
    return factor


def otla_discriminator(d: Arrays) -> dict[str, float]:
    """OTLA's discriminator: how it starts, and one step of a small one without dropout."""
    differences = Differences()
    for seed in (1, 2, 3):
        mine = ModalityDiscriminator(3904, seed)
        for name, layer in (("first", mine.hidden[0]), ("second", mine.hidden[1]), ("out", mine.out)):
            assert isinstance(layer, torch.nn.Linear)
            recorded = float(d[f"{name}_std"])
            # the standard deviation of as many draws
            error = 5 * recorded / (2 * layer.weight.numel()) ** 0.5
            differences.close("spread of first weights", layer.weight.std(), recorded, error, where=name)
            assert not layer.bias.any()
        differences.equal("first scale", mine.norm.weight, d["norm_weight"])
        differences.equal("first shift", mine.norm.bias, d["norm_bias"])
        assert mine.norm.weight.requires_grad
        assert not mine.norm.bias.requires_grad
    x, mine = leaf(d["x"]), ModalityDiscriminator(d["x"].shape[1], 0, dropout=0.0).train()
    names = {"ad_layer1": mine.hidden[0], "ad_layer2": mine.hidden[1], "ad_layer3": mine.out, "bn": mine.norm}
    with torch.no_grad():
        for key in (key for key in d if key.startswith("w/")):
            layer_name, what = key[2:].split(".")
            getattr(names[layer_name], what).copy_(tensor(d[key]))
    half = len(x) // 2
    loss = mine.loss(x, torch.arange(len(x)) < half, float(d["coeff"]), torch.Generator())
    loss.backward()
    differences.close("loss", loss, d["loss"], 1e-6)
    for what, found in (
        ("x", x.grad),
        ("first", names["ad_layer1"].weight.grad),
        ("out", mine.out.weight.grad),
        ("norm", mine.norm.weight.grad),
    ):
        differences.close("gradient", found, d[f"grad_{what}"], 1e-6, where=what)
    return differences.largest


def otla_sampler(arrays: Arrays) -> dict[str, float]:
    """OTLA's batches on average over 150 epochs, blind and by labels."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        visible, infrared = d["visible"].astype(np.int64), d["infrared"].astype(np.int64)
        iterations = int(d["times"]) * max(len(visible), len(infrared)) // 32 + 1
        found = []
        for blind in (True, False):
            rows = [
                pair_statistics(
                    paired_batches(
                        visible, infrared, 4, 8, iterations, np.random.default_rng(i), blind=blind
                    ),
                    visible,
                    infrared,
                    blind,
                )
                for i in range(150)
            ]
            found.append(np.mean(rows, 0))
        differences.close("averages", np.stack(found), d["statistics"], 0.03, where=name)
    return differences.largest


def pair_statistics(batches: np.ndarray, y_v: np.ndarray, y_r: np.ndarray, blind: bool) -> np.ndarray:
    """Count batches, pure positions, classes, how evenly classes and images are used, classes twice, agreement."""
    visible, infrared = batches[:, :32], batches[:, 32:]
    classes = y_v[visible].reshape(len(visible), 4, 8)
    pure = float((classes == classes[:, :, :1]).all())
    drawn = np.bincount(classes[:, :, 0].ravel(), minlength=int(y_v.max()) + 1)
    drawn = drawn[drawn > 0]
    twice = np.mean([len(set(row.tolist())) < 4 for row in classes[:, :, 0]])
    use_v, use_r = (
        np.bincount(side.ravel(), minlength=len(y)) for side, y in ((visible, y_v), (infrared, y_r))
    )

    def spread(use: np.ndarray, y: np.ndarray) -> int:
        return max(int(np.ptp(use[y == k])) for k in np.unique(y) if use[y == k].any())

    uses = ((use_v > 0).mean(), np.ptp(use_r)) if blind else (spread(use_v, y_v), spread(use_r, y_r))
    agree = float((y_v[visible] == y_r[infrared]).mean())
    return np.array([len(visible), pure, len(drawn), np.ptp(drawn), twice, *uses, agree], dtype=float)


def agw_losses(arrays: Arrays) -> dict[str, float]:
    """AGW's, CAJ's and the batch-hard loss, and CAJ's KL term: values and gradients; the teacher gets none."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        if "student" in d:
            student, teacher = leaf(d["student"]), leaf(d["teacher"])
            value = softened_kl(student, teacher)
            value.backward()
            differences.close("kl", value, d["kl"], 1e-5, 1e-5, where=name)
            differences.close("kl gradient", student.grad, d["student_grad"], 1e-5, 1e-5, where=name)
            given = torch.zeros_like(teacher) if teacher.grad is None else teacher.grad
            differences.close("kl gradient of the teacher", given, d["teacher_grad"], 1e-6, where=name)
            continue
        for loss, function in METRIC_LOSSES.items():
            x = leaf(d["x"])
            value = function(x, tensor(d["y"]))
            value.backward()
            scale = max(1e-3, float(np.abs(d[f"{loss}_grad"]).max()))
            assert x.grad is not None
            differences.close(loss, value, d[loss], 1e-5, 1e-5, where=name)
            recorded = d[f"{loss}_grad"] / scale
            differences.close(f"{loss} gradient", x.grad / scale, recorded, 2e-4, where=name)
    return differences.largest


def agw_sampler(arrays: Arrays) -> dict[str, float]:
    """AGW's batches from the same choices of identities and images."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        visible, infrared = d["visible"].astype(np.int64), d["infrared"].astype(np.int64)
        iterations = max(len(visible), len(infrared)) // 32 + 1
        drawn = shared_label_batches(visible, infrared, 8, 4, iterations, Keyed(5))  # type: ignore[arg-type]
        differences.equal("batches", drawn, d["batches"], where=name)
    return differences.largest


COMPARISONS: dict[str, Comparison] = {
    r"spcl(_\w+)?_select\w*": spcl_select,
    r"spcl(_\w+)?_memory\w*": spcl_memory,
    r"cc(_\w+)?_memory\w*": cluster_memory,
    r"cajaccard(_\w+)?_distance\w*": camera_aware_distance,
    r"otla(_\w+)?_sinkhorn\w*": otla_sinkhorn,
    r"otla(_\w+)?_losses\w*": otla_losses,
    r"otla(_\w+)?_reversal\w*": otla_reversal,
    r"otla(_\w+)?_discriminator\w*": otla_discriminator,
    r"otla(_\w+)?_sampler\w*": otla_sampler,
    r"agw(_\w+)?_losses\w*": agw_losses,
    r"agw(_\w+)?_sampler\w*": agw_sampler,
}
MUTATIONS = [
    Mutation(
        "CAJ: the KL term's teacher learns too",
        "methods/supervised.py",
        "teacher.detach()",
        "teacher",
        ("agw_losses", "agw_trajectory"),
    ),
    Mutation(
        "OTLA: the discriminator's scale is drawn",
        "methods/parts/alignment.py",
        "self.norm.bias.requires_grad_(False)",
        "self.norm.bias.requires_grad_(False)\n            nn.init.normal_(self.norm.weight, 1, 0.01)",
        ("otla_discriminator", "otla_trajectory"),
    ),
    Mutation(
        "hybrid memory: a class is scored by its sum, not its mean",
        "methods/parts/memories.py",
        "scores = (classes / self._sizes[:, None]).exp()",
        "scores = classes.exp()",
        ("spcl_memory", "spcl_trajectory"),
    ),
    Mutation(
        "cluster memory: updated rows are not made unit",
        "methods/parts/update_rules.py",
        "return normalize(momentum * rows + (1 - momentum) * features)",
        "return momentum * rows + (1 - momentum) * features",
        ("cc_memory", "cc_trajectory"),
    ),
    Mutation(
        "weighted triplet: no epsilon in the weights' sum",
        "methods/parts/losses.py",
        "raised.sum(1, keepdim=True) + EPSILON",
        "raised.sum(1, keepdim=True) + 1e-30",
        ("agw_losses",),
    ),
]
