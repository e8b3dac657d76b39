"""GUR: which levels run when, proxies, embeddings, travelling labels, shared memories, missing clusters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from methods.association.aggregation import propagate_labels, smooth_labels
from methods.association.embedding import memory_embedding
from methods.base import INFRARED, VISIBLE, Epoch, EpochPlan, FeatureBank, Phase, Stage
from methods.clustering.neighbours import euclidean_neighbours
from methods.gur import GUR, GURConfig
from methods.parts.spaces import label_space
from tests.methods.contrast_cases import (
    DIMENSION,
    SMALL,
    cross_entropy,
    draw_batch,
    follow,
    person_bank,
    stub_network,
    training_data,
)
from tests.methods.episodes import take_step

__all__ = ["stub_network"]
STAGE = Stage("levels", 50, 2)
MODALITY = Epoch(0, STAGE, 0, Phase("modality"))
SYSU_PAIRS = [f"camera-{a}-{b}" for a in (1, 2, 4, 5) for b in (3, 6)]
SYSU_CAMERAS = torch.tensor([1, 2, 4, 5, 3, 6])


def gur(bank: FeatureBank, **changes: object) -> GUR:
    settings = {"camera_level": False, "unification_top_k": 3}
    return GUR(GURConfig(**SMALL | settings | changes), training_data(bank.modality, bank.camera))


def camera_bank(people: int = 5, images: int = 4) -> FeatureBank:
    """Return the same people in SYSU-MM01's four visible and two infrared cameras."""
    generator = torch.Generator().manual_seed(0)
    camera = SYSU_CAMERAS.repeat_interleave(people * images)
    modality = ((camera == 3) | (camera == 6)).long()
    centres = normalize(torch.randn(people, DIMENSION, generator=generator))
    person = torch.arange(people).repeat_interleave(images).repeat(6)
    features = centres[person] + 0.03 * torch.randn(len(person), DIMENSION, generator=generator)
    return FeatureBank(normalize(features), modality, camera, torch.arange(len(person)))


def climb(method: GUR, bank: FeatureBank, in_stage: int = 0, until: str = "") -> EpochPlan:
    """Begin the phases of an epoch up to `until`, or all; return the last plan."""
    epoch = Epoch(in_stage, STAGE, in_stage)
    for phase in method.phases(epoch):
        plan = method.begin_epoch(replace(epoch, phase=phase), bank)
        if phase.name == until:
            break
    return plan


def levels(dataset: str, in_stage: int) -> list[str]:
    bank = camera_bank() if dataset == "sysu-mm01" else person_bank()
    method = GUR(GURConfig(**GUR.presets["paper"][dataset]), training_data(bank.modality, bank.camera))
    return [phase.name for phase in method.phases(Epoch(in_stage, STAGE, in_stage))]


@pytest.mark.parametrize(
    ("in_stage", "joint"), [(0, True), (29, True), (30, True), (39, True), (40, False), (49, False)]
)
def test_levels_of_sysu(in_stage: int, joint: bool) -> None:
    assert levels("sysu-mm01", in_stage) == [*SYSU_PAIRS, "modality", *(["joint"] if joint else [])]


@pytest.mark.parametrize(
    ("in_stage", "joint"), [(19, True), (20, True), (24, True), (25, False), (29, False)]
)
def test_levels_of_regdb(in_stage: int, joint: bool) -> None:
    assert levels("regdb", in_stage) == ["modality", *(["joint"] if joint else [])]


def test_iterations_of_an_epoch() -> None:
    bank = camera_bank()
    method = gur(bank, camera_level=True, iterations=200)
    epoch = Epoch(0, STAGE, 0)
    plans = [method.begin_epoch(replace(epoch, phase=phase), bank) for phase in method.phases(epoch)]
    assert [plan.iterations for plan in plans] == [50] * 8 + [200, 200]


