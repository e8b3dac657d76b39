"""The training loop: one epoch in its phases, from features to losses, test scores and stored progress."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from harness.errors import HarnessError
from harness.inputs.batches import EpochBatches
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from harness.training.diagnostics import label_quality
from harness.training.evaluation import Result, refuse_features
from harness.training.recorder import Recorder
from harness.training.schedule import stage_after, stage_before
from harness.training.setup import Setup
from harness.training.state import (
    State,
    load_backbone,
    load_modules,
    make_optimisers,
    module_states,
    store_progress,
)
from methods.base import Epoch, EpochPlan, FeatureBank
from methods.timing import timed
from results.schema import HistoryRow

PATIENCE = 3
"""Epochs in a row without clusters after which a run gives up."""


def run_epoch(setup: Setup, state: State, recorder: Recorder, epoch: Epoch) -> None:
    """Train, evaluate and store one epoch in all its phases."""
    place = setup.task.spec.id, epoch.number, len(setup.epochs), epoch.stage.name
    setup.reporter.begin_epoch(*place)
    if epoch.in_stage == 0:
        begin_stage(setup, state, recorder, epoch)
    recorder.timers.begin_epoch(epoch.number)
    rows = [train_phase(setup, state, replace(epoch, phase=phase)) for phase in setup.method.phases(epoch)]
    recorder.history.extend(rows)
    state.idle = state.idle + 1 if all(row.skipped for row in rows) else 0
    give_up_if_idle(setup, state, epoch)
    for optimisation in state.optimisations.values():
        with warnings.catch_warnings():
            # a skipped epoch moves the schedule without an optimiser step, on purpose
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            optimisation.schedule.step()
    if evaluates_after(setup, epoch):
        state.result = evaluate(setup)
        if recorder.score(epoch.number, state.result):
            keep_for_next_stage(setup, epoch)
    state.done = epoch.number + 1
    store_progress(setup, state, recorder)
    setup.reporter.end_epoch(*place, outcome_of(recorder.history[-len(rows) :]))


def begin_stage(setup: Setup, state: State, recorder: Recorder, epoch: Epoch) -> None:
    """Start a stage: from the weights before or, if it says so, a file's or the best test epoch's before it."""
    stage, before = epoch.stage, stage_before(epoch, setup.stages)
    if stage.weights:
        load_backbone(setup, stage.weights)
    elif stage.initial != "last" and before:
        load_modules(setup, kept_weights(setup, before.name))
    recorder.begin_stage()
    state.optimisations = make_optimisers(setup, stage)


def train_phase(setup: Setup, state: State, epoch: Epoch) -> HistoryRow:
    """Plan and train one phase of an epoch; return its row of ``history.csv``."""
    method, phase = setup.method, epoch.phase.name
    plan = method.begin_epoch(epoch, feature_bank(setup, epoch))
    rate = next(iter(state.optimisations.values())).optimiser.param_groups[0]["lr"]
    measured = {**plan.record, **label_quality(plan.labels, setup.training)}
    if plan.skipped:
        place = f"epoch {epoch.number + 1} of {len(setup.epochs)}"
        setup.reporter.line(f"{place}, {phase}, skipped: {plan.skipped}")
    else:
        with timed("train"):
            losses = setup.engine.train_epoch(
                method, plan, epoch, state.optimisations, batches_of(setup, plan, epoch)
            )
        measured |= {f"loss_{name}": value for name, value in losses.items()}
    return HistoryRow(
        epoch=epoch.number,
        stage=epoch.stage.name,
        phase=phase,
        lr=rate,
        skipped=int(bool(plan.skipped)),
        measured=measured,
    )


def feature_bank(setup: Setup, epoch: Epoch) -> FeatureBank:
    """Extract the features that a method clusters; of width 0 where it does not look at them."""
    images, device = setup.training.images, setup.engine.device
    features = torch.empty(len(images), 0, device=device)
    if setup.method.uses_features(epoch):
        with timed("extract"):
            features = setup.engine.extract(
                setup.method.backbone,
                setup.images,
                images.modality,
                "extract training",
                renormalise=setup.method.renormalise_flip,
            )
        refuse_features(features, images.paths, "training")
    return FeatureBank(
        features,
        torch.from_numpy(images.modality).to(device),
        torch.from_numpy(images.camera).to(device),
        torch.arange(len(images), device=device),
    )


def batches_of(setup: Setup, plan: EpochPlan, epoch: Epoch) -> EpochBatches:
    """Draw the batches of a phase."""
    images = setup.training.images
    seeds = (setup.task.spec.seed, "batches", epoch.number, epoch.phase.name)
    return EpochBatches(setup.images, images.modality, images.camera, plan.streams, plan.iterations, seeds)


def give_up_if_idle(setup: Setup, state: State, epoch: Epoch) -> None:
    """End a run whose epochs have nothing to train on in any of their phases.

    Raises
    ------
    HarnessError
        After :data:`PATIENCE` such epochs in a row; says what may help.
    """
    if state.idle >= PATIENCE:
        raise HarnessError(
            f"{PATIENCE} epochs in a row found nothing to train on, the last is epoch {epoch.number + 1} of "
            f"{len(setup.epochs)}; why is told above and in {setup.task.directory.log}. Raise eps, lower k1 or "
            "min_samples (--set), or start from better weights."
        )


def evaluates_after(setup: Setup, epoch: Epoch) -> bool:
    """Say whether an epoch is evaluated on the test set."""
    ends_stage = epoch.in_stage + 1 == epoch.stage.epochs
    return ends_stage or (epoch.number + 1) % setup.config.evaluate_every == 0


def evaluate(setup: Setup) -> Result:
    """Score the backbone as it is."""
    with timed("evaluate"):
        method = setup.method
        return setup.evaluation.run(setup.engine, method.backbone, method.test_feature, flip=method.flip_test)


def keep_for_next_stage(setup: Setup, epoch: Epoch) -> None:
    """Keep the weights of a stage's best test epoch, if the next stage starts from them."""
    after = stage_after(epoch, setup.stages)
    if after and after.initial != "last":
        best = setup.task.directory.best(epoch.stage.name)
        about = {"run": setup.task.spec.id, "stage": epoch.stage.name, "epoch": epoch.number}
        save_checkpoint(best, {"modules": module_states(setup), **about})


def kept_weights(setup: Setup, stage: str) -> Mapping[str, Any]:
    """Return what :func:`keep_for_next_stage` kept of a stage.

    Raises
    ------
    HarnessError
        If the file is damaged, or of another run or stage.
    """
    path, run = setup.task.directory.best(stage), setup.task.spec.id
    saved = load_checkpoint(path)
    found = saved.get("run", run), saved.get("stage", stage)  # neither was kept once
    if found != (run, stage):
        raise HarnessError(
            f"{path} is of run {found[0]}, stage {found[1]}, not of {run}, {stage}; begin the run anew with --force"
        )
    return dict(saved["modules"])


def outcome_of(rows: Sequence[HistoryRow]) -> Mapping[str, float]:
    """Return what to show of an epoch, from the rows of its phases: the last one that trained, and the score."""
    trained = [row for row in rows if any(key.startswith("loss_") for key in row.measured)]
    return {**rows[-1].measured, **(trained or rows)[-1].measured}
