"""From a task to what its training needs: engine, images, evaluation, weights, method and stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from harness.inputs.store import ImageOpener, ImageStore
from harness.registry import load_method
from harness.runs.configuration import EngineConfig
from harness.runs.data import with_own_cameras, without_identity_order
from harness.runs.seeds import seed_for
from harness.runs.task import Task
from harness.training.engine import Engine
from harness.training.evaluation import Evaluation
from harness.training.kernels import compile_once, on_compilation
from harness.training.progress import Reporter
from harness.training.schedule import epochs_of
from harness.training.weights import Weights, load_weights
from methods.base import Epoch, LabelledTrainingData, Method, Stage, TrainingData
from protocols.base import LabelledImages


@dataclass(frozen=True)
class Setup:
    """All that the training of a run needs and never replaces.

    Attributes
    ----------
    training : LabelledImages
        Training images in an order that says nothing of identities; the identities are for diagnostics and for
        methods that declare themselves supervised.
    images : ImageStore
        The pixels of `training`.
    evaluation : Evaluation
        Every trial that the training split may be scored on.
    stages, epochs : tuples
        Stages of the method, and the epochs of all stages in order.
    """

    task: Task
    config: EngineConfig
    engine: Engine
    training: LabelledImages
    images: ImageStore
    evaluation: Evaluation
    weights: Weights
    method: Method
    stages: tuple[Stage, ...]
    epochs: tuple[Epoch, ...]
    reporter: Reporter


def prepare(task: Task, reporter: Reporter) -> Setup:
    """Open the data, load the weights, and make the method and its networks.

    Raises
    ------
    HarnessError, DataError
        If the device, an image, a list or the weights cannot be had; says which.
    """
    spec, config = task.spec, EngineConfig(**task.spec.engine)
    engine = Engine(config, task.execution.device, task.execution.workers, reporter)
    listed = task.protocols[0].dataset.training(task.root, spec.split, allow_partial=task.allow_partial)
    training = with_own_cameras(without_identity_order(listed))
    opener = ImageOpener(
        config.height, config.width, engine.device, task.execution.images, config.cache_mib, reporter.line
    )
    images = opener.open(task.root, training.images.paths, Image.Resampling.BICUBIC)
    if images.on_device and engine.workers:
        reporter.line(f"none of {engine.workers} workers is started: the device holds the images")
    evaluation = Evaluation(task.protocols, task.root, spec.split, opener, task.allow_partial)
    weights = load_weights(config, reporter)
    method = make_method(task, training, weights)
    engine.place(method)
    stages = tuple(method.stages(method.config))
    compile_before_timing(reporter)
    return Setup(
        task=task,
        config=config,
        engine=engine,
        training=training,
        images=images,
        evaluation=evaluation,
        weights=weights,
        method=method,
        stages=stages,
        epochs=tuple(epochs_of(stages)),
        reporter=reporter,
    )


def make_method(task: Task, training: LabelledImages, weights: Weights) -> Method:
    """Make the method of a task; it gets identities only if it declares itself supervised."""
    spec, images = task.spec, training.images
    cls = load_method(spec.method)
    config = cls.Config(**spec.config)
    common: dict[str, Any] = {
        "dataset": spec.dataset,
        "modality": torch.from_numpy(images.modality),
        "camera": torch.from_numpy(images.camera),
        "architecture": spec.engine["architecture"],
        "weights": weights.state,
        "seed": partial(seed_for, spec.seed),
    }
    if cls.supervision != "supervised":
        return cls(config, TrainingData(**common))
    identity = np.unique(training.identity, return_inverse=True)[1]
    return cls(config, LabelledTrainingData(**common, identity=torch.from_numpy(identity)))


def compile_before_timing(reporter: Reporter) -> None:
    """Have kernels compiled before stages are timed; say so if any has to be."""
    with on_compilation(
        lambda: reporter.line("compiling kernels, once after an installation; this takes about a minute")
    ):
        compile_once(reporter.line)
