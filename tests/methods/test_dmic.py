"""DMIC: schedules, ablation presets, the loss against its formula, identities out of reach."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from harness.runs.configuration import resolve
from methods.base import INFRARED, VISIBLE, Batch, Epoch, FeatureBank, Part, TrainingData
from methods.dmic import DMIC, DMICConfig, eps_at, k2_at
from methods.errors import MethodError
from methods.parts.samplers import random_multiple_gallery
from tests.methods.contrast_cases import seed
from tests.methods.episodes import take_step

SMALL = {
    "intra_k1": 6,
    "k2_start": 2,
    "k2_end": 3,
    "joint_k1": 10,
    "joint_k2": 6,
    "eps_high": 0.7,
    "eps_low": 0.6,
    "epochs_intra": 2,
    "epochs_joint": 2,
    "turning_epoch": 1,
    "iterations": 2,
    "labels_per_batch": 3,
    "instances": 2,
    "min_samples": 2,
}


def training_data(identities: int = 6, images: int = 5) -> TrainingData:
    n = identities * images
    modality = torch.arange(2).repeat_interleave(n)
    return TrainingData("regdb", modality, modality + 1, "resnet18", None, seed)


def start(method: DMIC, stage: int) -> Epoch:
    """The first epoch of a stage."""
    return Epoch(2 * stage, method.stages(method.config)[stage], 0)


def bank(identities: int = 6, images: int = 5, noise: float = 0.02) -> FeatureBank:
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(identities, 512, generator=generator))
    features = centres.repeat_interleave(images, 0).repeat(2, 1)
    features = normalize(features + noise * torch.randn(features.shape, generator=generator))
    modality = torch.arange(2).repeat_interleave(identities * images)
    return FeatureBank(features, modality, modality + 1, torch.arange(len(features)))


@pytest.mark.parametrize("shape", ["exponential", "linear", "cosine"])
def test_eps_shrinks_then_grows_between_its_limits(shape: str) -> None:
    config = DMICConfig(eps_schedule=shape)
    values = [eps_at(config, e, 50) for e in range(50)]
    assert values[0] == pytest.approx(0.6)
    assert values[10] == pytest.approx(0.3)
    assert all(a > b for a, b in itertools.pairwise(values[:11]))
    assert all(a < b for a, b in itertools.pairwise(values[10:]))
    assert values[-1] < 0.6


def test_exponential_eps_is_the_formula() -> None:
    config = DMICConfig()
    for e in range(50):
        expected = 0.6 * 0.5 ** (e / 10) if e <= 10 else 0.3 * 2 ** ((e - 10) / 40)
        assert eps_at(config, e, 50) == pytest.approx(expected)


def test_k2_rises_from_6_to_18() -> None:
    values = [k2_at(DMICConfig(), e, 50) for e in range(50)]
    assert (values[0], values[-1]) == (6, 18)
    assert values == sorted(values)
    assert values[20] == round(6 * 3 ** (20 / 49))


def test_k2_can_shrink_then_grow() -> None:
    values = [k2_at(DMICConfig(k2_schedule="valley"), e, 51) for e in range(51)]
    assert (values[0], values[25], values[50]) == (18, 6, 18)
    assert all(a >= b for a, b in itertools.pairwise(values[:26]))
    assert values[25:] == values[:26][::-1]


def test_fixed_schedules() -> None:
    config = DMICConfig(eps_schedule="fixed", k2_schedule="fixed")
    assert {eps_at(config, e, 9) for e in range(9)} == {0.6}
    assert {k2_at(config, e, 9) for e in range(9)} == {6}


def test_short_stages_do_not_divide_by_zero() -> None:
    for epochs in (1, 2, 3):
        assert all(math.isfinite(eps_at(DMICConfig(), e, epochs)) for e in range(epochs))
        assert all(k2_at(DMICConfig(), e, epochs) >= 1 for e in range(epochs))


@pytest.mark.parametrize(
    "wrong",
    [
        {"joint_k2": 41},
        {"k2_end": 31},
        {"eps_low": 0.7},
        {"eps_high": 0.0},
        {"eps_high": 1.01},
        {"eps_low": -0.1},
        {"nonsense": 1},
    ],
)
def test_inconsistent_configurations_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DMICConfig(**wrong)


@pytest.mark.parametrize("variant", [name for name in DMIC.presets if name not in ("paper", "demo")])
def test_every_variant_is_a_valid_configuration(variant: str) -> None:
    DMICConfig(**DMIC.presets[variant]["*"])


def plan_and_batch(method: DMIC, stage: int) -> tuple[Epoch, Batch]:
    epoch = start(method, stage)
    plan = method.begin_epoch(epoch, bank())
    generator = torch.Generator().manual_seed(1)
    parts = {}
    for stream in plan.streams:
        rows = torch.randperm(len(stream.sample_index), generator=generator)[:6]
        modality = method.data.modality[stream.sample_index[rows]]
        images = torch.randn(6, 3, 32, 16, generator=generator)
        parts[stream.name] = Part(
            images,
            modality,
            modality + 1,
            stream.pseudo_label[rows],
            stream.sample_index[rows],
            torch.zeros(6, dtype=torch.int64),
            stream.label_space,
        )
    return epoch, Batch(plan.steps[0].name, 0, parts)


@pytest.mark.parametrize("stage", [0, 1])
def test_loss_is_the_sum_of_its_formulas(stage: int) -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    epoch, batch = plan_and_batch(method, stage)
    seen = method.forward(batch)
    terms = {name: term.detach() for name, term in method.loss(seen, batch, epoch).items()}
    f = {name: features.detach() for name, features in seen.features.items()}
    tau, n_visible = 0.05, 30
    for name, weight in (("visible", 1.0), ("infrared", 1.0)):
        rows = method.clusters[name].centroids
        logits = f[name] @ rows.T / tau
        expected = -torch.log_softmax(logits, 1)[torch.arange(6), batch.parts[name].pseudo_label].mean()
        assert float(terms[f"cluster_{name}"]) == pytest.approx(weight * float(expected), rel=1e-5)
        own = batch.parts[name].sample_index - (n_visible if name == "infrared" else 0)
        memory = method.instances[name]
        scores = (f[name] @ memory.rows.T / tau).exp()
        positive = (scores * (memory.labels == memory.labels[own][:, None])).sum(1)
        expected = -torch.log(positive / (scores.sum(1) + 1e-6) + 1e-6).mean()
        assert float(terms[f"instance_{name}"]) == pytest.approx(float(expected), rel=1e-5)
    if stage:
        joint = torch.cat([f["joint-visible"], f["joint-infrared"]])
        label = torch.cat([batch.parts[f"joint-{m}"].pseudo_label for m in ("visible", "infrared")])
        logits = joint @ method.clusters["joint"].centroids.T / tau
        expected = 0.7 * torch.nn.functional.cross_entropy(logits, label)
        assert float(terms["cluster_joint"]) == pytest.approx(float(expected), rel=1e-5)
        assert {"instance_joint-visible", "instance_joint-infrared"} <= set(terms)
    else:
        assert "cluster_joint" not in terms


def test_random_update_leaves_one_batch_sample_in_each_row() -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    epoch, batch = plan_and_batch(method, 0)
    seen, _ = take_step(method, batch, epoch)
    part, rows, f = (
        batch.parts["visible"],
        method.clusters["visible"].centroids,
        seen.features["visible"].detach(),
    )
    for label in part.pseudo_label.unique():
        candidates = f[part.pseudo_label == label]
        assert float((candidates - rows[label]).norm(dim=1).min()) < 1e-5
    assert torch.allclose(method.instances["visible"].rows[part.sample_index], f, atol=1e-5)


def test_instance_memories_outlive_the_epoch_and_the_process() -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    epoch, batch = plan_and_batch(method, 0)
    take_step(method, batch, epoch)
    other = DMIC(DMICConfig(**SMALL), training_data())
    other.load_state({k: v.clone() for k, v in method.state().items()})
    for m in (method, other):
        m.begin_epoch(Epoch(1, epoch.stage, 1), bank())
    assert torch.equal(method.instances["visible"].rows, other.instances["visible"].rows)


@pytest.mark.parametrize("stage", [0, 1])
def test_all_noise_skips_the_epoch_and_names_what_was_seen(stage: int) -> None:
    tight = {"eps_high": 1e-6, "eps_low": 1e-6, "min_samples": 5}
    method = DMIC(DMICConfig(**SMALL | tight), training_data())
    plan = method.begin_epoch(start(method, stage), bank(noise=1.0))
    assert (plan.iterations, plan.streams, plan.steps) == (0, (), ())
    # eps is not changed silently
    assert plan.record["eps"] == 1e-6
    for word in ("visible: 0", "infrared: 0", "eps = 1e-06", "k1 = 6", "median squared distance"):
        assert word in plan.skipped


def test_noise_of_one_modality_alone_skips_the_epoch() -> None:
    features = bank()
    scattered = normalize(torch.randn(30, 512, generator=torch.Generator().manual_seed(4)))
    features.features[30:] = scattered
    limits = {"min_samples": 5, "eps_high": 0.4, "eps_low": 0.4}
    method = DMIC(DMICConfig(**SMALL | limits), training_data())
    plan = method.begin_epoch(start(method, 0), features)
    assert plan.skipped.startswith("fewer than two clusters (infrared: 0)")
    assert int(plan.labels["visible"].max()) == 5


def test_one_cluster_skips_the_epoch() -> None:
    method = DMIC(DMICConfig(**SMALL | {"eps_high": 1.0, "eps_low": 1.0}), training_data())
    assert "visible: 1, infrared: 1" in method.begin_epoch(start(method, 0), bank()).skipped


@pytest.mark.parametrize("wrong", [{"intra_k1": 31}, {"joint_k1": 61}])
def test_k1_larger_than_the_data_is_refused_before_any_work(wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(MethodError, match=f"{name} = {value}"):
        DMIC(DMICConfig(**SMALL | wrong), training_data())
    if name == "joint_k1":
        DMIC(DMICConfig(**SMALL | wrong | {"epochs_joint": 0}), training_data())


def test_features_with_nan_are_refused_by_the_first_sample() -> None:
    features = bank()
    features.features[[7, 9], 3] = math.nan
    method = DMIC(DMICConfig(**SMALL), training_data())
    with pytest.raises(MethodError, match="sample 7"):
        method.begin_epoch(start(method, 0), features)


def test_a_joint_cluster_of_one_modality_stays_with_its_mean() -> None:
    features = bank()
    # person 5 looks like nobody else in infrared
    features.features[55:] = normalize(torch.randn(1, 512, generator=torch.Generator().manual_seed(9)))
    method = DMIC(DMICConfig(**SMALL | {"joint_k1": 5, "joint_k2": 3}), training_data())
    plan = method.begin_epoch(start(method, 1), features)
    labels, rows = plan.labels["joint"], method.clusters["joint"].centroids
    alone = int(labels[25])
    assert alone >= 0
    assert not bool((labels[30:] == alone).any())
    members = labels == alone
    torch.testing.assert_close(rows[alone], normalize(features.features[members].mean(0), dim=0))
    streams = {stream.name: stream for stream in plan.streams}
    assert bool((streams["joint-visible"].pseudo_label == alone).any())
    assert not bool((streams["joint-infrared"].pseudo_label == alone).any())


@pytest.mark.parametrize(("labels", "instances"), [(50, 2), (3, 16)])
def test_batches_shrink_to_the_clusters_and_repeat_small_ones(labels: int, instances: int) -> None:
    config = DMICConfig(**SMALL | {"labels_per_batch": labels, "instances": instances})
    method = DMIC(config, training_data())
    (stream, _) = method.begin_epoch(start(method, 0), bank()).streams
    drawn = random_multiple_gallery(
        stream.pseudo_label.numpy(),
        np.ones(len(stream.pseudo_label), dtype=np.int64),
        stream.num_ids,
        stream.num_instances,
        4,
        np.random.default_rng(0),
    )
    assert drawn.shape == (4, min(labels, 6) * instances)
    for positions in drawn:
        counts = stream.pseudo_label[torch.from_numpy(positions)].bincount()
        assert set(counts[counts > 0].tolist()) == {instances}


def test_an_image_in_two_views_leaves_either_in_its_row() -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    epoch, batch = plan_and_batch(method, 0)
    part = batch.parts["visible"]
    twice = Part(
        torch.cat([part.images, -part.images]),
        *(torch.cat([x, x]) for x in (part.modality, part.camera, part.pseudo_label, part.sample_index)),
        torch.arange(2).repeat_interleave(6),
        part.label_space,
    )
    doubled = Batch(batch.step, 0, {**batch.parts, "visible": twice})
    kept = set()
    for _ in range(8):
        seen, _ = take_step(method, doubled, epoch)
        row = method.instances["visible"].rows[part.sample_index[0]]
        distances = [(row - seen.features["visible"][i].detach()).norm() for i in (0, 6)]
        assert min(distances) < 1e-5 < max(distances)
        kept.add(int(distances[1] < distances[0]))
    assert kept == {0, 1}


@pytest.mark.parametrize(
    ("variant", "expansion", "scheduled", "instances"),
    [
        ("baseline", "plain", False, False),
        ("+mie", "mie", False, False),
        ("+dnc", "plain", True, False),
        ("+hmcl", "plain", False, True),
        ("+mie+dnc", "mie", True, False),
        ("+mie+hmcl", "mie", False, True),
        ("+dnc+hmcl", "plain", True, True),
        ("intra-only", "mie", True, True),
    ],
)
def test_ablation_switches_parts(variant: str, expansion: str, scheduled: bool, instances: bool) -> None:
    config = resolve(DMIC, "sysu-mm01", "paper", variant, [])[0]
    assert isinstance(config, DMICConfig)
    assert config.expansion == expansion
    assert (config.joint_k1, config.joint_k2) == ((30, 6) if expansion == "plain" else (40, 32))
    assert (len({eps_at(config, e, 50) for e in range(50)}) > 1) == scheduled
    assert (len({k2_at(config, e, 50) for e in range(50)}) > 1) == scheduled
    assert config.instance_memory == instances
    rule = ("random", "random", 0.0) if instances else ("mean", "sequential", 0.1)
    assert (config.memory_init, config.memory_update, config.memory_momentum) == rule
    assert [stage.name for stage in DMIC.stages(config)] == ["intra", "joint"][
        : 1 + (variant != "intra-only")
    ]


@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_paper_is_published(dataset: str) -> None:
    config = resolve(DMIC, dataset, "paper", None, [])[0].model_dump()
    same = {
        **{"intra_k1": 30, "turning_epoch": 10, "min_samples": 4, "temperature": 0.05, "joint_weight": 0.7},
        **{"memory_momentum": 0.0, "epochs_intra": 50, "epochs_joint": 50, "labels_per_batch": 4},
        **{"instances": 16, "learning_rate": 3.5e-4, "weight_decay": 5e-4, "lr_step": 20, "non_local": False},
        **{
            "stage_init": "last",
            "memory_init": "random",
            "memory_update": "random",
            "instance_reduce": "sum",
        },
    }
    assert same.items() <= config.items()
    names = ["joint_k1", "joint_k2", "k2_start", "k2_end", "eps_high", "eps_low", "iterations"]
    sysu = dataset == "sysu-mm01"
    expected = [40, 32, 6, 18, 0.6, 0.3, 200] if sysu else [38, 18, 3, 9, 0.3, 0.15, 100]
    assert [config[name] for name in names] == expected


def test_identities_are_out_of_reach() -> None:
    data = training_data()
    with pytest.raises(MethodError, match="identities"):
        _ = data.identity
    assert not any("identit" in name for name in vars(data))


def test_label_spaces_mark_what_is_outside() -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    plan = method.begin_epoch(start(method, 1), bank())
    modality = method.data.modality
    assert bool((plan.labels["visible"][modality == INFRARED] == -2).all())
    assert bool((plan.labels["infrared"][modality == VISIBLE] == -2).all())
    assert bool((plan.labels["joint"] > -2).all())