@pytest.mark.parametrize(
    ("in_stage", "unified", "smoothed"),
    [(0, False, False), (1, False, False), (2, True, False), (3, True, True)],
)
def test_labels_travel_and_are_smoothed_by_the_epoch(in_stage: int, unified: bool, smoothed: bool) -> None:
    bank = person_bank(noise=0.1)
    method = gur(bank, unification_from=2, smoothing_from=3)
    plan = climb(method, bank, in_stage, until="modality")
    assert ("joint" in plan.labels) == unified
    assert (method.memories["visible"] is method.memories["infrared"]) == unified
    stream = next(s for s in plan.streams if s.name == "visible")
    expected = plan.labels["visible"][bank.modality == VISIBLE]
    visible = bank.of(VISIBLE).features
    if unified:
        infrared = plan.labels["infrared"][bank.modality == INFRARED]
        expected = propagate_labels(visible, bank.of(INFRARED).features, infrared, 3)
        expected = smooth_labels(visible, expected, 3) if smoothed else expected
        assert torch.equal(plan.labels["joint"], torch.cat([expected, infrared]))
    assert torch.equal(stream.pseudo_label, expected[expected >= 0])
    assert stream.sample_index.tolist() == (expected >= 0).nonzero().flatten().tolist()


def test_images_whose_vote_noise_wins_are_dropped() -> None:
    """Visible person 0 looks like infrared noise; everybody else like an infrared cluster."""
    bank = person_bank(visible=4, infrared=4, images=5)
    method = gur(bank, unification_from=0, smoothing_from=9)
    labels = torch.tensor([-1] * 5 + [0] * 5 + [1] * 5 + [2] * 5)
    spaces = {
        name: label_space(bank.of(modality), labels, len(bank))
        for name, modality in (("visible", VISIBLE), ("infrared", INFRARED))
    }
    assert method.travel(spaces, smooth=False).labels.tolist() == labels.tolist()


def test_unified_visible_samples_move_the_infrared_memory_first() -> None:
    bank = person_bank()
    method = gur(bank, unification_from=0)
    plan = climb(method, bank, until="modality")
    rows = method.memories["infrared"].centroids.clone()
    batch = draw_batch(method, plan, plan.steps[0])
    found, terms = take_step(method, batch, MODALITY)
    seen = {name: f.detach() for name, f in found.features.items()}
    for name, part in batch.parts.items():
        expected = cross_entropy(seen[name], rows, part.pseudo_label)
        assert terms[f"cluster_{name}"].item() == pytest.approx(expected, rel=1e-5)
    expected_rows = follow(rows, seen["visible"], batch.parts["visible"].pseudo_label, 0.1)
    expected_rows = follow(expected_rows, seen["infrared"], batch.parts["infrared"].pseudo_label, 0.1)
    torch.testing.assert_close(method.memories["visible"].centroids, expected_rows)


def test_proxies_are_what_the_last_pair_of_a_camera_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = camera_bank()
    method = gur(bank, camera_level=True)
    left: dict[str, dict[str, torch.Tensor]] = {}
    embedded: list[list[torch.Tensor]] = []
    monkeypatch.setattr(
        "methods.gur.memory_embedding",
        lambda f, banks, scale: embedded.append(list(banks)) or memory_embedding(f, banks, scale),
    )
    for phase in method.phases(Epoch(0, STAGE, 0)):
        epoch = Epoch(0, STAGE, 0, phase)
        plan = method.begin_epoch(epoch, bank)
        batch = draw_batch(method, plan, plan.steps[0])
        take_step(method, batch, epoch)
        left[phase.name] = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    visible, infrared, joint = embedded
    for camera, rows in zip((1, 2, 4, 5), visible, strict=True):
        torch.testing.assert_close(rows, left[f"camera-{camera}-6"]["visible"])
    for camera, rows in zip((3, 6), infrared, strict=True):
        torch.testing.assert_close(rows, left[f"camera-5-{camera}"]["infrared"])
    for name, rows in zip(("visible", "infrared"), joint, strict=True):
        torch.testing.assert_close(rows, left["modality"][name])
    blocks = memory_embedding(bank.features, visible).split([len(rows) for rows in visible], 1)
    for block in blocks:
        torch.testing.assert_close(block.sum(1), torch.ones(len(bank)))


