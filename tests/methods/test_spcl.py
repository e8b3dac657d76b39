"""SpCL: reliability and its threshold by set arithmetic, the hybrid loss by a loop, the memory over the run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from harness.runs.configuration import resolve
from methods.association.reliability import independence_threshold, reliability, reliable_labels
from methods.base import Epoch, EpochPlan, Stage
from methods.clustering import MeanExpansion, jaccard_clusters
from methods.clustering.labels import own_label_for_noise, without_singletons
from methods.errors import MethodError
from methods.spcl import SpCL, SpCLConfig
from tests.methods.contrast_cases import stub_network
from tests.methods.episodes import bank, batch, identity, pairwise, shuffled, take_step, train, training_data
from tests.reference import memory as reference

__all__ = ["stub_network"]

SMALL = {
    "k1": 6,
    "k2": 2,
    "eps": 0.6,
    "epochs": 3,
    "iterations": 3,
    "labels_per_batch": 3,
    "instances": 2,
    "min_samples": 2,
}
STAGE = Stage("train", 3, 3)
START, NEXT = Epoch(0, STAGE, 0), Epoch(1, STAGE, 1)


def small(**changes: object) -> SpCL:
    return SpCL(SpCLConfig(**SMALL | changes), training_data(cameras=2))


def begun(method: SpCL, epoch: Epoch = START, noise: float = 0.05) -> EpochPlan:
    return method.begin_epoch(epoch, bank(noise=noise, cameras=2))


def rows(method: SpCL) -> torch.Tensor:
    """The rows of the one memory of a method."""
    return method.state()["joint.rows"]


def replace_rows(method: SpCL, rows: torch.Tensor) -> None:
    memory = method.memories["joint"]
    memory.load_state("joint", memory.state("joint") | {"joint.rows": rows})


LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, -1, -1])
TIGHT = torch.tensor([0, 0, -1, 1, 1, 2, 2, 3, -1, -1])
LOOSE = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, -1])


def by_sets(labels: torch.Tensor) -> list[set[int]]:
    own = own_label_for_noise(labels).tolist()
    return [{j for j, y in enumerate(own) if y == own[i]} for i in range(len(own))]


def test_reliability_is_set_arithmetic() -> None:
    found = reliability(LABELS, TIGHT, LOOSE)
    a, tight, loose = by_sets(LABELS), by_sets(TIGHT), by_sets(LOOSE)
    for i in range(len(LABELS)):
        assert float(found.compactness[i]) == pytest.approx(1 - len(a[i] & tight[i]) / len(a[i] | tight[i]))
        assert float(found.independence[i]) == pytest.approx(1 - len(a[i] & loose[i]) / len(a[i] | loose[i]))
    # cluster 0: {0, 1} stay together at the tight radius; cluster 2 loses 7
    assert found.cluster_compactness[:3].tolist() == pytest.approx([1 / 3, 0, 1 / 3])
    assert found.cluster_independence[:3].tolist() == pytest.approx([0.4, 0.6, 0.25])


def test_kept_are_the_most_compact_members_of_independent_clusters() -> None:
    found = reliability(LABELS, TIGHT, LOOSE)
    kept = without_singletons(reliable_labels(found, 0.4))
    assert kept.tolist() == [0, 0, -1, -1, -1, 1, 1, -1, -1, -1]


@pytest.mark.parametrize(("m", "entry"), [(1, 0), (2, 1), (10, 9)])
def test_threshold_is_the_entry_of_nine_tenths(m: int, entry: int) -> None:
    # round(0.9 m) is 1, 2, 9: the first two are cut to the last entry
    found = reliability(*(torch.arange(m).repeat_interleave(2),) * 3)
    values = torch.linspace(0, 0.9, m, dtype=torch.float64).flip(0)
    found = replace(found, cluster_independence=values)
    assert independence_threshold(found) == pytest.approx(float(values.sort().values[entry]))


def test_threshold_is_fixed_by_the_first_epoch_and_outlives_the_process() -> None:
    method = small()
    begun(method, noise=0.15)
    before = method.memories["joint"].threshold
    assert before is not None
    replace_rows(method, normalize(bank(noise=0.2, seed=4).features))
    begun(method, NEXT)
    assert method.memories["joint"].threshold == before
    other = small()
    other.load_state(method.state())
    assert other.memories["joint"].threshold == before


@pytest.mark.parametrize("spaces", ["joint", "dual"])
def test_an_epoch_finds_the_identities_and_trains(spaces: str) -> None:
    method = small(spaces=spaces)
    plan = begun(method)
    for labels in plan.labels.values():
        inside = labels > -2
        found = labels[inside]
        assert bool((~pairwise(found) | pairwise(identity()[inside])).all())
        assert float((found >= 0).float().mean()) > 0.8
    assert set(train(method, plan, START)) == {f"instance_{space}" for space in plan.labels}


def test_loss_is_the_hybrid_softmax_of_class_means() -> None:
    method = small()
    plan = begun(method, noise=0.18)
    classes = method.memories["joint"].classes
    assert len(classes) > len(classes.unique()) > 6
    drawn = batch(method, plan)
    seen = method.forward(drawn)
    found = method.loss(seen, drawn, START)["instance_joint"]
    expected = reference.instance_loss(
        rows(method).double().numpy(),
        classes.numpy(),
        seen.features["joint"].detach().double().numpy(),
        drawn.parts["joint"].sample_index.numpy(),
        0.05,
        "mean",
    )
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)


def test_update_moves_the_images_own_rows_only() -> None:
    method = small()
    plan = begun(method)
    before, drawn = rows(method).clone(), batch(method, plan)
    seen, _ = take_step(method, drawn, START)
    index, f = drawn.parts["joint"].sample_index, seen.features["joint"].detach()
    assert torch.allclose(rows(method)[index], normalize(0.2 * before[index] + 0.8 * f), atol=1e-5)
    others = torch.ones(len(before), dtype=torch.bool)
    others[index] = False
    assert torch.equal(rows(method)[others], before[others])


def test_later_epochs_cluster_the_memory_and_ask_for_no_features() -> None:
    method = small()
    assert method.uses_features(START)
    begun(method)
    assert not method.uses_features(NEXT)
    empty = replace(bank(cameras=2), features=torch.empty(60, 0))
    plan = method.begin_epoch(NEXT, empty)
    expected = jaccard_clusters(rows(method), k1=6, eps=0.6, min_samples=2, expansion=MeanExpansion(2)).labels
    assert bool((~pairwise(plan.labels["joint"]) | pairwise(expected)).all())


def test_another_process_goes_on_with_the_same_rows_and_batches() -> None:
    method = small()
    train(method, begun(method), START)
    other = small()
    other.load_state({key: value.clone() for key, value in method.state().items()})
    plans = [begun(m, NEXT) for m in (method, other)]
    assert torch.equal(plans[0].streams[0].batch_indices, plans[1].streams[0].batch_indices)
    assert torch.equal(plans[0].streams[0].pseudo_label, plans[1].streams[0].pseudo_label)
    assert torch.equal(rows(method), rows(other))


def test_batches_cover_singletons_once_each() -> None:
    method = small(iterations=40)
    stream = begun(method, noise=0.18).streams[0]
    assert stream.batch_indices is not None
    assert len(stream.sample_index) == 60
    assert stream.batch_indices.shape == (40, 6)
    sizes = stream.pseudo_label.unique(return_counts=True)
    single = torch.isin(stream.pseudo_label, sizes[0][sizes[1] == 1])
    assert bool(single.any())
    assert bool(torch.isin(single.nonzero().flatten(), stream.batch_indices).any())
    for position in stream.batch_indices:
        alone = position[single[position]]
        # the same image twice would mean it filled the places of companions
        assert len(alone) - len(alone.unique()) <= 1


def test_only_noise_from_the_start_skips_and_names_the_settings() -> None:
    method = small(eps=0.011, eps_gap=0.01, min_samples=5)
    plan = method.begin_epoch(START, shuffled(bank()))
    assert plan.iterations == 0
    for word in ("no cluster yet", "eps", "k1"):
        assert word in plan.skipped


def test_noise_after_the_start_is_learnt_image_by_image() -> None:
    method = small(min_samples=5)
    begun(method)
    replace_rows(method, shuffled(bank()).features)
    plan = method.begin_epoch(NEXT, bank())
    assert not plan.skipped
    assert int(plan.labels["joint"].max()) == -1
    train(method, plan, NEXT)


def test_one_cluster_skips() -> None:
    method = small(eps=0.97, k1=60, k2=60)
    plan = begun(method)
    assert "one cluster" in plan.skipped


def test_longer_lists_than_the_data_are_refused() -> None:
    with pytest.raises(MethodError, match="61"):
        begun(small(k1=61))


@pytest.mark.parametrize("wrong", [{"eps": 0.99}, {"eps": 0.02}, {"eps_gap": 0.7}])
def test_radii_outside_the_distances_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="eps"):
        SpCLConfig(**wrong)


def test_gaps_in_the_numbering_close_for_the_diagnosis() -> None:
    assert without_singletons(torch.tensor([7, 3, 7, 9, 4, 4])).tolist() == [1, -1, 1, -1, 0, 0]


@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_presets_are_valid_and_published(dataset: str) -> None:
    for name in SpCL.presets:
        preset, variant = (name, None) if name in ("paper", "demo") else ("paper", name)
        assert isinstance(resolve(SpCL, dataset, preset, variant, [])[0], SpCLConfig)
    config = resolve(SpCL, dataset, "paper", None, [])[0].model_dump()
    published = {
        "k1": 30,
        "k2": 6,
        "eps_gap": 0.02,
        "memory_momentum": 0.2,
        "instances": 4,
        "labels_per_batch": 16,
    }
    assert published.items() <= config.items()
    assert (config["eps"], config["iterations"]) == ((0.6, 400) if dataset == "sysu-mm01" else (0.3, 100))
