"""A method in the middle of its training, on what is made up: for measuring, nothing is learnt.

Images are noise, and features of the training set are synthetic, so that a method finds clusters from which it draws
batches and makes memories; nothing is read from a data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from harness.errors import HarnessError
from harness.inputs.batches import EpochBatches
from harness.inputs.images import ImageFiles
from harness.inputs.store import Held, ImageStore
from harness.registry import load_method
from harness.runs.configuration import EngineConfig, resolve, split_variant
from harness.runs.precision import settle_precision
from harness.runs.seeds import seed_for
from harness.tools.time import PER_IDENTITY, synthetic_features
from harness.training.engine import Engine
from harness.training.progress import Reporter
from harness.training.schedule import epochs_of
from harness.training.stage_times import StageTimers
from methods.base import (
    Epoch,
    EpochPlan,
    FeatureBank,
    LabelledTrainingData,
    Method,
    Optimisation,
    TrainingData,
)
from methods.timing import recording

CAMERAS = ((1, 2, 4, 5), (3, 6))
"""Of visible and of infrared images."""


@dataclass(frozen=True)
class TrainingPlan:
    """What is timed.

    Attributes
    ----------
    method : str
        With its variant, if any.
    dataset : str
        Whose settings the preset ``paper`` takes.
    sets : tuple of str
        ``key=value`` over the preset ``paper``.
    labels : int
        Of a batch; 0 leaves the method's own number.
    images : int
        Of the training set that is made up.
    iterations, rounds : int
        Iterations are timed by so many at a time, ours and bare ones in turn.
    """

    method: str
    dataset: str
    sets: tuple[str, ...] = ()
    labels: int = 0
    images: int = 1000
    iterations: int = 2
    rounds: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Bench:
    """A method in the middle of its training.

    Attributes
    ----------
    plan : EpochPlan
        Of a phase that trains, cut to a few iterations.
    optimisations : mapping of str to Optimisation
    timers : StageTimers
        Hold what the beginning of the epoch took.
    """

    engine: Engine
    method: Method
    store: ImageStore
    data: TrainingData
    epoch: Epoch
    plan: EpochPlan
    optimisations: Mapping[str, Optimisation]
    timers: StageTimers

    def batches(self) -> EpochBatches:
        """Draw the batches of the few iterations."""
        modality, camera = self.data.modality.numpy(), self.data.camera.numpy()
        seeds = (0, "batches", self.epoch.number, self.epoch.phase.name)
        return EpochBatches(self.store, modality, camera, self.plan.streams, self.plan.iterations, seeds)

    def ours(self) -> None:
        """Train the few iterations as a run does."""
        self.engine.train_epoch(self.method, self.plan, self.epoch, self.optimisations, self.batches())


def set_up(plan: TrainingPlan, device: str) -> Bench:
    """Bring a method to the beginning of its last stage that trains on what is made up."""
    name, variant = split_variant(plan.method)
    cls = load_method(name)
    sets = [*plan.sets, *([f"labels_per_batch={plan.labels}"] if plan.labels else [])]
    config, settings = resolve(cls, plan.dataset, "paper", variant, ["weights=none", *sets])
    engine = Engine(settle_precision(settings, device), device, 0, Reporter(Console(quiet=True)))
    data = made_up_data(cls, engine.config, plan)
    torch.manual_seed(plan.seed)
    method = cls(config, data)
    engine.place(method)
    store = noise(plan, engine)
    reasons = []
    for stage in reversed(method.stages(config)):
        epoch = next(one for one in epochs_of(method.stages(config)) if one.stage == stage)
        wrapped = engine.wrap(method.optimisers(stage))
        bench = Bench(
            engine, method, store, data, epoch, EpochPlan({}, (), (), 0), wrapped, StageTimers(engine.device)
        )
        for phase in method.phases(epoch):
            begun = begin(bench, replace(epoch, phase=phase), plan)
            if begun.plan.skipped:
                reasons.append(f"{stage.name}: {begun.plan.skipped}")
            elif any(step.optimiser for step in begun.plan.steps):
                return begun
            else:
                begun.ours()  # it looks before it trains
    why = "; ".join(reasons) or "it has no stage"
    raise HarnessError(f"{plan.method} trains nothing on {plan.images} made-up images: {why}")


def made_up_data(cls: type[Method], config: EngineConfig, plan: TrainingPlan) -> TrainingData:
    """Return a training set of half visible, half infrared images, each identity in every camera."""
    half = plan.images // 2
    modality = torch.arange(2).repeat_interleave(half)
    camera = torch.cat([torch.tensor(of)[torch.arange(half) % len(of)] for of in CAMERAS])
    common: dict[str, Any] = {
        "dataset": plan.dataset,
        "modality": modality,
        "camera": camera,
        "architecture": config.architecture,
        "weights": None,
        "seed": partial(seed_for, plan.seed),
    }
    if cls.supervision != "supervised":
        return TrainingData(**common)
    return LabelledTrainingData(**common, identity=torch.arange(half).repeat(2) // PER_IDENTITY)


def noise(plan: TrainingPlan, engine: Engine) -> ImageStore:
    """Return images of noise, held where a run would hold them."""
    config, n = engine.config, 2 * (plan.images // 2)
    files = ImageFiles(Path(), ("",) * n, config.height, config.width, Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.random.default_rng(plan.seed).integers(0, 256, files.shape, dtype=np.uint8))
    return ImageStore(
        files, "memory" if engine.device.type == "cpu" else "device", Held(pixels.to(engine.device))
    )


def begin(bench: Bench, epoch: Epoch, plan: TrainingPlan) -> Bench:
    """Begin a phase on synthetic features, and cut it to a few iterations."""
    method, device, n = bench.method, bench.engine.device, len(bench.data)
    width = method.backbone.dimension if method.uses_features(epoch) else 0
    half = synthetic_features(n // 2, max(int(width), 1), plan.seed)  # type: ignore[arg-type]
    features = torch.cat([half, half]).to(device)[:, : int(width)]  # type: ignore[arg-type]
    bank = FeatureBank(
        features, bench.data.modality.to(device), bench.data.camera.to(device), torch.arange(n, device=device)
    )
    with recording(bench.timers.stage):
        found = method.begin_epoch(epoch, bank)
    iterations = min(plan.iterations, found.iterations)
    streams = tuple(
        stream
        if stream.batch_indices is None
        else replace(stream, batch_indices=stream.batch_indices[:iterations])
        for stream in found.streams
    )
    return replace(bench, epoch=epoch, plan=replace(found, streams=streams, iterations=iterations))
