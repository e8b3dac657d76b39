"""RPNR: calibrated streams, double and hybrid memories, relations, order of updates, modalities without clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association.matching import match_by_transport
from methods.base import Batch, Epoch, FeatureBank
from methods.parts.memories import ClusterMemory, cluster_means
from methods.parts.two_stream import Seen
from methods.rpnr import HYBRID, RPNR, DoubleMemory, RPNRConfig, hybrid_means, relation_loss
from tests.methods.contrast_cases import (
    CROSS_STAGE,
    DUAL,
    TWO_STAGES,
    cross_entropy,
    draw_batch,
    person_bank,
    stub_network,
    training_data,
)
from tests.methods.episodes import take_step
from tests.reference import association as reference

__all__ = ["stub_network"]
EVEN, ODD = Epoch(2, CROSS_STAGE, 0), Epoch(3, CROSS_STAGE, 1)


def rpnr(bank: FeatureBank, **changes: object) -> RPNR:
    sizes = TWO_STAGES | {"non_local": False, "prototype_size": 3}
    return RPNR(RPNRConfig(**sizes | changes), training_data(bank.modality))


def one_step(
    epoch: Epoch, bank: FeatureBank | None = None, **changes: object
) -> tuple[RPNR, Batch, Seen, dict[str, Tensor], dict[str, Tensor]]:
    """Train one step; return the method, its batch, what it saw, the rows before and the terms."""
    bank = person_bank(visible=7, infrared=5) if bank is None else bank
    method = rpnr(bank, **changes)
    plan = method.begin_epoch(epoch, bank)
    batch = draw_batch(method, plan, plan.steps[0])
    rows = {name: memory.centroids.clone() for name, memory in method.memories.items()}
    seen, terms = take_step(method, batch, epoch)
    return method, batch, seen, rows, terms


def double_loss(features: Tensor, rows: Tensor, labels: Tensor) -> float:
    means, hard = rows.chunk(2)
    return (cross_entropy(features, hard, labels) + max(0, cross_entropy(features, means, labels) - 0.2)) / 2


def double_move(rows: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Both rows of every label, label by label."""
    means, hard = (half.clone() for half in rows.chunk(2))
    for y in labels.unique().tolist():
        members = features[labels == y]
        farthest = members[(members @ means[y]).argmin()]
        hard[y] = normalize(0.1 * hard[y] + 0.9 * farthest, dim=0)
        means[y] = normalize(0.1 * means[y] + 0.9 * members.mean(0), dim=0)
    return torch.cat([means, hard])


