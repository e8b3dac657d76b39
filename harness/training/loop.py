"""From a RunSpec to its files: prepare, train, evaluate, store; goes on where an earlier process stopped."""

from __future__ import annotations

import io
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.optim import Optimizer

from harness.errors import HarnessError
from harness.inputs.batches import EpochBatches, ImageStore
from harness.registry import load_method
from harness.runs.configuration import EngineConfig
from harness.runs.data import without_identity_order
from harness.runs.environment import compile_kernels, manifest_environment
from harness.runs.files import write_atomic
from harness.runs.run_spec import MANIFEST_VERSION, RunDirectory, RunSpec
from harness.runs.seeds import seed_for
from harness.training.checkpoint import load_checkpoint, optimiser_state, restore_optimiser, save_checkpoint
from harness.training.diagnostics import cluster_quality
from harness.training.engine import Engine, choose_device
from harness.training.evaluation import Evaluation, Result, refuse_features
from harness.training.progress import Reporter
from harness.training.stage_times import StageTimers
from harness.training.weights import Weights, load_weights
from methods.base import (
    OUTSIDE,
    Epoch,
    EpochPlan,
    FeatureBank,
    LabelledTrainingData,
    Method,
    Optimisation,
    Stage,
    TrainingData,
)
from methods.timing import recording, timed
from protocols.base import Protocol
from results.schema import HISTORY, METRICS, PROFILE
from results.store import read_manifest, write_frame

SLOW_S = 3.0
"""Kernels that an installation has compiled load faster than this."""
PATIENCE = 3
"""Epochs in a row without clusters after which a run gives up (dmic-spec section 9)."""


@dataclass(frozen=True)
class Task:
    """A run, and where and how this process executes it (none of which changes its identity)."""

    spec: RunSpec
    root: Path
    protocols: tuple[Protocol, ...]
    out: Path
    device: str = "auto"
    workers: int = 0
    force: bool = False

    @property
    def allow_partial(self) -> bool:
        """Whether counts may differ from the known ones (always marked in the rows)."""
        return self.spec.data != "real"

    @property
    def directory(self) -> RunDirectory:
        """The files of the run."""
        return RunDirectory(self.out, self.spec)


def execute(task: Task, reporter: Reporter) -> RunDirectory:
    """Bring a run to its end: at once if it has finished, from its last epoch if it was stopped.

    A run that was scored under other versions of its protocols, or before one of them existed, is scored again.
    """
    directory = task.directory
    outdated = directory.complete and not task.force and not scored_under(directory, task.protocols)
    if directory.complete and not task.force and not outdated:
        reporter.line(
            f"run {task.spec.id} ({task.spec.label}, split {task.spec.split}) is finished: {directory.path}"
        )
        return directory
    choose_device(task.device, task.spec.engine["precision"])  # refused before anything is written
    with directory.held():
        if task.force:
            directory.reset()
        elif outdated:
            reporter.line(
                f"run {task.spec.id} was scored under other protocols; its last epoch is scored again"
            )
            directory.reopen()
        if not directory.complete:  # another process may have finished it meanwhile
            Run(task, reporter.with_log(directory.log)).execute()
    return directory


def scored_under(directory: RunDirectory, protocols: Sequence[Protocol]) -> bool:
    """Say whether a finished run was scored under these protocols in these versions."""
    return versions(protocols) <= set(read_manifest(directory.manifest)["protocols"].items())


def versions(protocols: Sequence[Protocol]) -> set[tuple[str, str]]:
    """Return (id, version) of protocols."""
    return {(protocol.id, protocol.version) for protocol in protocols}


def epochs_of(stages: Sequence[Stage]) -> list[Epoch]:
    """List the epochs of all stages in order."""
    places = [(stage, i) for stage, about in enumerate(stages) for i in range(about.epochs)]
    return [Epoch(number, stage, i) for number, (stage, i) in enumerate(places)]


