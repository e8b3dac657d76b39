"""Supervised references: shared identities of a batch, the loss against its formula, rates, CAJ's variant."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.runs.configuration import resolve
from methods.base import INFRARED, VISIBLE, Batch, Epoch, LabelledTrainingData, Part, Stage
from methods.errors import MethodError
from methods.parts.backbone import BNNeck
from methods.parts.losses import enhanced_squared_difference, weighted_regularized_triplet
from methods.supervised import Supervised, SupervisedConfig, softened_kl
from tests.methods.contrast_cases import DIMENSION
from tests.methods.episodes import bank, identity, training_data

SMALL = {"epochs": 2, "iterations": 3, "labels_per_batch": 3, "instances": 2}
START = Epoch(0, Stage("train", 2, 3), 0)


class Network(nn.Module):
    """Stands in for the ResNet: one linear map in every place a parameter group knows."""

    dimension = DIMENSION

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.visible, self.infrared, self.trunk = (nn.Linear(96, DIMENSION) for _ in range(3))
            self.neck = BNNeck(DIMENSION)

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.trunk(images.flatten(1))
        return self.neck(pooled), pooled


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods.supervised.TwoStreamResNet", Network)


def supervised(**changes: object) -> Supervised:
    data = training_data()
    labelled = LabelledTrainingData(
        data.dataset, data.modality, data.camera, data.architecture, None, data.seed, identity=identity()
    )
    return Supervised(SupervisedConfig(**SMALL | changes), labelled)


def three_views(generator: torch.Generator) -> Part:
    """Six visible images, their second views, and six infrared ones of the same two people each."""
    modality = torch.tensor([VISIBLE] * 6 + [INFRARED] * 6 + [VISIBLE] * 6)
    label = torch.arange(3).repeat_interleave(2).repeat(3)
    view = torch.tensor([0] * 12 + [1] * 6)
    images = torch.randn(18, 3, 8, 4, generator=generator)
    return Part(images, modality, modality + 1, label, torch.zeros(18, dtype=torch.int64), view, "identity")


def test_positions_of_a_batch_share_their_identity_over_modalities() -> None:
    method = supervised()
    (stream,) = method.begin_epoch(START, bank()).streams
    assert stream.batch_indices is not None
    assert stream.batch_indices.shape == (3, 12)
    seen, unseen = stream.batch_indices.chunk(2, 1)
    assert bool((method.data.modality[stream.sample_index[seen]] == VISIBLE).all())
    assert bool((method.data.modality[stream.sample_index[unseen]] == INFRARED).all())
    assert torch.equal(stream.pseudo_label[seen], stream.pseudo_label[unseen])
    assert torch.equal(stream.pseudo_label, identity()[stream.sample_index])
    assert all(len(labels.unique()) == 3 for labels in stream.pseudo_label[seen])
    assert not method.uses_features(START)


@pytest.mark.parametrize(
    ("metric", "formula"), [("wrt", weighted_regularized_triplet), ("adp", enhanced_squared_difference)]
)
def test_loss_is_the_sum_of_its_formulas(metric: str, formula) -> None:
    method = supervised(metric_loss=metric, kl_weight=0.5)
    part = three_views(torch.Generator().manual_seed(1))
    drawn = Batch("train", 0, {"both": part})
    terms = method.loss(method.forward(drawn), drawn, START)
    features, pooled = method.backbone(part.images, part.modality)
    logits = features @ method.modules["classifier"].weight.T
    p, q = (logits[i : i + 6].div(3).softmax(1) for i in (0, 6))
    expected = {
        "identity": -logits.log_softmax(1)[torch.arange(18), part.pseudo_label].mean(),
        metric: formula(pooled, part.pseudo_label),
        # nine times KL(infrared || visible) at temperature 3; the public code adds 1e-7 to the teacher's probabilities
        "kl": 0.5 * 9 * ((q + 1e-7) * ((q + 1e-7) / p).log()).sum(1).mean(),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert float(terms[name].detach()) == pytest.approx(float(value.detach()), rel=1e-4, abs=1e-7)


def test_the_teacher_of_the_divergence_gets_no_gradient() -> None:
    student, teacher = (torch.randn(4, 5, requires_grad=True) for _ in range(2))
    softened_kl(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_equal_predictions_cost_no_divergence() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert float(softened_kl(logits, logits)) == pytest.approx(0, abs=1e-5)


def test_neck_and_classifier_learn_ten_times_as_fast() -> None:
    method = supervised()
    (found,) = method.optimisers(method.stages(method.config)[0]).values()
    head, body = found.optimiser.param_groups
    assert (head["lr"], body["lr"]) == (pytest.approx(0.01), pytest.approx(0.001))
    assert (head["momentum"], head["nesterov"], head["weight_decay"]) == (0.9, True, 5e-4)
    network = method.backbone
    assert {id(p) for p in head["params"]} == {
        id(network.neck.weight),
        id(method.modules["classifier"].weight),
    }
    everything = sum(
        p.requires_grad for p in [*network.parameters(), *method.modules["classifier"].parameters()]
    )
    assert len(head["params"]) + len(body["params"]) == everything


def test_identities_are_asked_for_and_must_be_shared() -> None:
    with pytest.raises(MethodError, match="identities"):
        Supervised(SupervisedConfig(**SMALL), training_data())
    method = supervised()
    apart = torch.where(method.data.modality == INFRARED, identity() + 6, identity())
    object.__setattr__(method.data, "identity", apart)
    assert "0 identities" in method.begin_epoch(START, bank()).skipped


@pytest.mark.parametrize(("dataset", "larger"), [("sysu-mm01", 22_258), ("regdb", 2_060)])
def test_presets_are_published(dataset: str, larger: int) -> None:
    agw, caj = (
        resolve(Supervised, dataset, "paper", variant, [])[0].model_dump() for variant in (None, "caj")
    )
    assert agw["iterations"] == caj["iterations"] == larger // 32 + 1
    assert (agw["epochs"], agw["metric_loss"], agw["augmentation"]) == (81, "wrt", "weak")
    assert (caj["epochs"], caj["metric_loss"], caj["augmentation"], caj["kl_weight"]) == (
        100,
        "adp",
        "channel",
        0,
    )
    assert (agw["labels_per_batch"], agw["instances"], agw["non_local"]) == (8, 4, True)
