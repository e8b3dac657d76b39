"""MMM beside its public code: matching, single steps, passes and draws, and a whole small training in three stages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from methods.association.confidence import LastLosses, fit_mixture, loss_confidence
from methods.association.multi_memory import Memories, matched_labels, set_distance, split_memories
from methods.association.weighted_prototypes import WeightedPrototypes
from methods.base import Batch, Epoch, EpochPlan, FeatureBank, Part, Stream
from methods.clustering.labels import NOISE, n_clusters
from methods.mmm import CONFIDENCE, MATCHED, MMM, PROTOTYPES, WARM_UP, MMMConfig
from methods.parts.alignment import mean_discrepancy
from methods.parts.backbone import embed
from methods.parts.fixed_labels import KINDS, KINDS_OF, FixedLabels
from methods.parts.heads import Predictions
from methods.parts.losses import batch_hard_triplet
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
from tests.oracles.trajectories import SmallNetwork, adapted, learning_rates, on_nothing, tensor, under

DATASETS = {"sysu": "sysu-mm01", "regdb": "regdb"}
SIDES = ("visible", "infrared")
PIXEL = 32


def integers(array: np.ndarray) -> Tensor:
    return tensor(array, torch.int64)


# matching


def match(arrays: Arrays) -> dict[str, float]:
    """Centres, distances, labels and kept images, with all clusters and as published."""
    seen = Differences()
    for case in dict.fromkeys(key.split(".")[0] for key in arrays):
        d = under(arrays, f"{case}.")
        for mode in ("public", "default"):
            if f"{mode}.distance" in d:
                compare_match(seen, d, under(d, f"{mode}."), mode == "default", f"{case} {mode}")
    assert seen.largest
    return seen.largest


def compare_match(seen: Differences, d: Arrays, recorded: Arrays, match_all: bool, where: str) -> None:
    """One case in one mode; the recorded distances are those of the clusters that take part."""
    labels = [integers(d[f"labels_{side}"]) for side in SIDES]
    size = [n_clusters(y) for y in labels]
    k_v, k_r = size if match_all else (size[0] - 1, size[1] - 1)
    if "centres_visible" in recorded:
        stored = [
            Memories(c, torch.full((len(c),), 4)) for c in (tensor(recorded[f"centres_{s}"]) for s in SIDES)
        ]
        seen.close(
            "distances of stored centres", set_distance(*stored), recorded["distance"], 1e-5, where=where
        )
        own = [
            split_memories(tensor(d[f"features_{side}"]), y) for side, y in zip(SIDES, labels, strict=True)
        ]
        found = set_distance(*own)[:k_v, :k_r]
        if are_split(own, stored):
            seen.close("distances of own centres", found, recorded["distance"], 1e-5, where=where)
        compare_labels(seen, labels, set_distance(*own), recorded, match_all, where)
    full = torch.full((size[0], size[1]), 1e3, dtype=torch.float64)
    full[:k_v, :k_r] = tensor(recorded["distance"])
    compare_labels(seen, labels, full, recorded, match_all, where)


def are_split(own: list[Memories], stored: list[Memories]) -> bool:
    """Whether k-means found the recorded centres, up to order: not where they depend on its draws."""
    return all(
        bool((torch.cdist(a.centres[: len(b.centres)], b.centres).amin(2) < 1e-4).all())
        for a, b in zip(own, stored, strict=True)
    )


def compare_labels(
    seen: Differences, labels: list[Tensor], distance: Tensor, recorded: Arrays, match_all: bool, where: str
) -> None:
    """Labels and kept images; the published run breaks where it keeps a number beyond the infrared clusters."""
    found = matched_labels(*labels, distance, match_all=match_all)
    new, k_r = integers(recorded["matched_visible"]), n_clusters(labels[1])
    for side, ours, public in zip(SIDES, found, (new, labels[1]), strict=True):
        kept = integers(recorded[f"kept_{side}"])
        kept = kept[public[kept] < k_r]
        seen.equal("kept images", torch.nonzero(ours > NOISE).flatten(), kept, f"{where} {side}")
        seen.equal("matched labels", ours[kept], public[kept], f"{where} {side}")
    seen.equal("classes", n_clusters(torch.cat(found)), recorded["classes"], where)


# steps


def step(arrays: Arrays) -> dict[str, float]:
    """Terms and gradients of batches, prototypes after a pass; discrepancy and triplet alone."""
    seen = Differences()
    for name in cases_of(arrays, ".gradient_x"):
        d = under(arrays, f"{name}.")
        x, y = tensor(d["x"]).requires_grad_(), tensor(d["y"])
        loss = mean_discrepancy(x, y, torch.zeros(len(x), dtype=torch.int64))
        loss.backward()
        seen.close("discrepancy", loss, d["value"], 1e-5, where=name)
        seen.close("gradients", x.grad, d["gradient_x"], 1e-6, where=name)
    for name in cases_of(arrays, ".gradient"):
        d = under(arrays, f"{name}.")
        x = tensor(d["x"]).requires_grad_()
        loss = batch_hard_triplet(x, integers(d["labels"]), MMMConfig().margin)
        loss.backward()
        seen.close("triplet", loss, d["value"], 1e-5, where=name)
        seen.close("gradients", x.grad, d["gradient"], 1e-6, where=name)
    for name in cases_of(arrays, ".classifier"):
        compare_step(seen, under(arrays, f"{name}."), name)
    assert seen.largest
    return seen.largest


def compare_step(seen: Differences, d: Arrays, where: str) -> None:
    """Two batches without a step between them, then a pass over both for the prototypes."""
    method = on_nothing(MMM, configured(MMM, "sysu-mm01"), "sysu-mm01")
    assert isinstance(method, MMM)
    rows = torch.stack([tensor(d[f"prototype_{kind}"]) for kind in KINDS])
    method.prototypes = WeightedPrototypes(rows)
    method.classifier.weight = nn.Parameter(tensor(d["classifier"]))
    neck = nn.BatchNorm1d(rows.shape[2])
    with torch.no_grad():
        neck.weight.copy_(tensor(d["neck"]))
    stage = MMM.stages(method.config)[-1]
    passed = []
    for i in range(2):
        b = under(d, f"{i}.")
        pooled = torch.cat([tensor(b[f"pooled_{kind}"]) for kind in KINDS]).requires_grad_()
        logits = method.classifier(neck(pooled))
        logits.retain_grad()
        part = three_kinds(integers(b["labels"]))
        weights = [tensor(b[f"weight_{kind}"]) for kind in KINDS]
        method.confidence = torch.cat([torch.stack(weights[:2]), weights[2][None]])
        seen_by = Predictions(pooled, logits)
        batch = Batch("train", i, {"both": part})
        terms = dict(method.loss(seen_by, batch, Epoch(105 + i, stage, 5)))
        torch.stack(list(terms.values())).sum().backward()
        compare_terms(seen, terms, b, 1e-5, f"{where} {i}")
        seen.close("logits", logits, b["logits"], 2e-5, where=where)
        seen.close("gradients", logits.grad, b["gradient_logits"], 1e-6, where=where)
        seen.close("gradients", pooled.grad, b["gradient_pooled"], 1e-6, where=where)
        passed.append((method.confidence, Predictions(pooled.detach(), logits.detach()), batch.parts))
    for i, (method.confidence, seen_by, parts) in enumerate(passed):
        method.update(seen_by, Batch(PROTOTYPES.name, i, parts), Epoch(105, stage, 5))
    after = np.stack([d[f"after_{kind}"] for kind in KINDS])
    seen.close("prototypes", method.prototypes.rows, after, 1e-5, where=where)


def three_kinds(labels: Tensor) -> Part:
    """A batch of visible, augmented and infrared images of the same labels; each position is an image of its own."""
    n = len(labels)
    modality, view = (torch.tensor(each).repeat_interleave(n) for each in ([0, 0, 1], [0, 1, 0]))
    place = torch.arange(n).repeat(3)
    return Part(torch.empty(3 * n, 0), modality, modality + 1, labels.repeat(3), place, view, "joint")


def compare_terms(
    seen: Differences, terms: Mapping[str, Any], recorded: Arrays, tolerance: float, where: str
) -> None:
    """The four terms as they enter the sum; two of them are recorded in halves."""
    public = {
        "identity": recorded["loss_id"],
        "triplet": recorded["loss_triplet"],
        "intra": recorded["loss_intra_visible"] + recorded["loss_intra_infrared"],
        "inter": recorded["loss_inter_visible"] + recorded["loss_inter_infrared"],
    }
    assert terms.keys() == public.keys()
    for name, value in public.items():
        seen.close(f"{name} term", terms[name], value, tolerance, where=where)
    seen.close(
        "total", torch.stack(list(terms.values())).sum(), recorded["loss_total"], 2 * tolerance, where=where
    )


# draws, passes and schedules


class Tape:
    """A generator that deals out recorded draws: ranks among all labels, else what was drawn itself."""

    def __init__(self, tape: np.ndarray, lengths: np.ndarray) -> None:
        self._draws = iter(np.split(tape.astype(np.int64), lengths.astype(np.int64).cumsum()[:-1]))

    def choice(self, values: Any, size: int | None = None, replace: bool = True) -> Any:
        """Return the next draw."""
        values, drawn = np.asarray(values), next(self._draws)
        if size is None or not replace:
            assert len(drawn) == (1 if size is None else size)
            chosen = values[drawn]
            return chosen[0] if size is None else chosen
        assert len(drawn) == size
        assert np.isin(drawn, values).all()
        return drawn

    def used_up(self) -> bool:
        """Say whether nothing is left."""
        return next(self._draws, None) is None


def parts(arrays: Arrays, dataset: str) -> dict[str, float]:
    """Batches of common labels, lists of passes, confidences, learning rates and settings."""
    seen, config = Differences(), configured(MMM, dataset)
    for name in cases_of(arrays, ".tape"):
        compare_draws(seen, config, under(arrays, f"{name}."), name)
    for name in cases_of(arrays, ".em_steps"):
        compare_confidence(seen, under(arrays, f"{name}."), name)
    if "learning_rate" in arrays:
        compare_settings(seen, config, arrays, dataset)
    assert seen.largest
    return seen.largest


def compare_draws(seen: Differences, config: MMMConfig, d: Arrays, where: str) -> None:
    """The batches of an epoch, and the lists of a pass up to their shuffles."""
    sides = [integers(d[f"labels_{side}"]) for side in SIDES]
    fixed = FixedLabels(torch.cat(sides), torch.arange(2).repeat_interleave(torch.tensor([*map(len, sides)])))
    sizes, tape = (int(d["classes"]), int(d["instances"])), Tape(d["tape"], d["tape_lengths"])
    drawn = fixed.batches(sizes, 10**6, tape)  # type: ignore[arg-type]
    assert tape.used_up(), f"{where}: draws are left over"
    for side, half in zip(SIDES, np.split(drawn, 2, axis=1), strict=True):
        seen.equal("batches", half.ravel(), d[side].astype(np.int64)[: half.size], f"{where} {side}")
        seen.equal("length of batches", half.size, len(d[side]), f"{where} {side}")
    lists = []

    class InOrder:
        """Shuffles nothing, and keeps what it is given."""

        def permutation(self, values: np.ndarray) -> np.ndarray:
            lists.append(values)
            return d[f"all_{SIDES[len(lists) - 1]}"].astype(np.int64)

    passes = fixed.passes(config.padding, config.infrared_padding, sizes, 10**6, InOrder())  # type: ignore[arg-type]
    length, size = int(d["all_length"]), sizes[0] * sizes[1]
    for side, own, half in zip(SIDES, lists, np.split(passes, 2, axis=1), strict=True):
        seen.equal("lists of passes", np.sort(own), d[f"all_{side}_sorted"], f"{where} {side}")
        public = np.resize(d[f"all_{side}"].astype(np.int64), length // size * size)
        seen.equal("passes", half.ravel(), public, f"{where} {side}")


def compare_confidence(seen: Differences, d: Arrays, where: str) -> None:
    """Confidences from the losses of a pass, given the published start of the mixture; the published -1."""
    steps = []
    for name, kinds in zip(SIDES, (KINDS[:2], KINDS[2:]), strict=True):
        visits = integers(d[f"visits_{name}"])
        losses = LastLosses(len(kinds), int(d[f"n_{name}"]), torch.device("cpu"))
        for k, kind in enumerate(kinds):
            losses.add(torch.full_like(visits, k), visits, tensor(d[f"cost_{kind}"]))
        steps.append(compare_mixture(seen, losses.costs, d, name, kinds, where))
    seen.equal("steps of the mixture", np.array(steps), d["em_steps"], where)


def compare_mixture(
    seen: Differences, costs: Tensor, d: Arrays, name: str, kinds: tuple[str, ...], where: str
) -> int:
    """Return the steps of the mixture of a modality, whose confidences are compared."""
    # a float32 of the recorded number, whatever the last bit of the scaling
    start, steps = float(d[f"start_{name}"]) + 1e-6, []

    def counted(values: Tensor, at: float | None = None) -> Any:
        mixture = fit_mixture(values, at)
        steps.append(mixture.steps)
        return mixture

    with mock.patch("methods.association.confidence.fit_mixture", counted):
        found = loss_confidence(costs, start, unvisited="minimum")
    for k, kind in enumerate(kinds):
        seen.close("confidences", found[k], d[f"weight_{kind}"], 1e-3, where=f"{where} {kind}")
    return int(steps[0])


def compare_settings(seen: Differences, config: MMMConfig, arrays: Arrays, dataset: str) -> None:
    """Learning rates of every epoch of stage III, its groups, and the published defaults."""
    method, stage = on_nothing(MMM, config, dataset), MMM.stages(config)[-1]
    seen.equal("epochs", stage.epochs, len(arrays["learning_rate"]))
    rates = np.array(learning_rates(method, stage))
    recorded = arrays["learning_rate"]
    head, body = method.optimisers(stage)["model"].optimiser.param_groups
    for column, share in ((0, config.backbone_rate), (1, 1.0), (2, 1.0)):
        seen.close("learning rates", share * rates, recorded[:, column], 0.0, 1e-6, f"group {column}")
    for key, value in (("weight_decay", 5e-4), ("momentum", 0.9), ("nesterov", 1)):
        seen.close(
            "optimiser", [float(head[key]), float(body[key])], [float(arrays[key])] * 2, 1e-7, where=key
        )
        seen.close("optimiser", float(arrays[key]), value, 1e-7, where=key)
    declared = {
        **{"batch_size": config.matched_labels, "num_pos": config.matched_instances, "margin": config.margin},
        **{"warm_epoch": config.epochs_warm_up, "sm_w": config.intra_weight, "md_w": config.inter_weight},
        "lr": config.matched_rate,
    }
    for key, ours in declared.items():
        if f"declared_{key}" in arrays:
            seen.close("settings", ours, arrays[f"declared_{key}"], 1e-6, where=key)


# a whole small training

NAMES = {"stem_visible": "stems.0", "stem_infrared": "stems.1", "bottleneck": "neck"}
STAGES = {1: "dual", 2: "cross"}


def renamed(state: Arrays) -> dict[str, Tensor]:
    """Return recorded weights by the names of our small network."""
    found = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        found[f"{NAMES.get(first, first)}.{rest}"] = tensor(value)
    return found


def small_network(arrays: Arrays) -> Any:
    """Build methods on the recorded network, which starts from the recorded weights whenever it is made."""

    def made(*_: Any, **__: Any) -> nn.Module:
        net = SmallNetwork()
        net.load_state_dict(renamed(under(arrays, "initial.")), strict=False)
        return net

    return network(made)


class Training:
    """A recorded training of three stages, and our method beside it."""

    def __init__(self, arrays: Arrays, dataset: str) -> None:
        self.arrays, self.seen = arrays, Differences()
        size = {key: int(value) for key, value in under(arrays, "size_").items()}
        labels = size["batch"] // size["instances"]
        self.config = configured(
            MMM,
            dataset,
            memory_gradient="in_backward",
            **{key: size[key] for key in ("k1", "k2", "joint_k1", "joint_k2", "instances", "iterations")},
            **{"labels_per_batch": labels, "infrared_labels": labels},
        )
        sides = [arrays[f"images_{side}"].astype(np.float32) / PIXEL for side in SIDES]
        self.images = torch.from_numpy(np.concatenate(sides)).movedim(-1, -3)
        self.modality = torch.arange(2).repeat_interleave(torch.tensor([len(side) for side in sides]))
        self.camera = torch.cat([integers(arrays[f"camera_{side}"]) for side in SIDES])
        self.rows = {side: torch.nonzero(self.modality == m).flatten() for m, side in enumerate(SIDES)}
        made = MMM(self.config, training_data(dataset, self.modality, self.camera))
        self.method = made
        self.stages = {stage.name: stage for stage in MMM.stages(self.config)}

    def bank(self, recorded: Arrays | None) -> FeatureBank:
        """Return recorded features as a bank; without any, one of width 0."""
        n = len(self.modality)
        features = torch.empty(n, 0)
        if recorded is not None:
            features = torch.cat([tensor(recorded[f"features_{side}"]) for side in SIDES])
        return FeatureBank(features, self.modality, self.camera, torch.arange(n))

    def part(self, rows: Tensor, labels: Tensor, augment: np.ndarray, space: str) -> Part:
        """Return the views of some images, view after view."""
        views = [
            adapted(self.images[row], gain, offset, bool(flip), int(channel))
            for view in augment
            for row, (gain, offset, flip, channel) in zip(rows, view, strict=True)
        ]
        n = len(augment)
        rows, number = rows.repeat(n), torch.arange(n).repeat_interleave(len(rows))
        return Part(
            torch.stack(views), self.modality[rows], self.camera[rows], labels.repeat(n), rows, number, space
        )

    # stages I and II

    def contrast(self) -> None:
        """Compare the epochs of stages I and II."""
        counted: dict[str, int] = {}
        for number in range(sum(key.endswith(".stage") for key in self.arrays)):
            recorded = under(self.arrays, f"e{number}.")
            stage = self.stages[STAGES[int(recorded["stage"])]]
            in_stage = counted.get(stage.name, 0)
            counted[stage.name] = in_stage + 1
            if not in_stage:
                self.optimisation = self.method.optimisers(stage)["model"]
            self.contrast_epoch(recorded, Epoch(number, stage, in_stage), f"epoch {number}")
            self.optimisation.schedule.step()

    def contrast_epoch(self, recorded: Arrays, epoch: Epoch, where: str) -> None:
        """Labels, streams, memories, losses and weights of an epoch."""
        bank, seen, method = self.bank(recorded), self.seen, self.method
        seen.close("features", self.extracted(), bank.features, 2e-5, where=where)
        plan = method.begin_epoch(epoch, bank)
        assert not plan.skipped, plan.skipped
        self.compare_plan(plan, recorded, where)
        method.backbone.train()
        for i in range(plan.iterations):
            for step in plan.steps:
                drawn = {name: self.recorded_part(recorded, name, i) for name in step.streams}
                terms = take_step(method, Batch(step.name, i, drawn), epoch, self.optimisation)
                for name in step.streams:
                    public = recorded[f"loss_{name.replace('-', '_')}"][i]
                    seen.close(
                        "contrast", terms[f"cluster_{name}"], public, 2e-5, where=f"{where} {name} {i}"
                    )
        self.compare_memories(recorded, "end", where)
        self.compare_weights(recorded, 2e-5, where)

    def recorded_part(self, recorded: Arrays, stream: str, i: int) -> Part:
        """Return what a stream gives to an iteration."""
        drawn = under(recorded, f"batch_{stream.replace('-', '_')}_")
        rows = self.rows[stream.removeprefix("joint-")][integers(drawn["index"][i])]
        space = "joint" if stream.startswith("joint") else stream
        return self.part(rows, integers(drawn["label"][i]), drawn["augment"][i], space)

    def compare_plan(self, plan: EpochPlan, recorded: Arrays, where: str) -> None:
        """Labels of every space, what every stream draws from, rows of memories, iterations, settings."""
        for space, labels in under(recorded, "labels_").items():
            rows = self.rows.get(space, torch.arange(len(self.modality)))
            self.seen.equal("clusters", plan.labels[space][rows], labels, f"{where} {space}")
            self.seen.close("eps", self.config.eps, recorded[f"eps_{space}"], 1e-6, where=where)
            self.seen.equal("min_samples", self.config.min_samples, recorded[f"min_samples_{space}"], where)
        recorded_streams = {key for key in recorded if key.startswith("stream_") and key.endswith("_index")}
        assert {f"stream_{s.name.replace('-', '_')}_index" for s in plan.streams} == recorded_streams
        for stream in plan.streams:
            self.compare_stream(stream, under(recorded, f"stream_{stream.name.replace('-', '_')}_"), where)
        self.compare_memories(recorded, "start", where)
        self.seen.equal("iterations", plan.iterations, len(recorded["loss_visible"]), where)

    def compare_stream(self, stream: Stream, recorded: Arrays, where: str) -> None:
        """Images and labels that a stream draws from, and the sizes of its batches."""
        rows = self.rows[stream.name.removeprefix("joint-")][integers(recorded["index"])]
        self.seen.equal("streams", stream.sample_index, rows, f"{where} {stream.name}")
        self.seen.equal("streams", stream.pseudo_label, recorded["label"], f"{where} {stream.name}")
        assert stream.num_ids * stream.num_instances == int(self.arrays["size_batch"])

    def compare_memories(self, recorded: Arrays, when: str, where: str) -> None:
        """Rows of every memory; the joint one serves two streams."""
        for key, rows in recorded.items():
            if key.startswith("memory_") and key.endswith(f"_{when}"):
                name = key.removeprefix("memory_").removesuffix(f"_{when}")
                name = "joint-visible" if name == "joint" else name
                own = self.method.memories[name].centroids
                self.seen.close("memories", own, rows, 2e-5, where=f"{where} {name} {when}")

    def extracted(self) -> Tensor:
        """Return our own features, as they are clustered."""
        with torch.no_grad():
            return embed(self.method.backbone.eval(), self.images, self.modality)

    def compare_weights(self, recorded: Arrays, tolerance: float, where: str) -> None:
        """Weights and running statistics after an epoch."""
        own = {**self.method.backbone.state_dict(), "classifier.weight": self.method.classifier.weight}
        found = renamed(under(recorded, "weights."))
        assert found, f"{where}: no weights"
        for name, value in found.items():
            self.seen.close("weights", own[name], value, tolerance, tolerance, f"{where} {name}")

    # stage III

    def matched(self) -> None:
        """Compare the matching, and the epochs of stage III."""
        arrays, method, stage = self.arrays, self.method, self.stages[MATCHED]
        recorded = under(arrays, "match.")
        self.seen.close("features", self.extracted(), self.bank(recorded).features, 2e-5, where="match")
        stored = [tensor(recorded[f"centres_{side}"]) for side in SIDES]
        distance = set_distance(*(Memories(c, torch.full((len(c),), c.shape[1])) for c in stored))
        self.seen.close("distances of stored centres", distance, recorded["distance"], 1e-5)
        self.optimisation, at = method.optimisers(stage)["model"], 0
        for i, number in enumerate(arrays["matched.epochs"].tolist()):
            while at < number:
                self.optimisation.schedule.step()
                at += 1
            epoch = Epoch(sum(s.epochs for s in self.stages.values()) - stage.epochs + number, stage, number)
            self.matched_epoch(under(arrays, f"matched.e{i}."), epoch, f"matched epoch {number}")

    def matched_epoch(self, recorded: Arrays, epoch: Epoch, where: str) -> None:
        """All phases of an epoch of stage III: losses, costs, confidences, prototypes and weights."""
        body, head = (self.optimisation.optimiser.param_groups[k]["lr"] for k in (1, 0))
        self.seen.close("learning rates", [body, head, head], recorded["lr"], 0, 1e-6, where)
        for module in self.method.modules.values():
            module.train()
        for phase in self.method.phases(epoch):
            at = Epoch(epoch.number, epoch.stage, epoch.in_stage, phase)
            with self.recorded_starts(recorded):
                plan = self.method.begin_epoch(at, self.first_bank(at))
            assert not plan.skipped, plan.skipped
            if self.method.warms_up(epoch) and not epoch.in_stage:
                self.compare_matching()
            step = plan.steps[0]
            name = {WARM_UP: "warm", PROTOTYPES.name: "prototype"}.get(step.name, step.name)
            drawn = under(recorded, f"{name}.")
            self.seen.equal("iterations", plan.iterations, len(drawn["visible"]), f"{where} {name}")
            for i in range(plan.iterations):
                batch = Batch(step.name, i, self.matched_parts(drawn, i))
                self.matched_step(batch, at, recorded, f"{where} {name} {i}")
            self.compare_phase(step.name, recorded, where)
        self.compare_weights(recorded, 1e-4, where)

    def first_bank(self, epoch: Epoch) -> FeatureBank:
        """Return the features that stage II leaves, as long as the method asks for them."""
        return self.bank(under(self.arrays, "match.") if self.method.uses_features(epoch) else None)

    def recorded_starts(self, recorded: Arrays) -> Any:
        """Let the mixtures of an epoch start as the published ones did."""
        starts = iter(
            [float(recorded[f"start_{side}"]) + 1e-6 for side in SIDES if f"start_{side}" in recorded]
        )

        def from_recorded(costs: Tensor, **options: Any) -> Tensor:
            return loss_confidence(costs, next(starts), **options)

        return mock.patch("methods.mmm.loss_confidence", from_recorded)

    def compare_matching(self) -> None:
        """Labels of stage III; then go on with the recorded classifier."""
        fixed, match = self.method.fixed, under(self.arrays, "match.")
        assert fixed is not None
        labels = {"visible": match["matched_visible"], "infrared": match["labels_infrared"]}
        for side, rows in self.rows.items():
            kept = integers(self.arrays[f"matched.kept_{side}"])
            self.seen.equal("kept images", fixed.images(side), rows[kept], side)
            self.seen.equal("matched labels", fixed.of(side), labels[side][kept], side)
        first = tensor(self.arrays["matched.initial.classifier.weight"])
        self.seen.equal("classes", len(fixed), self.arrays["matched.classes"])
        assert self.method.classifier.weight.shape == first.shape
        self.method.classifier.weight.data.copy_(first)

    def matched_parts(self, drawn: Arrays, i: int) -> dict[str, Part]:
        """Return the batch of an iteration: visible images in two views, infrared ones."""
        fixed, parts = self.method.fixed, {}
        assert fixed is not None
        for side, views in KINDS_OF.items():
            position = integers(drawn[side][i])
            rows, labels = fixed.images(side)[position], fixed.of(side)[position]
            parts[side] = self.part(rows, labels, drawn["augment"][i][list(views)], "joint")
        return parts

    def matched_step(self, batch: Batch, epoch: Epoch, recorded: Arrays, where: str) -> None:
        """Take a step and compare its terms; or look."""
        if batch.step in (CONFIDENCE.name, PROTOTYPES.name):
            with torch.no_grad():
                self.method.update(self.method.forward(batch), batch, epoch)
            return
        terms = take_step(self.method, batch, epoch, self.optimisation)
        if batch.step == WARM_UP:
            loss = recorded["loss_warm"][batch.iteration]
            self.seen.close("warm-up", terms["identity"], loss, 5e-5, where=where)
            return
        losses = {k: v[batch.iteration] for k, v in recorded.items() if k.startswith("loss_")}
        compare_terms(self.seen, terms, losses, 1e-4, where)

    def compare_phase(self, step: str, recorded: Arrays, where: str) -> None:
        """What a pass leaves behind."""
        method = self.method
        assert method.fixed is not None
        for side, kinds in KINDS_OF.items():
            rows = method.fixed.images(side)
            for k in kinds:
                if step == CONFIDENCE.name:
                    own = method.losses.costs[k, rows]
                    self.seen.close("costs", own, recorded[f"cost_{KINDS[k]}"], 1e-4, where=where)
                elif step == "train":
                    own = method.confidence[k, rows]
                    self.seen.close("confidences", own, recorded[f"weight_{KINDS[k]}"], 1e-3, where=where)
                elif step == PROTOTYPES.name:
                    own, public = method.prototypes.rows[k], recorded[f"prototype_{KINDS[k]}"]
                    self.seen.close("prototypes", own, public, 1e-4, where=where)


def trajectory(arrays: Arrays, dataset: str) -> dict[str, float]:
    """All of a training, given batches, first weights and the starts of mixtures."""
    with small_network(arrays):
        training = Training(arrays, dataset)
        compare_declared(training.seen, dataset, arrays)
        training.contrast()
        training.matched()
    return training.seen.largest


def compare_declared(seen: Differences, dataset: str, arrays: Arrays) -> None:
    """The published defaults of stages I and II, which the launch lines leave as they are but for the iterations."""
    c = configured(MMM, dataset)
    declared = {
        **{"lr": c.learning_rate, "weight_decay": c.weight_decay, "step_size": c.lr_step},
        **{"temp": c.temperature, "momentum": c.memory_momentum, "epochs": c.epochs_dual},
        **{
            "k1": c.k1,
            "k2": c.k2,
            "num_instances": c.instances,
            "batch_size": c.labels_per_batch * c.instances,
        },
    }
    for key, ours in declared.items():
        if f"declared_{key}" in arrays:
            seen.close("settings", ours, arrays[f"declared_{key}"], 1e-6, 1e-6, key)


COMPARISONS: dict[str, Comparison] = {
    r"mmm_match(_\w+)?": match,
    **{rf"mmm_{key}_step(_\w+)?": step for key in DATASETS},
    **{rf"mmm_{key}_parts(_\w+)?": partial(parts, dataset=name) for key, name in DATASETS.items()},
    **{rf"mmm_{key}_trajectory(_\w+)?": partial(trajectory, dataset=name) for key, name in DATASETS.items()},
}
MMM_FILE, MATCHING = "methods/mmm.py", "methods/association/multi_memory.py"
STEP, TRAINING = ("mmm_sysu_step",), ("mmm_sysu_trajectory",)
MUTATIONS: list[Mutation] = [
    Mutation(
        "MMM: distance over visible memories",
        MATCHING,
        "away = (least + sources.square().sum(1, keepdim=True)).clamp(min=0).sqrt()",
        "away = torch.cdist(sources, targets).view(-1, memories, k_v, memories).amin(1).mT.reshape(-1, k_v)",
        ("mmm_match",),
    ),
    Mutation(
        "MMM: the last cluster is matched in the published mode",
        MATCHING,
        "distance if match_all else distance[:-1, :-1]",
        "distance if match_all else distance[:-1]",
        ("mmm_match",),
    ),
    Mutation(
        "MMM: identity over the sum of weights",
        MMM_FILE,
        '(weight * cross_entropy(seen.logits, y, reduction="none")).mean()',
        '(weight * cross_entropy(seen.logits, y, reduction="none")).sum() / weight.sum()',
        STEP,
    ),
    Mutation("MMM: the partner is not held", MMM_FILE, "(a, b.detach(), y[:n])", "(a, b, y[:n])", STEP),
    Mutation(
        "MMM: kernels of the discrepancy one width too few",
        "methods/parts/alignment.py",
        "for k in range(-2, 3)",
        "for k in range(-2, 2)",
        STEP,
    ),
    Mutation(
        "MMM: prototypes over the sum of weights",
        "methods/association/weighted_prototypes.py",
        "self._counts.index_add_(0, row, torch.ones_like(weights))",
        "self._counts.index_add_(0, row, weights)",
        STEP,
    ),
    Mutation(
        "MMM: the less trusted component",
        "methods/association/confidence.py",
        "int(means.argmin())",
        "int(means.argmax())",
        ("mmm_sysu_parts",),
    ),
    Mutation(
        "MMM: rate falls at epoch 50", MMM_FILE, "second_fall=40", "second_fall=50", ("mmm_sysu_parts",)
    ),
    Mutation(
        "MMM: stage III goes on from stage II",
        MMM_FILE,
        "        self.backbone.load_state_dict(first_network(self.config, self.data).state_dict())\n",
        "",
        TRAINING,
    ),
    Mutation(
        "MMM: the warm-up lasts an epoch longer",
        MMM_FILE,
        "epoch.in_stage < self.config.epochs_warm_up",
        "epoch.in_stage <= self.config.epochs_warm_up",
        TRAINING,
    ),
]
