"""Brings a run to its end: from nothing, from its last epoch, or at once if it has finished."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from harness.runs.devices import choose_device
from harness.runs.directory import RunDirectory
from harness.runs.manifest import Manifest, earlier_environments
from harness.runs.stopping import unbroken
from harness.runs.task import Task
from harness.training.forecast import Work
from harness.training.loop import evaluate, run_epoch
from harness.training.progress import Reporter
from harness.training.recorder import Recorder
from harness.training.setup import Setup, prepare
from harness.training.state import State, resume, store_progress
from methods.timing import recording
from protocols.base import Protocol
from results.manifests import read_manifest


def execute(task: Task, reporter: Reporter) -> RunDirectory:
    """Bring a run to its end: at once if it has finished, from its last epoch if it was stopped.

    A run that was scored under other versions of its protocols, or before one of them existed, is scored again.
    """
    directory, force = task.directory, task.execution.force
    outdated = directory.complete and not force and not scored_under(directory, task.protocols)
    if directory.complete and not force and not outdated:
        reporter.line(
            f"run {task.spec.id} ({task.spec.label}, split {task.spec.split}) is finished: {directory.path}"
        )
        return directory
    choose_device(task.execution.device, task.spec.engine["precision"])  # refused before anything is written
    with directory.held():
        if force:
            directory.reset()
        elif outdated:
            reporter.line(
                f"run {task.spec.id} was scored under other protocols; its last epoch is scored again"
            )
            directory.reopen()
        if not directory.complete:  # another process may have finished it meanwhile
            train(task, reporter.with_log(directory.log))
    return directory


def scored_under(directory: RunDirectory, protocols: Sequence[Protocol]) -> bool:
    """Say whether a finished run was scored under these protocols in these versions."""
    versions = {(protocol.id, protocol.version) for protocol in protocols}
    return versions <= set(read_manifest(directory.manifest)["protocols"].items())


def train(task: Task, reporter: Reporter) -> None:
    """Train what is left of a run that this process holds, evaluate and store it."""
    manifest, state = Manifest(task, earlier=earlier_environments(task.directory)), State()
    manifest.write("running")
    try:
        with reporter.bars():
            setup = prepare(task, reporter)
            manifest = replace(
                manifest,
                weights=setup.weights.digest,
                device=str(setup.engine.device),
                epochs=len(setup.epochs),
            ).settled()
            if moved := manifest.moved():
                reporter.line(f"the environment is not the one that the run was begun in: {moved}")
            manifest.write("running")
            recorder = Recorder(task, setup.engine.device)
            reporter.forecast.expect(Work.of(task.spec.id, task.spec.method, setup.epochs))
            if task.directory.last.exists():
                resume(setup, state, recorder)
            for images in (setup.images, setup.evaluation.images):
                recorder.timers.book(f"images ({images.place})", images.opened_s)
            with recording(recorder.timers.stage):
                for epoch in setup.epochs[state.done :]:
                    run_epoch(setup, state, recorder, epoch)
                finish(setup, state, recorder)
            with unbroken():
                manifest.write("complete")
                task.directory.finish()
    except BaseException as error:
        if not task.directory.complete:
            with suppress(
                OSError
            ):  # a disk that is full is told by `error`; the manifest then says "running"
                stopped(task, reporter, manifest, state.done, error)
        raise


def stopped(task: Task, reporter: Reporter, manifest: Manifest, done: int, error: BaseException) -> None:
    """Say in the manifest that a run was stopped, and to who has stopped it how it goes on."""
    manifest.write("stopped", reason=f"{type(error).__name__}: {error}")
    if isinstance(error, KeyboardInterrupt):
        reporter.line(f"{error or 'interrupted'}; {how_it_goes_on(task, done)}")


def how_it_goes_on(task: Task, done: int) -> str:
    """Say what is kept of a run that was stopped after so many epochs, and what the same command does with it."""
    if not task.execution.kept:
        return "nothing of it is kept, the same command begins again"
    command = "the same command without --force" if task.execution.force and done else "the same command"
    if not done:
        return f"no epoch was finished, {command} begins the run again"
    kept = "1 finished epoch is" if done == 1 else f"{done} finished epochs are"
    return f"{kept} kept in {task.directory.path}, and {command} goes on from there"


def finish(setup: Setup, state: State, recorder: Recorder) -> None:
    """Write the results of a run whose epochs are all done."""
    result = state.result or evaluate(setup)
    setup.reporter.line(f"run {setup.task.spec.id} ends with a mean test mAP of {result.selection:.2f}")
    setup.task.directory.still_mine()
    recorder.write_results(max(len(setup.epochs) - 1, 0), result)
    if setup.epochs:
        recorder.write_profile()  # a resumed run has evaluated once more
    else:
        store_progress(setup, state, recorder)
