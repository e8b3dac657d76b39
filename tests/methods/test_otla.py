"""OTLA: the lag of infrared labels, blind first batches, the loss against its formula, visible labels, rates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from harness.runs.configuration import resolve
from methods.association.transport import MeanPredictions, sinkhorn_labels
from methods.base import NOISE, TRAIN, VISIBLE, Batch, Epoch, EpochPlan, Part, Phase, Stream
from methods.otla import LABEL, OTLA, OTLAConfig
from methods.parts.alignment import GradientReversal, prediction_alignment, reversal_scale
from methods.parts.backbone import BNNeck
from methods.parts.losses import batch_hard_triplet
from tests.methods.contrast_cases import DIMENSION
from tests.methods.episodes import bank, identity, pairwise, shuffled, training_data

SMALL = {
    **{"k1": 6, "k2": 2, "eps": 0.6, "min_samples": 2, "visible_iterations": 2, "visible_batch": 8},
    **{
        "iterations": 5,
        "passes": 3,
        "labels_per_batch": 3,
        "instances": 2,
        "epochs_visible": 2,
        "epochs_transport": 3,
    },
}
FIRST_STAGE, SECOND_STAGE = OTLA.stages(OTLAConfig(**SMALL))
VISIBLE_STAGE = Epoch(0, FIRST_STAGE, 0)


class Network(nn.Module):
    """Stands in for the ResNet: two depths of 8 and DIMENSION features, with their necks."""

    dimension, depth_dimension = DIMENSION, DIMENSION + 8

    def __init__(self, *_: object, seed: int, **__: object) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem, self.trunk = nn.Linear(3 * 8 * 4, 8), nn.Linear(8, DIMENSION)
            self.necks = nn.ModuleList((BNNeck(8), BNNeck(DIMENSION)))

    def depths(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        first = self.stem(images.flatten(1))
        pooled = (first, self.trunk(first))
        return [neck(x) for neck, x in zip(self.necks, pooled, strict=True)], pooled[-1]

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        features, pooled = self.depths(images)
        return features[-1], pooled


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods.otla.SingleStreamResNet", Network)


def started(**changes: object) -> OTLA:
    """A method whose stage I has found the six people."""
    method = OTLA(OTLAConfig(**SMALL | changes), training_data())
    assert not method.begin_epoch(VISIBLE_STAGE, bank()).skipped
    return method


def transport_epoch(in_stage: int, phase: Phase) -> Epoch:
    return Epoch(2 + in_stage, SECOND_STAGE, in_stage, phase)


def drawn_part(method: OTLA, stream: Stream, iteration: int) -> Part:
    """The images of one batch of a stream; an image is the same whenever it comes."""
    assert stream.batch_indices is not None
    position = stream.batch_indices[iteration]
    index = stream.sample_index[position]
    pictures = torch.randn(len(method.data), 3, 8, 4, generator=torch.Generator().manual_seed(3))
    modality = method.data.modality[index]
    view = torch.zeros(len(index), dtype=torch.int64)
    labels = stream.pseudo_label[position]
    return Part(pictures[index], modality, modality + 1, labels, index, view, stream.label_space)


def one_epoch(method: OTLA, in_stage: int) -> tuple[EpochPlan, EpochPlan]:
    """Run the label pass of an epoch, and begin its training."""
    epoch = transport_epoch(in_stage, LABEL)
    if in_stage == 0:
        method.optimisers(method.stages(method.config)[1])
    look = method.begin_epoch(epoch, bank())
    assert look.steps[0].optimiser is None
    with torch.no_grad():
        for i in range(look.iterations):
            drawn = Batch("label", i, {"infrared": drawn_part(method, look.streams[0], i)})
            method.update(method.forward(drawn), drawn, epoch)
    return look, method.begin_epoch(transport_epoch(in_stage, TRAIN), bank())


def test_visible_labels_are_spcls_clusters_and_stay_in_stage_two() -> None:
    method = started()
    labels = method.labels["visible"].clone()
    truth = identity()[:30]
    assert bool((~pairwise(labels) | pairwise(truth)).all())
    assert bool((labels[labels >= 0].bincount() > 1).all())
    for e in range(3):
        plans = one_epoch(method, e)
        assert all(torch.equal(plan.labels["visible"][:30], labels) for plan in plans)


def test_infrared_labels_lag_one_epoch() -> None:
    """Quirk Q24."""
    method = started(iterations=12)
    for e in range(3):
        before = method.labels["infrared"].clone()
        look, train = one_epoch(method, e)
        if e == 0:
            before = look.labels["infrared"][30:]
        found = method.labels["infrared"]
        assert not torch.equal(found, before)
        # the batches are those of the label pass, with the labels by which they were drawn
        assert look.streams[0].batch_indices is not None
        assert train.streams[0].batch_indices is not None
        seen, unseen = train.streams[0].batch_indices.chunk(2, 1)
        assert torch.equal(unseen - 30, look.streams[0].batch_indices)
        assert torch.equal(train.streams[0].pseudo_label[30:], before)
        assert torch.equal(train.labels["infrared"][30:], found)
        agreed = train.streams[0].pseudo_label[seen] == train.streams[0].pseudo_label[unseen]
        assert bool(agreed.all()) == (e > 0)


def test_first_batches_take_infrared_images_blindly() -> None:
    method = started(iterations=10)
    _, train = one_epoch(method, 0)
    assert train.streams[0].batch_indices is not None
    unseen = train.streams[0].batch_indices.chunk(2, 1)[1]
    # 60 places, 30 images: two decks
    assert unseen.flatten().bincount(minlength=60)[30:].tolist() == [2] * 30
    assert len(train.streams[0].pseudo_label[unseen].unique()) > 3


def test_first_infrared_labels_are_random_over_all_classes() -> None:
    method = OTLA(OTLAConfig(**SMALL), training_data(images=200))
    method.labels["visible"] = identity(images=200)[:1200]
    method.optimisers(method.stages(method.config)[1])
    method.begin_epoch(transport_epoch(0, LABEL), bank(images=200))
    counts = method.labels["infrared"].bincount(minlength=6)
    # 5 standard deviations of a binomial count around 200
    assert (counts - 200).abs().max() < 5 * (1200 * (1 / 6) * (5 / 6)) ** 0.5
    again = OTLA(OTLAConfig(**SMALL), training_data(images=200))
    again.labels["visible"] = method.labels["visible"]
    again.optimisers(again.stages(again.config)[1])
    again.begin_epoch(transport_epoch(0, LABEL), bank(images=200))
    assert torch.equal(again.labels["infrared"], method.labels["infrared"])


def test_loss_is_the_sum_of_its_formulas() -> None:
    method = started()
    _, train = one_epoch(method, 0)
    part = drawn_part(method, train.streams[0], 0)
    drawn = Batch("train", 0, {"both": part})
    terms = method.loss(method.forward(drawn), drawn, transport_epoch(0, TRAIN))
    depths, pooled = method.network.depths(part.images)
    logits = depths[-1] @ method.classifier.weight.T
    (p_v, p_r), (x_v, x_r), y = logits.chunk(2), pooled.chunk(2), part.pseudo_label.chunk(2)[0]
    assert not torch.equal(y, part.pseudo_label.chunk(2)[1])
    rows = torch.arange(len(y))
    expected = {
        "identity_visible": -p_v.log_softmax(1)[rows, y].mean(),
        "triplet_visible": batch_hard_triplet(x_v, y, 0.3),
        "identity_infrared": -0.1 * p_r.log_softmax(1)[rows, y].mean(),
        "triplet_infrared": 0.5 * batch_hard_triplet(x_r, y, 0.3),
        "alignment": prediction_alignment(p_v, p_r, (0.1, 0.5)),
    }
    for name, value in expected.items():
        assert float(terms[name].detach()) == pytest.approx(float(value.detach()), rel=1e-4), name
    assert set(terms) == {*expected, "modality"}
    generator = torch.Generator().manual_seed(method.data.seed("dropout", 2, 0))
    guess = method.discriminator(torch.cat(depths, 1), generator).sigmoid()
    seen = part.modality == VISIBLE
    bce = -torch.where(seen, guess, 1 - guess).log().mean()
    assert float(terms["modality"].detach()) == pytest.approx(float(bce.detach()), rel=1e-4)


def test_the_reversed_gradient_comes_in_with_training_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reversal_scale(0) == 0
    assert reversal_scale(1000) == pytest.approx(2 / (1 + math.exp(-1)) - 1)
    assert reversal_scale(10**6) == pytest.approx(1)
    scales: list[float] = []
    apply = GradientReversal.apply

    def noted(x: Tensor, scale: float) -> Tensor:
        scales.append(scale)
        return apply(x, scale)  # type: ignore[no-any-return]

    monkeypatch.setattr(GradientReversal, "apply", noted)
    method = started(reversal_speed=5)
    _, train = one_epoch(method, 0)
    assert not scales
    drawn = Batch("train", 3, {"both": drawn_part(method, train.streams[0], 0)})
    method.loss(method.forward(drawn), drawn, transport_epoch(2, TRAIN))
    assert scales == [reversal_scale(5 * (2 * 5 + 3 + 1))]


@pytest.mark.parametrize("label_pass", ["train", "eval"])
def test_the_label_pass_moves_running_statistics_only_in_training_mode(label_pass: str) -> None:
    """Quirk Q25."""
    method = started(label_pass=label_pass)
    method.optimisers(method.stages(method.config)[1])
    method.begin_epoch(transport_epoch(0, LABEL), bank())
    before = method.network.necks[-1].running_mean.clone()
    one_epoch(method, 0)
    assert torch.equal(method.network.necks[-1].running_mean, before) == (label_pass == "eval")
    assert method.network.training


def test_predictions_are_averaged_over_occurrences_and_unseen_images_keep_their_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator)
    predictions = MeanPredictions(4, 3, torch.device("cpu"))
    predictions.add(torch.tensor([0, 1, 0]), logits[:3])
    predictions.add(torch.tensor([3, 0]), logits[3:])
    p = logits.softmax(1)
    expected = sinkhorn_labels(torch.stack([(p[0] + p[2] + p[4]) / 3, p[1], p[3]]), 25.0, 0.1)
    found = predictions.labels(torch.tensor([7, 7, 7, 7]), 25.0, 0.1)
    assert found.tolist() == [*expected[:2].tolist(), 7, int(expected[2])]


def test_predictions_that_say_nothing_change_no_label() -> None:
    predictions = MeanPredictions(3, 2, torch.device("cpu"))
    predictions.add(torch.arange(3), torch.zeros(3, 2))
    with pytest.warns(RuntimeWarning, match="degenerate"):
        found = predictions.labels(torch.tensor([1, 0, 1]), 25.0, 0.1)
    assert found.tolist() == [1, 0, 1]


def test_stage_two_starts_from_the_first_weights_with_two_rates() -> None:
    method = started()
    first = {key: value.clone() for key, value in method.network.state_dict().items()}
    for parameter in method.network.parameters():
        parameter.data.add_(1)
    (found,) = method.optimisers(method.stages(method.config)[1]).values()
    method.begin_epoch(transport_epoch(0, LABEL), bank())
    assert all(torch.equal(value, first[key]) for key, value in method.network.state_dict().items())
    head, body = found.optimiser.param_groups
    # the first epoch of ten of the rise
    assert head["lr"] == pytest.approx(3.5e-4)
    assert body["lr"] == pytest.approx(3.5e-5)
    network = method.network
    assert {id(p) for p in body["params"]} == {
        id(p) for part in (network.stem, network.trunk) for p in part.parameters()
    }
    assert any(p is method.classifier.weight for p in head["params"])
    rates = []
    for _ in range(60):
        rates.append(head["lr"] / 3.5e-3)
        found.optimiser.step()
        found.schedule.step()
    assert [rates[e] for e in (4, 9, 19, 20, 49, 50)] == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01])


def test_only_noise_skips_both_stages() -> None:
    method = OTLA(OTLAConfig(**SMALL | {"min_samples": 12}), training_data())
    plan = method.begin_epoch(VISIBLE_STAGE, shuffled(bank()))
    assert plan.iterations == 0
    for word in ("0 clusters", "eps", "k1"):
        assert word in plan.skipped
    method.optimisers(method.stages(method.config)[1])
    for phase in method.phases(transport_epoch(0, TRAIN)):
        assert method.begin_epoch(transport_epoch(0, phase), bank()).skipped


def test_labels_outlive_the_process() -> None:
    method = started()
    one_epoch(method, 0)
    other = OTLA(OTLAConfig(**SMALL), training_data())
    other.load_state({key: value.clone() for key, value in method.state().items()})
    for name, mine in method.labels.items():
        assert torch.equal(mine, other.labels[name])


def test_images_without_a_label_shorten_the_epoch() -> None:
    """N is that of visible images with a label or of infrared ones, whichever is larger: times N / batch + 1."""
    method = started(iterations=50, passes=2)
    assert method.begin_epoch(transport_epoch(0, LABEL), bank()).skipped == ""
    assert method.iterations == 2 * 30 // 6 + 1
    few = OTLA(OTLAConfig(**SMALL | {"iterations": 50, "passes": 1}), training_data(images=20))
    few.rows["infrared"] = few.rows["infrared"][:30]
    few.labels["visible"] = identity(images=20)[:120].clone()
    assert few.iterations == 120 // 6 + 1
    few.labels["visible"][40:] = NOISE
    assert few.iterations == 40 // 6 + 1
    few.labels["visible"][20:] = NOISE
    assert few.iterations == 30 // 6 + 1


@pytest.mark.parametrize(
    ("dataset", "larger", "times", "speed"), [("sysu-mm01", 22_258, 1, 1), ("regdb", 2_060, 2, 5)]
)
def test_paper_is_published(dataset: str, larger: int, times: int, speed: int) -> None:
    config = resolve(OTLA, dataset, "paper", None, [])[0]
    assert isinstance(config, OTLAConfig)
    assert config.iterations == times * larger // 32 + 1
    assert config.passes == times
    assert config.reversal_speed == speed
    assert config.visible_iterations == (800 if times == 1 else 50)
    assert [stage.epochs for stage in OTLA.stages(config)] == [51, 81]
    assert (config.labels_per_batch, config.instances, config.transport_power) == (4, 8, 25)