class Run:
    """A run in progress. What must survive the process is in :meth:`state`."""

    def __init__(self, task: Task, reporter: Reporter) -> None:
        self.task, self.spec, self.reporter = task, task.spec, reporter
        self.directory = task.directory
        self.config = EngineConfig(**self.spec.engine)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.done = 0
        self.skipped_in_a_row = 0
        self.optimisations: Mapping[str, Optimisation] = {}
        self.last_result: Result | None = None

    def execute(self) -> None:
        """Prepare, train what is left, evaluate and store."""
        self._write_manifest("running")
        try:
            with self.reporter.bars():
                self._prepare()
                with recording(self.timers.stage):
                    for epoch in self.epochs[self.done :]:
                        self._epoch(epoch)
                    self._finish()
        except BaseException as error:
            self._write_manifest("stopped", reason=f"{type(error).__name__}: {error}")
            if isinstance(error, KeyboardInterrupt):
                self.reporter.line(
                    f"interrupted; {self.done} finished epochs are kept in {self.directory.path}, "
                    "and the same command goes on from there"
                )
            raise

    # -- preparation -------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.engine = Engine(self.config, self.task.device, self.task.workers, self.reporter)
        self.timers = StageTimers(self.engine.device)
        self.training = without_identity_order(
            self.task.protocols[0].dataset.training(
                self.task.root, self.spec.split, allow_partial=self.task.allow_partial
            )
        )
        images, c = self.training.images, self.config
        self.store = ImageStore(
            self.task.root, images.paths, c.height, c.width, Image.Resampling.BICUBIC, c.cache_mib
        )
        self.evaluation = Evaluation(
            self.task.protocols, self.task.root, self.spec.split, c, self.task.allow_partial
        )
        self.weights = load_weights(c, self.reporter)
        self.method = self._make_method(self.weights)
        self.engine.place(self.method)
        self.stages = tuple(self.method.stages(self.method.config))
        self.epochs = epochs_of(self.stages)
        self._compile()
        self._write_manifest("running")
        if self.directory.last.exists():
            self._resume()

    def _compile(self) -> None:
        """Have kernels compiled before stages are timed."""
        text = "compiling kernels, once after an installation; this takes about a minute"
        note = threading.Timer(SLOW_S, self.reporter.line, [text])
        note.start()
        try:
            compile_kernels()
        finally:
            note.cancel()

    def _make_method(self, weights: Weights) -> Method:
        cls = load_method(self.spec.method)
        images = self.training.images
        common: dict[str, Any] = {
            "dataset": self.spec.dataset,
            "modality": torch.from_numpy(images.modality),
            "camera": torch.from_numpy(images.camera),
            "architecture": self.config.architecture,
            "weights": weights.state,
            "seed": self._seed,
        }
        if cls.supervision == "supervised":
            identity = np.unique(self.training.identity, return_inverse=True)[1]
            return cls(
                cls.Config(**self.spec.config),
                LabelledTrainingData(**common, identity=torch.from_numpy(identity)),
            )
        return cls(cls.Config(**self.spec.config), TrainingData(**common))

    def _seed(self, purpose: str, *indices: int | str) -> int:
        return seed_for(self.spec.seed, purpose, *indices)

    # -- one epoch ---------------------------------------------------------------------------------------

    def _epoch(self, epoch: Epoch) -> None:
        if epoch.in_stage == 0:
            self._begin_stage(epoch.stage)
        self.timers.begin_epoch(epoch.number)
        rows = [self._phase(replace(epoch, phase=phase)) for phase in self.method.phases(epoch)]
        self.history.extend(rows)
        self._give_up_if_idle(rows)
        for optimisation in self.optimisations.values():
            with warnings.catch_warnings():
                # a skipped epoch moves the schedule without an optimiser step, on purpose
                warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
                optimisation.schedule.step()
        if self._evaluates_after(epoch):
            self._keep_if_best(epoch, self._evaluate())
        self.done = epoch.number + 1
        self._store_progress()
        self._report(self.history[-1])

    def _begin_stage(self, number: int) -> None:
        if self.stages[number].initial == "best-on-test":
            modules = load_checkpoint(self.directory.best(self.stages[number - 1].name))["modules"]
            for name, module in self.method.modules.items():
                module.load_state_dict(modules[name])
        self.best = {}  # as public codes do, whose numbers are the best of their last stage
        self._make_optimisers(self.stages[number])

    def _make_optimisers(self, stage: Stage) -> None:
        self.optimisations = {
            name: self._set_up(made) for name, made in self.method.optimisers(stage).items()
        }

    def _set_up(self, made: Optimisation) -> Optimisation:
        wrapped = self.engine.fabric.setup_optimizers(made.optimiser)
        return replace(made, optimiser=cast(Optimizer, wrapped))

    def _phase(self, epoch: Epoch) -> dict[str, Any]:
        plan = self.method.begin_epoch(epoch, self._bank(epoch))
        rate = next(iter(self.optimisations.values())).optimiser.param_groups[0]["lr"]
        row = {
            "epoch": epoch.number,
            "stage": self.stages[epoch.stage].name,
            "phase": epoch.phase,
            "lr": rate,
            "skipped": int(bool(plan.skipped)),
            **plan.record,
            **self._quality(plan),
        }
        if plan.skipped:
            self.reporter.line(f"epoch {epoch.number} {epoch.phase} skipped: {plan.skipped}")
            return row
        with timed("train"):
            losses = self.engine.train_epoch(
                self.method, plan, epoch, self.optimisations, self._batches(plan, epoch)
            )
        return row | {f"loss_{name}": value for name, value in losses.items()}

    def _bank(self, epoch: Epoch) -> FeatureBank:
        images, device = self.training.images, self.engine.device
        features = torch.empty(len(images), 0, device=device)
        if self.method.uses_features(epoch):
            with timed("extract"):
                features = self.engine.extract(
                    self.method.backbone,
                    self.store,
                    images.modality,
                    "extract training",
                    renormalise=self.method.renormalise_flip,
                )
            refuse_features(features, images.paths, "training")
        return FeatureBank(
            features,
            torch.from_numpy(images.modality).to(device),
            torch.from_numpy(images.camera).to(device),
            torch.arange(len(images), device=device),
        )

    def _batches(self, plan: EpochPlan, epoch: Epoch) -> EpochBatches:
        images = self.training.images
        seeds = (self.spec.seed, "batches", epoch.number, epoch.phase)
        return EpochBatches(self.store, images.modality, images.camera, plan.streams, plan.iterations, seeds)

    def _quality(self, plan: EpochPlan) -> dict[str, float]:
        """Diagnose pseudo-labels against the truth, which the method itself never sees."""
        found: dict[str, float] = {}
        for space, labels in plan.labels.items():
            inside = labels.cpu().numpy() != OUTSIDE
            measured = cluster_quality(
                labels.cpu().numpy()[inside],
                self.training.identity[inside],
                self.training.images.camera[inside],
                self.training.images.modality[inside],
            )
            found |= {f"{name}_{space}": value for name, value in measured.items()}
        return found

    def _give_up_if_idle(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """End a run whose epochs have nothing to train on in any of their phases."""
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if all(row["skipped"] for row in rows) else 0
        if self.skipped_in_a_row >= PATIENCE:
            raise HarnessError(
                f"{PATIENCE} epochs in a row found nothing to train on, the last is epoch {rows[-1]['epoch']}; why is "
                f"told above and in {self.directory.log}. Raise eps, lower k1 or min_samples (--set), or start from "
                "better weights."
            )

    # -- evaluation --------------------------------------------------------------------------------------

    def _evaluates_after(self, epoch: Epoch) -> bool:
        last_of_stage = epoch.in_stage + 1 == self.stages[epoch.stage].epochs
        return last_of_stage or (epoch.number + 1) % self.config.evaluate_every == 0

    def _evaluate(self) -> Result:
        with timed("evaluate"):
            result = self.evaluation.run(self.engine, self.method.backbone)
        self.last_result = result
        return result

    def _keep_if_best(self, epoch: Epoch, result: Result) -> None:
        self.history[-1]["test_mAP"] = result.selection
        if np.isnan(result.selection) or (self.best and self.best["score"] >= result.selection):
            return
        self.best = {"epoch": epoch.number, "score": result.selection, "rows": result.rows}
        following = self.stages[epoch.stage + 1 : epoch.stage + 2]
        if any(stage.initial == "best-on-test" for stage in following):
            best = self.directory.best(self.stages[epoch.stage].name)
            save_checkpoint(best, {"modules": self._module_state(), "epoch": epoch.number})

    def _rows(self, rows: Sequence[Mapping[str, Any]], epoch: int, checkpoint: str) -> list[dict[str, Any]]:
        s = self.spec
        cls = load_method(s.method)
        about = {
            "run": s.id,
            "method": s.label,
            "preset": s.preset,
            "split": s.split,
            "seed": s.seed,
            "epoch": epoch,
            "data": s.data,
            "checkpoint": checkpoint,
            "division": self.config.division,
            "supervision": cls.supervision,
            "stage_init": s.config.get("stage_init", "last"),
            "weights": Path(self.config.weights).name,
        }
        return [{**about, **row} for row in rows]

    # -- storing -----------------------------------------------------------------------------------------

    def _module_state(self) -> dict[str, Any]:
        return {name: dict(module.state_dict()) for name, module in self.method.modules.items()}

    def state(self) -> dict[str, Any]:
        """Return all that a later process needs to go on; holds no time and no path, so equal runs give equal bytes."""
        return {
            "run": self.spec.id,
            "split": self.spec.split,
            "done": self.done,
            "skipped": self.skipped_in_a_row,
            "history": self.history,
            "best": self.best,
            "modules": self._module_state(),
            "optimisers": {name: optimiser_state(o.optimiser) for name, o in self.optimisations.items()},
            "schedules": {name: o.schedule.state_dict() for name, o in self.optimisations.items()},
            "method": self.method.state(),
            "precision": self.engine.fabric.strategy.precision.state_dict(),  # the loss scale of float16
        }

    def _resume(self) -> None:
        state = load_checkpoint(self.directory.last)
        if (state["run"], state["split"]) != (self.spec.id, self.spec.split):
            raise HarnessError(
                f"{self.directory.last} belongs to run {state['run']}, split {state['split']}, "
                f"not to {self.spec.id}, split {self.spec.split}; weights of one split are never tested on another"
            )
        self.done, self.skipped_in_a_row = state["done"], state["skipped"]
        self.history, self.best = state["history"], state["best"]
        scored = {(row["protocol"], row["protocol_version"]) for row in self.best.get("rows", ())}
        if not scored <= versions(self.task.protocols):
            self.best = {}  # of other versions, and nobody has kept that epoch to score it again
        for name, module in self.method.modules.items():
            module.load_state_dict(state["modules"][name])
        self.method.load_state({k: v.to(self.engine.device) for k, v in state["method"].items()})
        if 0 < self.done <= len(self.epochs):
            self._make_optimisers(self.stages[self.epochs[self.done - 1].stage])
            for name, optimisation in self.optimisations.items():
                restore_optimiser(optimisation.optimiser, state["optimisers"][name])
                optimisation.schedule.load_state_dict(state["schedules"][name])
        self.engine.fabric.strategy.precision.load_state_dict(state.get("precision", {}))
        self.timers.resume(self.directory.profile, self.done)
        self.reporter.line(f"resuming run {self.spec.id} after epoch {self.done - 1}")

    def _store_progress(self) -> None:
        """Tables first, then the checkpoint that says they are there."""
        write_frame(pd.DataFrame(self.history), self.directory.history, HISTORY)
        write_frame(self.timers.frame(), self.directory.profile, PROFILE)
        save_checkpoint(self.directory.last, self.state())

    def _finish(self) -> None:
        result = self.last_result or self._evaluate()
        self.reporter.line(f"run {self.spec.id} ends with a mean test mAP of {result.selection:.2f}")
        epoch = max(len(self.epochs) - 1, 0)
        rows = self._rows(result.rows, epoch, "last")
        best: Mapping[str, Any] = self.best if self.epochs else {"epoch": epoch, "rows": result.rows}
        if best:
            rows += self._rows(best["rows"], best["epoch"], "best-on-test")
        ranks = io.BytesIO()
        np.savez(ranks, **result.ranks)  # type: ignore[arg-type]
        write_atomic(self.directory.ranks, ranks.getvalue())
        write_frame(pd.DataFrame(rows), self.directory.metrics, METRICS)
        if not self.epochs:
            write_frame(
                pd.DataFrame(columns=["epoch", "stage", "phase", "lr", "skipped"]),
                self.directory.history,
                HISTORY,
            )
            save_checkpoint(self.directory.last, self.state())
        write_frame(self.timers.frame(), self.directory.profile, PROFILE)
        self._write_manifest("complete")
        self.directory.finish()

    def _write_manifest(self, status: str, reason: str = "") -> None:
        weights, engine = getattr(self, "weights", None), getattr(self, "engine", None)
        self.directory.write_manifest(
            {
                "manifest_version": MANIFEST_VERSION,
                "run": self.spec.id,
                "spec": self.spec.model_dump(),
                "data_root": str(self.task.root.resolve()),
                "protocols": {protocol.id: protocol.version for protocol in self.task.protocols},
                "weights": {"name": self.config.weights, "digest": weights.digest if weights else ""},
                "environment": manifest_environment(),
                "device": str(engine.device) if engine else self.task.device,
                "status": status,
                "reason": reason,
                "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )

    def _report(self, row: Mapping[str, Any]) -> None:
        shown = [f"epoch {row['epoch']} {row['stage']}"]
        shown += [
            f"{k.replace('_', ' ')} {v:.0f}" for k, v in row.items() if k.startswith(("clusters_", "noise_"))
        ]
        shown += [f"{k.replace('_', ' ')} {v:.2f}" for k, v in row.items() if k.startswith(("ari_", "eps"))]
        loss = sum(v for k, v in row.items() if k.startswith("loss_"))
        shown.append(f"loss {loss:.3f}")
        if "test_mAP" in row:
            shown.append(f"test mAP {row['test_mAP']:.2f}")
        self.reporter.line("  ".join(shown))