@pytest.mark.parametrize("epoch", [EVEN, ODD], ids=["even", "odd"])
def test_terms_of_stage_two(epoch: Epoch) -> None:
    method, batch, seen, rows, terms = one_step(epoch)
    sides = [
        "cluster_infrared",
        "cluster_visible",
        "cross",
        "hybrid",
        "relation_visible",
        "relation_infrared",
    ]
    assert list(terms) == sides
    v, r = batch.parts["visible"].pseudo_label, batch.parts["infrared"].pseudo_label
    f_v, f_r = seen.features["visible"], seen.features["infrared"]
    if epoch is EVEN:
        partner = method.partner["visible"][v]
        cross, hybrid = double_loss(f_v, rows["infrared"], partner), double_loss(f_v, rows[HYBRID], partner)
    else:
        cross = double_loss(f_r, rows["visible"], method.partner["infrared"][r])
        hybrid = double_loss(f_r, rows[HYBRID], r)
    g_v, g_r = seen.post_bn.detach().double().split([len(v), len(r)])
    expected = {
        "cluster_infrared": double_loss(f_r, rows["infrared"], r),
        "cluster_visible": double_loss(f_v, rows["visible"], v),
        "cross": 0.25 * cross,
        "hybrid": 0.5 * hybrid,
        "relation_visible": 10 * reference.relation(g_v.numpy()),
        "relation_infrared": 10 * reference.relation(g_r.numpy()),
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_stage_one_has_the_double_memories_alone() -> None:
    method, batch, seen, rows, terms = one_step(DUAL)
    assert set(terms) == {"cluster_visible", "cluster_infrared"}
    assert HYBRID not in method.memories
    for name, part in batch.parts.items():
        expected = double_move(rows[name], seen.features[name].detach(), part.pseudo_label)
        torch.testing.assert_close(method.memories[name].centroids, expected)


@pytest.mark.parametrize("gradient", ["frozen", "in_backward"])
@pytest.mark.parametrize("epoch", [EVEN, ODD], ids=["even", "odd"])
def test_rows_move_hybrid_then_partners_then_own(epoch: Epoch, gradient: str) -> None:
    method, batch, seen, rows, _ = one_step(epoch, memory_gradient=gradient)
    features = {name: f.detach() for name, f in seen.features.items()}
    label = {name: part.pseudo_label for name, part in batch.parts.items()}
    source, target = ("infrared", "visible") if epoch is ODD else ("visible", "infrared")
    partner = method.partner[source][label[source]]
    hybrid = label["infrared"] if epoch is ODD else partner
    moved = {
        HYBRID: double_move(rows[HYBRID], features[source], hybrid),
        source: double_move(rows[source], features[source], label[source]),
        target: double_move(
            double_move(rows[target], features[source], partner), features[target], label[target]
        ),
    }
    for name, expected in moved.items():
        torch.testing.assert_close(method.memories[name].centroids, expected)


def test_the_margin_closes_on_the_mean_of_the_batch() -> None:
    rows = torch.cat([torch.eye(3), torch.eye(3)])
    memory = DoubleMemory(rows.clone(), 0.5, 0.1, margin=10.0)
    features = normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = memory.loss(features, labels)
    assert loss.item() == pytest.approx(cross_entropy(features, rows[3:], labels, 0.5) / 2, rel=1e-5)
    memory.update(features, labels)
    assert bool((memory.centroids != rows).any(1).all()), "both halves move while the margin is not reached"


def test_hybrid_rows_weigh_tight_clusters_more_and_are_zero_where_nobody_is_left() -> None:
    visible, infrared = (
        torch.tensor([[0.9, 0.0], [0.0, 0.5]]),
        torch.tensor([[0.0, 0.3], [0.6, 0.6], [1.0, 0.0]]),
    )
    rows = hybrid_means(visible, infrared, torch.tensor([0, 1, 0]), torch.tensor([0, 0, -1, 2]))
    torch.testing.assert_close(rows[0], normalize(torch.tensor([0.9, 0.3]), dim=0))
    assert rows[1].tolist() == [0, 0]
    torch.testing.assert_close(rows[2], torch.tensor([1.0, 0.0]))


def test_streams_are_calibrated_memories_and_partners_are_not() -> None:
    bank = person_bank(visible=6, infrared=6, noise=0.3)
    method = rpnr(bank, prototype_size=1, eps=0.9)
    plain = rpnr(bank, eps=0.9).begin_epoch(DUAL, bank)
    plan = method.begin_epoch(EVEN, bank)
    means = {}
    for m, name in enumerate(("visible", "infrared")):
        part, labels = bank.of(m), plain.labels[name][bank.modality == m]
        means[name] = cluster_means(part.features, labels)
        rows = method.memories[name].centroids
        torch.testing.assert_close(rows, normalize(means[name]).repeat(2, 1))
        prototypes = reference.density_prototypes(part.features.numpy(), labels.numpy(), 1, 0.5)
        expected = reference.nearest_prototypes(part.features.numpy(), labels.numpy(), prototypes)
        assert plan.labels[name][bank.modality == m].tolist() == expected
        stream = next(stream for stream in plan.streams if stream.name == name)
        assert torch.equal(stream.pseudo_label, plan.labels[name][stream.sample_index])
        assert plan.record[f"moved_{name}"] == sum(
            a != b for a, b in zip(expected, labels.tolist(), strict=True)
        )
    partners = match_by_transport(normalize(means["visible"]), normalize(means["infrared"]))
    assert torch.equal(method.partner["visible"], partners.visible_to_infrared)


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_relations(n: int, scale: float) -> None:
    x = scale * torch.randn(n, 5, generator=torch.Generator().manual_seed(n))
    assert relation_loss(x).item() == pytest.approx(
        reference.relation(x.double().numpy()), rel=1e-5, abs=1e-12
    )


def test_equal_rows_have_no_relation_and_no_gradient() -> None:
    x = torch.ones(4, 6).requires_grad_()
    loss = relation_loss(x)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert x.grad is not None
    assert bool((x.grad == 0).all())
    pair = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]]).requires_grad_()
    relation_loss(pair).backward()  # type: ignore[no-untyped-call]
    assert pair.grad is not None
    assert bool(pair.grad.isfinite().all())


