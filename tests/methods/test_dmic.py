"""DMIC: what the paper states by equation or section, its presets, its edges; identities out of reach."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch.nn.functional import cross_entropy, normalize

from harness.errors import HarnessError
from harness.runs.configuration import resolve
from methods.base import INFRARED, VISIBLE, Batch, Epoch, EpochPlan, FeatureBank, Part, Stage, TrainingData
from methods.dmic import DMIC, DMICConfig, eps_at, k2_at
from methods.errors import MethodError
from methods.parts.samplers import random_multiple_gallery
from tests.methods.contrast_cases import seed
from tests.methods.episodes import take_step
from tests.methods.thin import thin_resnet18

SMALL = {
    "k1": 10,
    "k2_start": 2,
    "k2_end": 3,
    "joint_k2": 6,
    "eps": 0.7,
    "eps_low": 0.6,
    "epochs_intra": 2,
    "epochs_joint": 2,
    "turning_epoch": 1,
    "iterations": 2,
    "labels_per_batch": 3,
    "instances": 2,
    "min_samples": 2,
}
ONE, TWO = Stage("intra", 50, 200), Stage("joint", 50, 200)


@pytest.fixture(scope="module", autouse=True)
def thin_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "resnet18", thin_resnet18)
        yield


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


def of(dataset: str, variant: str | None = None) -> DMICConfig:
    config = resolve(DMIC, dataset, "paper", variant, [])[0]
    assert isinstance(config, DMICConfig)
    return config


PI = {"sysu-mm01": (0.3, 0.6, 0.5, 2), "regdb": (0.2, 0.3, 2 / 3, 1.5)}
"""pi1, pi2, sigma_n, sigma_b (IV-B)."""
EPSILON = {"sysu-mm01": (6, 18, 3, 32), "regdb": (6, 12, 2, 18)}
"""epsilon_1, epsilon_2, sigma_k, epsilon_3 (IV-B)."""


@pytest.mark.parametrize("dataset", PI)
def test_equation_8_eps_only_falls_in_stage_one(dataset: str) -> None:
    _, pi2, sigma_n, _ = PI[dataset]
    found = [eps_at(of(dataset), ONE, e) for e in range(50)]
    assert found == pytest.approx([pi2 * sigma_n ** (e / 50) for e in range(50)])


@pytest.mark.parametrize("dataset", PI)
def test_equation_9_eps_falls_for_ten_epochs_of_stage_two_then_rises(dataset: str) -> None:
    pi1, pi2, sigma_n, sigma_b = PI[dataset]
    found = [eps_at(of(dataset), TWO, e) for e in range(50)]
    falling = [pi2 * sigma_n ** (e / 10) for e in range(10)]
    assert found == pytest.approx(falling + [pi1 * sigma_b ** ((e - 10) / 40) for e in range(10, 50)])


@pytest.mark.parametrize("dataset", EPSILON)
def test_equation_10_k2_rises_in_each_stage_anew(dataset: str) -> None:
    first, last, sigma_k, _ = EPSILON[dataset]
    for stage in (ONE, TWO):
        found = [k2_at(of(dataset), stage, e) for e in range(50)]
        assert found == [round(first * sigma_k ** (e / 50)) for e in range(50)]
        assert (found[0], found[-1]) == (first, last)


@pytest.mark.parametrize(("dataset", "k1"), [("sysu-mm01", 40), ("regdb", 38)])
def test_section_iv_b_states_these_numbers(dataset: str, k1: int) -> None:
    c = of(dataset)
    assert (c.k1, c.joint_k2) == (k1, EPSILON[dataset][3])
    assert (c.instance_weight, c.cluster_weight) == (0.1, 1.0)  # phi_1, phi_2 of Eq. 23
    assert (c.epochs_intra, c.epochs_joint, c.turning_epoch) == (50, 50, 10)
    assert (c.learning_rate, c.lr_schedule, c.lr_step, c.lr_gamma) == (3.5e-4, "step", 20, 0.1)
    assert (c.labels_per_batch, c.instances) == (4, 16)  # a batch of 64
    assert (c.temperature, c.memory_update, c.memory_momentum) == (0.05, "random", 0.0)
    stated = [
        "k1",
        "joint_k2",
        "eps",
        "eps_low",
        "k2_start",
        "k2_end",
        "instance_weight",
        "cluster_weight",
    ]
    for name in stated:
        assert DMICConfig.model_fields[name].json_schema_extra == {"source": "paper (IV-B)"}, name


def test_the_second_row_of_the_paper_has_batches_of_128() -> None:
    c = resolve(DMIC, "sysu-mm01", "paper-large", None, [])[0].model_dump()
    assert c["labels_per_batch"] * c["instances"] == 128


def test_what_the_paper_does_not_state() -> None:
    """From the predecessor's code, the follow-up's, or ours."""
    for dataset, iterations in (("sysu-mm01", 200), ("regdb", 100)):
        c = of(dataset)
        assert (c.iterations, c.weight_decay, c.min_samples, c.non_local) == (iterations, 5e-4, 4, False)
        assert (c.expansion, c.joint_step, c.infrared_view) == ("mie", "separate", "channel-adapt-gray")
        assert (c.instance_reduce, c.joint_instance) == ("sum", "one-mean")
        assert (c.stage_init, c.test_feature, c.bn_chunks) == ("last", "post-bn", 1)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_other_shapes_have_the_same_limits(shape: str) -> None:
    config = DMICConfig(eps_schedule=shape)
    assert [eps_at(config, TWO, e) for e in (0, 10)] == pytest.approx([0.6, 0.3])
    assert 0.55 < eps_at(config, TWO, 49) < 0.6
    assert 0.3 < eps_at(config, ONE, 49) < 0.31


def test_fixed_schedules() -> None:
    config = DMICConfig(eps_schedule="fixed", k2_schedule="fixed")
    assert {eps_at(config, stage, e) for stage in (ONE, TWO) for e in range(50)} == {0.6}
    assert {k2_at(config, stage, e) for stage in (ONE, TWO) for e in range(50)} == {6}


def test_a_stage_two_no_longer_than_t_only_falls() -> None:
    for epochs in (1, 5, 10):
        found = [eps_at(DMICConfig(), Stage("joint", epochs, 1), e) for e in range(epochs)]
        assert found == pytest.approx([0.6 * 0.5 ** (e / 10) for e in range(epochs)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"joint_k2": 41},
        {"k2_end": 41},
        {"k2_start": 41, "k2_schedule": "fixed"},
        {"eps_low": 0.7},
        {"eps": 0.0},
        {"eps": 1.01},
        {"eps_low": -0.1},
        {"nonsense": 1},
    ],
)
def test_inconsistent_configurations_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DMICConfig(**wrong)


def test_limits_that_nothing_reaches_are_not_checked() -> None:
    DMICConfig(k1=32, k2_end=33, k2_schedule="fixed")
    DMICConfig(eps=0.2, eps_schedule="fixed")


@pytest.mark.parametrize("variant", [name for name in DMIC.presets if name not in ("paper", "demo")])
def test_every_variant_is_a_valid_configuration(variant: str) -> None:
    DMICConfig(**DMIC.presets[variant]["*"])


def draw(method: DMIC, plan: EpochPlan, step: int = 0) -> Batch:
    """Six images of each stream of a step, visible ones in two views."""
    generator = torch.Generator().manual_seed(1)
    streams, parts = {stream.name: stream for stream in plan.streams}, {}
    for name in plan.steps[step].streams:
        stream = streams[name]
        rows = torch.randperm(len(stream.sample_index), generator=generator)[:6]
        views = 2 if name.endswith("visible") else 1
        index = stream.sample_index[rows].repeat(views)
        modality = method.data.modality[index]
        parts[name] = Part(
            torch.randn(views * 6, 3, 32, 16, generator=generator),
            modality,
            modality + 1,
            stream.pseudo_label[rows].repeat(views),
            index,
            torch.arange(views).repeat_interleave(6),
            stream.label_space,
        )
    return Batch(plan.steps[step].name, 0, parts)


def plan_and_batch(method: DMIC, stage: int, step: int = 0) -> tuple[Epoch, Batch]:
    epoch = start(method, stage)
    return epoch, draw(method, method.begin_epoch(epoch, bank()), step)


@pytest.mark.parametrize(("stage", "step"), [(0, 0), (1, 0), (1, 1)])
def test_equation_23_is_the_sum_of_equations_16_to_22(stage: int, step: int) -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    epoch, batch = plan_and_batch(method, stage, step)
    seen = method.forward(batch)
    terms = {name: float(term.detach()) for name, term in method.loss(seen, batch, epoch).items()}
    spaces = ("joint",) if step else ("visible", "infrared")
    assert set(terms) == {f"{level}_{space}" for level in ("cluster", "instance") for space in spaces}
    for space in spaces:
        parts = [(name, part) for name, part in batch.parts.items() if part.label_space == space]
        f = torch.cat([seen.features[name].detach() for name, _ in parts])
        label = torch.cat([part.pseudo_label for _, part in parts])
        index = torch.cat([part.sample_index for _, part in parts])
        assert len(f) == {"visible": 12, "infrared": 6, "joint": 18}[space]  # 2PK, PK and 3PK queries
        loss = cross_entropy(f @ method.clusters[space].centroids.T / 0.05, label)
        assert terms[f"cluster_{space}"] == pytest.approx(float(loss), rel=1e-5)
        memory = method.instances[space]
        own = index - (30 if space == "infrared" else 0)
        scores = (f @ memory.rows.T / 0.05).exp()
        positive = (scores * (memory.labels == memory.labels[own][:, None])).sum(1)
        loss = -torch.log(positive / (scores.sum(1) + 1e-6) + 1e-6).mean()
        assert terms[f"instance_{space}"] == pytest.approx(0.1 * float(loss), rel=1e-5)


def test_the_follow_up_adds_a_mean_per_modality() -> None:
    terms = []
    for rule in ("one-mean", "per-modality"):
        method = DMIC(DMICConfig(**SMALL, joint_instance=rule), training_data())
        epoch, batch = plan_and_batch(method, 1, 1)
        seen = method.forward(batch)
        terms.append(float(method.loss(seen, batch, epoch)["instance_joint"].detach()))
        if rule == "per-modality":
            memory = method.instances["joint"]
            each = [memory.loss(seen.features[n], p.sample_index) for n, p in batch.parts.items()]
            assert terms[1] == pytest.approx(0.1 * float(sum(each).detach()), rel=1e-6)
    assert terms[1] > 1.5 * terms[0]


def test_joint_terms_have_a_step_of_their_own_or_none() -> None:
    separate, together = (
        DMIC(DMICConfig(**SMALL, joint_step=way), training_data()) for way in ("separate", "together")
    )
    assert [step.name for step in separate.begin_epoch(start(separate, 1), bank()).steps] == [
        "intra",
        "joint",
    ]
    assert [step.name for step in separate.begin_epoch(start(separate, 0), bank()).steps] == ["intra"]
    plan = together.begin_epoch(start(together, 1), bank())
    assert [step.streams for step in plan.steps] == [
        ("visible", "infrared", "joint-visible", "joint-infrared")
    ]
    assert [step.name for step in together.begin_epoch(start(together, 0), bank()).steps] == ["intra"]


def test_together_makes_two_forward_passes_and_one_backward() -> None:
    together = DMIC(DMICConfig(**SMALL, joint_step="together"), training_data())
    epoch, batch = plan_and_batch(together, 1)
    together.backbone.train()
    shown: list[int] = []
    together.backbone.register_forward_hook(lambda _, images, __: shown.append(len(images[0])))
    seen = together.forward(batch)
    assert shown == [18, 18]  # visible, CA and infrared; then their joint batches
    terms = together.loss(seen, batch, epoch)
    assert len(terms) == 6
    assert len(seen.post_bn) == 36
    for names in (("visible", "infrared"), ("joint-visible", "joint-infrared")):
        alone = DMIC.__mro__[1].forward(together, batch.only(names))  # batch statistics of these images alone
        for name in names:
            torch.testing.assert_close(seen.features[name], alone.features[name])


def test_one_shuffle_leaves_one_sample_in_each_row_of_both_memories() -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    epoch, batch = plan_and_batch(method, 1, 1)
    before = method.instances["joint"].rows.clone()
    seen, _ = take_step(method, batch, epoch)
    f, part = seen.of("joint").detach(), batch.of("joint")
    clusters, instances = method.clusters["joint"].centroids, method.instances["joint"].rows
    for label in part.pseudo_label.unique():
        gaps = (f - clusters[label]).norm(dim=1)
        winner = int(gaps.argmin())
        assert float(gaps[winner]) < 1e-5
        assert int(part.pseudo_label[winner]) == int(label)
        # what came last for the cluster came last for its image
        torch.testing.assert_close(instances[part.sample_index[winner]], f[winner])
    untouched = torch.ones(len(before), dtype=torch.bool)
    untouched[part.sample_index] = False
    assert torch.equal(instances[untouched], before[untouched])


def test_joint_rows_become_samples_of_any_view_and_modality() -> None:
    method, ended = DMIC(DMICConfig(**SMALL), training_data()), set()
    epoch, batch = plan_and_batch(method, 1, 1)
    for _ in range(12):
        seen, _ = take_step(method, batch, epoch)
        f, part = seen.of("joint").detach(), batch.of("joint")
        for label in part.pseudo_label.unique():
            winner = int((f - method.clusters["joint"].centroids[label]).norm(dim=1).argmin())
            ended.add((int(part.modality[winner]), int(part.view[winner])))
    assert ended == {(0, 0), (0, 1), (1, 0)}


def test_algorithm_1_makes_all_memories_anew_in_every_epoch() -> None:
    method = DMIC(DMICConfig(**SMALL), training_data())
    epoch, batch = plan_and_batch(method, 1)
    take_step(method, batch, epoch)
    plan = method.begin_epoch(Epoch(3, epoch.stage, 1), bank())
    assert method.state() == {}
    for space, memory in method.instances.items():  # Eq. 14 and 20: the features
        inside = plan.labels[space] > -2
        assert torch.equal(memory.rows, bank().features[inside])
        labels = plan.labels[space][inside]
        for k, row in enumerate(method.clusters[space].centroids):  # Eq. 15 and 20: plain means
            members = bank().features[inside][labels == k]
            torch.testing.assert_close(row, normalize(members.mean(0), dim=0))


@pytest.mark.parametrize("stage", [0, 1])
def test_all_noise_skips_the_epoch_and_names_what_was_seen(stage: int) -> None:
    tight = {"eps": 1e-6, "eps_low": 1e-6, "min_samples": 5}
    method = DMIC(DMICConfig(**SMALL | tight), training_data())
    plan = method.begin_epoch(start(method, stage), bank(noise=1.0))
    assert (plan.iterations, plan.streams, plan.steps) == (0, (), ())
    # eps is not changed silently
    assert plan.record["eps"] == 1e-6
    for word in ("visible: 0", "infrared: 0", "eps = 1e-06", "k1 = 10", "median squared distance"):
        assert word in plan.skipped


def test_noise_of_one_modality_alone_skips_the_epoch() -> None:
    features = bank()
    scattered = normalize(torch.randn(30, 512, generator=torch.Generator().manual_seed(4)))
    features.features[30:] = scattered
    limits = {"min_samples": 5, "eps": 0.4, "eps_low": 0.4}
    method = DMIC(DMICConfig(**SMALL | limits), training_data())
    plan = method.begin_epoch(start(method, 0), features)
    assert plan.skipped.startswith("fewer than two clusters (infrared: 0)")
    assert int(plan.labels["visible"].max()) == 5


def test_one_cluster_skips_the_epoch() -> None:
    method = DMIC(DMICConfig(**SMALL | {"eps": 1.0, "eps_low": 1.0}), training_data())
    assert "visible: 1, infrared: 1" in method.begin_epoch(start(method, 0), bank()).skipped


def test_one_neighbour_skips_expansion() -> None:
    """Of equal rows the first leads every list, so that one neighbour is not always the image itself."""
    features = bank(images=5, noise=0.04)
    features.features[1::5] = features.features[::5]
    labels = [
        DMIC(DMICConfig(**SMALL | {"expansion": name}), training_data()).cluster(features, eps, 1).labels
        for eps in (0.3, 0.5, 0.7)
        for name in ("plain", "mie", "camera-mean")
    ]
    assert all(torch.equal(labels[i], labels[i - i % 3]) for i in range(9))


@pytest.mark.parametrize("epochs_joint", [0, 2])
def test_k1_larger_than_the_smallest_set_is_refused_before_any_work(epochs_joint: int) -> None:
    DMIC(DMICConfig(**SMALL | {"k1": 30}), training_data())
    with pytest.raises(MethodError, match="k1 = 31"):
        DMIC(DMICConfig(**SMALL | {"k1": 31, "epochs_joint": epochs_joint}), training_data())


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
    method = DMIC(DMICConfig(**SMALL | {"k1": 5, "joint_k2": 3}), training_data())
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
    method, kept = DMIC(DMICConfig(**SMALL), training_data()), set()
    epoch, batch = plan_and_batch(method, 0)
    for _ in range(8):
        seen, _ = take_step(method, batch, epoch)
        row = method.instances["visible"].rows[batch.parts["visible"].sample_index[0]]
        distances = [(row - seen.features["visible"][i].detach()).norm() for i in (0, 6)]
        assert min(distances) < 1e-5 < max(distances)
        kept.add(int(distances[1] < distances[0]))
    assert kept == {0, 1}


VARIANTS = {
    "public": {"bn_chunks": 2, "test_feature": "pooled", "stage_init": "best-of-stage"},
    "eq6": {"expansion": "camera-mean"},
    "letter": {
        **{"expansion": "camera-mean", "joint_step": "together"},
        **{"infrared_view": "plain", "test_feature": "pooled"},
    },
    # Table III
    "cc1": {"epochs_joint": 0, "instance_terms": "none"},
    "cc1+ic1": {"epochs_joint": 0},
    "cc1+ic1+cc2": {"instance_terms": "intra"},
    # Table IV
    "vc": {
        **{"expansion": "plain", "k1": 30, "joint_k2": 6},
        **{"eps_schedule": "fixed", "k2_schedule": "fixed"},
    },
    "vc+dnc": {"expansion": "plain", "k1": 30, "joint_k2": 6},
    "mie": {"eps_schedule": "fixed", "k2_schedule": "fixed"},
    "baseline": {
        **{"expansion": "plain", "k1": 30, "joint_k2": 6, "instance_terms": "none"},
        **{"eps_schedule": "fixed", "k2_schedule": "fixed"},
        **{"memory_update": "sequential", "memory_momentum": 0.1},
    },
}


@pytest.mark.parametrize("dataset", PI)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_change_this_and_nothing_else(variant: str, dataset: str) -> None:
    full, changed = of(dataset).model_dump(), of(dataset, variant).model_dump()
    assert {key for key in full if full[key] != changed[key]} == set(VARIANTS[variant])
    assert VARIANTS[variant].items() <= changed.items()


def test_every_variant_is_known_here() -> None:
    variants = {name for name in DMIC.presets if "@" not in name} - {"paper", "paper-large", "demo"}
    assert variants == set(VARIANTS)


@pytest.mark.parametrize(
    ("variant", "terms"),
    [
        ("cc1", {"cluster_visible", "cluster_infrared"}),
        ("cc1+ic1", {"cluster_visible", "cluster_infrared", "instance_visible", "instance_infrared"}),
        (
            "cc1+ic1+cc2",
            {
                *("cluster_visible", "cluster_infrared", "instance_visible", "instance_infrared"),
                "cluster_joint",
            },
        ),
    ],
)
def test_table_iii_leaves_out_terms(variant: str, terms: set[str]) -> None:
    values = DMIC.presets[variant]["*"]
    method = DMIC(DMICConfig(**SMALL | values), training_data())
    epoch = Epoch(1, method.stages(method.config)[-1], 0)
    plan = method.begin_epoch(epoch, bank())
    found = {}
    for i in range(len(plan.steps)):
        _, some = take_step(method, draw(method, plan, i), epoch)
        found |= some
    assert set(found) == terms


def test_what_vc_and_mie_keep_fixed() -> None:
    for dataset, pi2, k1 in (("sysu-mm01", 0.6, 40), ("regdb", 0.3, 38)):
        for variant, neighbours, joint_k2 in (("vc", 30, 6), ("mie", k1, EPSILON[dataset][3])):
            c = of(dataset, variant)
            assert {eps_at(c, stage, e) for stage in (ONE, TWO) for e in range(50)} == {pi2}
            assert {k2_at(c, stage, e) for stage in (ONE, TWO) for e in range(50)} == {6}
            assert (c.k1, c.joint_k2) == (neighbours, joint_k2)


NOTHING = "nothing stands for it"
FORMER_VARIANTS = {
    **{"+hmcl": "use vc", "+dnc+hmcl": "use vc+dnc", "+mie+hmcl": "use mie", "intra-only": "use cc1+ic1"},
    **{"+mie": NOTHING, "+dnc": NOTHING, "+mie+dnc": NOTHING},
}
FORMER_SETTINGS = {
    "intra_k1": "use k1",
    "joint_k1": "use k1",
    "eps_high": "use eps (pi2)",
    "joint_weight": "use instance_weight (phi_1) and cluster_weight",
    "instance_memory": "use instance_terms",
    "memory_init": NOTHING,
}


@pytest.mark.parametrize(("variant", "instead"), FORMER_VARIANTS.items())
def test_former_variants_are_refused_with_what_replaced_them(variant: str, instead: str) -> None:
    with pytest.raises(HarnessError, match=re.escape(f"dmic:{variant} is no more; {instead}") + "$"):
        resolve(DMIC, "regdb", "paper", variant, [])


@pytest.mark.parametrize(("key", "instead"), FORMER_SETTINGS.items())
def test_former_settings_are_refused_with_what_replaced_them(key: str, instead: str) -> None:
    with pytest.raises(HarnessError, match=re.escape(f"--set {key}: {key} is no more; {instead}")):
        resolve(DMIC, "regdb", "paper", None, [f"{key}=1"])


def test_what_replaced_them_exists() -> None:
    assert set(FORMER_VARIANTS) == set(DMIC.replaced)
    assert set(FORMER_SETTINGS) == set(DMICConfig.replaced)
    assert {name for name in DMIC.replaced.values() if name} <= set(DMIC.presets)
    named = {text.split(" and ")[0].split(" (")[0].split(",")[0] for text in DMICConfig.replaced.values()}
    assert named - {""} <= set(DMICConfig.model_fields)
    assert not set(DMIC.replaced) & set(DMIC.presets)


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