def test_camera_blocks_can_be_cut_as_the_public_code_does(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = camera_bank()
    cuts: list[list[int]] = []
    monkeypatch.setattr(
        "methods.gur.memory_embedding",
        lambda f, banks, scale: (
            cuts.append([len(rows) for rows in banks]) or memory_embedding(f, banks, scale)
        ),
    )
    climb(gur(bank, camera_level=True, camera_blocks="misread"), bank, until="modality")
    assert cuts == [[5, 10, 5, 0], [5, 5]]


def test_rows_are_means_of_features_not_of_embeddings() -> None:
    bank = camera_bank()
    method = gur(bank, camera_level=True)
    plan = climb(method, bank, until="modality")
    inside = plan.labels["visible"] == 0
    torch.testing.assert_close(
        method.memories["visible"].centroids[0], normalize(bank.features[inside].mean(0), dim=0)
    )


def test_joint_level_takes_clusters_of_one_modality_too() -> None:
    bank = person_bank(visible=7, infrared=4)
    method = gur(bank)
    plan = climb(method, bank)
    joint = plan.labels["joint"]
    streams = {s.name: s for s in plan.streams}
    for name, modality in (("visible", VISIBLE), ("infrared", INFRARED)):
        assert (
            streams[name].sample_index.tolist()
            == ((bank.modality == modality) & (joint >= 0)).nonzero().flatten().tolist()
        )
        assert torch.equal(streams[name].pseudo_label, joint[streams[name].sample_index])
    rows = method.memories["visible"].centroids
    assert method.memories["infrared"].centroids is rows
    torch.testing.assert_close(rows[0], normalize(bank.features[joint == 0].mean(0), dim=0))


def test_a_side_without_clusters_leaves_training_to_the_other() -> None:
    bank = person_bank(visible=6, infrared=1, images=8)
    method = gur(bank, unification_from=0)
    plan = climb(method, bank, until="modality")
    assert [s.name for s in plan.streams] == ["visible"]
    assert plan.steps[0].streams == ("visible",)
    batch = draw_batch(method, plan, plan.steps[0])
    assert set(method.loss(method.forward(batch), batch, MODALITY)) == {"cluster_visible"}
    assert not climb(method, bank).skipped


def test_noise_alone_skips_every_level_and_leaves_nothing_behind() -> None:
    method = gur(person_bank())
    climb(method, person_bank())
    noisy, epoch = person_bank(noise=1.0), Epoch(1, STAGE, 1)
    method.config = method.config.model_copy(update={"min_samples": 9})
    assert "eps = 0.6" in method.begin_epoch(replace(epoch, phase=Phase("modality")), noisy).skipped
    assert "modality level" in method.begin_epoch(replace(epoch, phase=Phase("joint")), noisy).skipped
    assert method.state() == {}


def test_euclidean_neighbours_of_rows_of_any_length() -> None:
    rows = torch.rand(40, 6, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 3, 40)[:, None]
    rows[7] = rows[3]
    found = euclidean_neighbours(rows, 5)
    distances = torch.cdist(rows.double(), rows.double())
    assert torch.equal(found.index[:, 0], torch.arange(40).where(torch.arange(40) != 7, torch.tensor(3)))
    torch.testing.assert_close(distances.gather(1, found.index), distances.sort(1).values[:, :5])
    torch.testing.assert_close(found.similarity, (rows @ rows.T).gather(1, found.index))


@pytest.mark.parametrize("preset", [*GUR.presets])
def test_presets_are_valid(preset: str) -> None:
    for dataset in ("sysu-mm01", "regdb"):
        values = {**GUR.presets[preset].get("*", {}), **GUR.presets[preset].get(dataset, {})}
        assert GURConfig(**values).model_dump().items() >= values.items()


def test_embeddings_and_votes_see_unit_features() -> None:
    """Where short averages are clustered (quirk Q2), descriptions and votes are those of unit features."""
    bank = camera_bank()
    length = torch.linspace(0.8, 1.0, len(bank))[:, None]
    short = replace(bank, features=length * bank.features)
    rows = [normalize(torch.randn(3, DIMENSION, generator=torch.Generator().manual_seed(1)))]
    method = gur(short, renormalise_flip=False)
    torch.testing.assert_close(method.embed(short, rows), method.embed(bank, rows))
    labels = torch.arange(5).repeat_interleave(4)
    spaces = {
        name: {
            side: label_space(part.of(m), labels.repeat(int((bank.modality == m).sum()) // 20), len(bank))
            for side, m in (("visible", VISIBLE), ("infrared", INFRARED))
        }
        for name, part in (("short", short), ("unit", bank))
    }
    for smooth in (False, True):
        travelled = [method.travel(spaces[name], smooth).labels for name in spaces]
        assert torch.equal(*travelled)


@pytest.mark.parametrize("repeat", [False, True])
def test_streams_repeat_single_images_only_if_asked(repeat: bool) -> None:
    bank = person_bank()
    plan = climb(gur(bank, repeat_singletons=repeat), bank)
    assert [stream.repeat_singletons for stream in plan.streams] == [repeat, repeat]
