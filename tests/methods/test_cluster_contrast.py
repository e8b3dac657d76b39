"""Cluster contrast: streams of each variant, the loss against its formula, the memory update, presets."""

from __future__ import annotations

import pytest
import torch

from harness.runs.configuration import resolve
from methods.base import Epoch, Stage
from methods.cluster_contrast import ClusterContrast, ClusterContrastConfig
from methods.parts.memories import compute_centroids
from tests.methods.contrast_cases import cross_entropy, follow, stub_network
from tests.methods.episodes import bank, batch, identity, pairwise, shuffled, take_step, training_data

__all__ = ["stub_network"]
SMALL = {
    **{"k1": 6, "k2": 2, "eps": 0.6, "min_samples": 2, "iterations": 2, "labels_per_batch": 3, "instances": 2}
}
START = Epoch(0, Stage("train", 50, 2), 0)


def small(**changes: object) -> ClusterContrast:
    return ClusterContrast(ClusterContrastConfig(**SMALL | changes), training_data(cameras=2))


@pytest.mark.parametrize("spaces", ["joint", "dual"])
def test_one_step_is_the_formula(spaces: str) -> None:
    method, features = small(spaces=spaces), bank(cameras=2)
    plan = method.begin_epoch(START, features)
    assert [*plan.labels] == (["joint"] if spaces == "joint" else ["visible", "infrared"])
    before = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    for name, labels in plan.labels.items():
        inside = labels > -2
        assert bool((~pairwise(labels[inside]) | pairwise(identity()[inside])).all())
        torch.testing.assert_close(before[name], compute_centroids(features.features, labels.clamp(min=-1)))
    drawn = batch(method, plan)
    seen, terms = take_step(method, drawn, START)
    for name, part in drawn.parts.items():
        expected = cross_entropy(seen.features[name].detach(), before[name], part.pseudo_label)
        assert float(terms[f"cluster_{name}"].detach()) == pytest.approx(expected, rel=1e-5)
        moved = follow(before[name], seen.features[name].detach(), part.pseudo_label, 0.1)
        torch.testing.assert_close(method.memories[name].centroids, moved)


def test_joint_streams_mix_the_modalities_without_augmented_views() -> None:
    plan = small().begin_epoch(START, bank(cameras=2))
    (stream,) = plan.streams
    assert torch.equal(stream.sample_index, (plan.labels["joint"] >= 0).nonzero().flatten())
    assert torch.equal(stream.pseudo_label, plan.labels["joint"][stream.sample_index])
    assert bool((stream.sample_index < 30).any())
    assert bool((stream.sample_index >= 30).any())
    assert (stream.visible_views, stream.infrared_views) == (("plain",), ("plain",))


@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_variants_have_the_batches_of_the_specification(dataset: str) -> None:
    sizes = {"joint": [16], "dual": [16, 16], "dual+ca": [8, 16]}
    for variant, labels in sizes.items():
        config = resolve(ClusterContrast, dataset, "paper", variant, [])[0]
        assert isinstance(config, ClusterContrastConfig)
        fields = {"k1": 6, "k2": 2, "min_samples": 2}
        made = ClusterContrast(config.model_copy(update=fields), training_data(cameras=2))
        streams = made.begin_epoch(START, bank(cameras=2)).streams
        assert [stream.num_ids for stream in streams] == labels
        assert {stream.num_instances for stream in streams} == {16}
        augmented = variant == "dual+ca"
        assert streams[0].visible_views == (("plain", "channel-exchange") if augmented else ("plain",))
        assert streams[-1].infrared_views == (("channel-adapt-gray",) if augmented else ("plain",))


def test_all_noise_skips_the_epoch_and_names_what_was_seen() -> None:
    plan = small(eps=1e-6, min_samples=5).begin_epoch(START, shuffled(bank()))
    assert plan.iterations == 0
    for word in ("joint: 0", "eps", "k1", "median squared distance"):
        assert word in plan.skipped


@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_paper_is_published(dataset: str) -> None:
    config = resolve(ClusterContrast, dataset, "paper", None, [])[0].model_dump()
    published = {
        **{"spaces": "joint", "k1": 30, "k2": 6, "min_samples": 4, "memory_momentum": 0.1, "epochs": 50},
        **{"memory_update": "sequential", "temperature": 0.05, "labels_per_batch": 16, "instances": 16},
    }
    assert published.items() <= config.items()
    assert (config["eps"], config["iterations"]) == ((0.6, 200) if dataset == "sysu-mm01" else (0.3, 100))
    assert resolve(ClusterContrast, dataset, "paper", "public", [])[0].model_dump()["bn_chunks"] == 4