def test_relations_of_unit_features_are_an_option() -> None:
    _, batch, seen, _, terms = one_step(EVEN, relation_unit=True)
    for name in batch.parts:
        expected = 10 * reference.relation(seen.features[name].detach().double().numpy())
        assert terms[f"relation_{name}"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("epoch", [DUAL, EVEN, ODD], ids=["dual", "even", "odd"])
@pytest.mark.parametrize("missing", ["visible", "infrared"])
def test_a_modality_without_clusters_leaves_the_other_alone(epoch: Epoch, missing: str) -> None:
    bank = person_bank()
    of_missing = bank.modality == (missing == "infrared")
    scattered = normalize(torch.randn(bank.features.shape, generator=torch.Generator().manual_seed(4)))
    features = torch.where(of_missing[:, None], scattered, bank.features)
    other = {"visible": "infrared", "infrared": "visible"}[missing]
    bank = FeatureBank(features, bank.modality, bank.camera, bank.sample_index)
    method, batch, _, _, terms = one_step(epoch, bank, min_samples=5, eps=0.3)
    assert list(batch.parts) == [other]
    relation = set() if epoch is DUAL else {f"relation_{other}"}
    assert set(terms) == {f"cluster_{other}"} | relation
    assert set(method.memories) == {other}


@pytest.mark.parametrize("epoch", [EVEN, ODD], ids=["even", "odd"])
@pytest.mark.parametrize(("visible", "infrared"), [(1, 5), (5, 1), (1, 1), (9, 2)])
def test_one_cluster_or_far_more_on_one_side(epoch: Epoch, visible: int, infrared: int) -> None:
    bank = person_bank(visible, infrared, images=8)
    method, _, _, _, terms = one_step(epoch, bank, k1=8)
    assert len(method.memories[HYBRID].centroids) == 2 * infrared
    if visible == 1:
        assert terms["cluster_visible"].item() == 0
        assert method.partner["infrared"].tolist() == [0] * infrared


def test_no_cluster_at_all_skips_the_epoch() -> None:
    bank = person_bank(noise=1.0)
    for epoch in (DUAL, EVEN):
        assert "no cluster with eps = 0.6" in rpnr(bank, min_samples=9).begin_epoch(epoch, bank).skipped


def test_weights_of_zero_leave_terms_and_their_updates_out() -> None:
    method, batch, seen, rows, terms = one_step(
        EVEN, cross_weight=0.0, hybrid_weight=0.0, relation_weight=0.0
    )
    assert set(terms) == {"cluster_visible", "cluster_infrared"}
    assert torch.equal(method.memories[HYBRID].centroids, rows[HYBRID])
    label = batch.parts["infrared"].pseudo_label
    expected = double_move(rows["infrared"], seen.features["infrared"].detach(), label)
    torch.testing.assert_close(method.memories["infrared"].centroids, expected)


def test_plain_memories_are_an_option() -> None:
    method, *_ = one_step(EVEN, double_memory=False)
    assert all(type(memory) is ClusterMemory for memory in method.memories.values())
    assert {name: len(m.centroids) for name, m in method.memories.items()} == {
        "visible": 7,
        "infrared": 5,
        HYBRID: 5,
    }


@pytest.mark.parametrize("preset", [*RPNR.presets])
def test_presets_are_valid(preset: str) -> None:
    for dataset in ("sysu-mm01", "regdb"):
        values = {**RPNR.presets[preset].get("*", {}), **RPNR.presets[preset].get(dataset, {})}
        assert RPNRConfig(**values).model_dump().items() >= values.items()


def test_reference_of_relations_on_a_pair() -> None:
    # two rows: each is at twice its row's mean distance from the other, so that nothing repels
    assert reference.relation(np.array([[0.0], [30.0]])) == pytest.approx(4 * np.exp(-900))
