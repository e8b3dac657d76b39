"""What a run keeps between its epochs, the checkpoint that holds it, and the way back from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.runs.stopping import unbroken
from harness.runs.weights import read_stage_weights
from harness.training.checkpoint import load_checkpoint, optimiser_state, restore_optimiser, save_checkpoint
from harness.training.evaluation import Result
from harness.training.recorder import Recorder
from harness.training.setup import Setup
from methods.base import Optimisation, Stage


@dataclass
class State:
    """What changes while a run trains, besides its networks and its records.

    Attributes
    ----------
    done : int
        Finished epochs.
    idle : int
        Epochs in a row, up to the last one, that trained nothing.
    optimisations : mapping of str to Optimisation
        Of the stage in progress.
    result : Result or None
        Of the last epoch that this process evaluated.
    """

    done: int = 0
    idle: int = 0
    optimisations: Mapping[str, Optimisation] = field(default_factory=dict)
    result: Result | None = None


def make_optimisers(setup: Setup, stage: Stage) -> dict[str, Optimisation]:
    """Make the optimisers of a stage, wrapped for the precision of the run."""
    return setup.engine.wrap(setup.method.optimisers(stage))


def module_states(setup: Setup) -> dict[str, Any]:
    """Return the weights of all networks."""
    return {name: dict(module.state_dict()) for name, module in setup.method.modules.items()}


def load_modules(setup: Setup, states: Mapping[str, Any]) -> None:
    """Restore what :func:`module_states` gave."""
    for name, module in setup.method.modules.items():
        module.load_state_dict(states[name])


def load_backbone(setup: Setup, file: str) -> None:
    """Start the backbone from the checkpoint of a run, or from a state dict.

    Raises
    ------
    HarnessError
        If the file is damaged, or of another network; says what it lacks and what is too much.
    """
    path, backbone = Path(file), setup.method.backbone
    states = load_checkpoint(path)["modules"] if path.suffix == ".ckpt" else {}
    state = states.get("backbone", {}) if states else read_stage_weights(file)
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        ours = set(backbone.state_dict())
        lacks, foreign = (", ".join(sorted(names)[:3]) for names in (ours - set(state), set(state) - ours))
        raise HarnessError(
            f"stage_weights={file}: these are not weights of this network "
            f"(lacking: {lacks or 'none'}; foreign: {foreign or 'none'}; {len(ours)} are expected); "
            "give the last.ckpt of a run with the same architecture and blocks"
        ) from error


def store_progress(setup: Setup, state: State, recorder: Recorder) -> None:
    """Write tables first, then the checkpoint that says they are there."""
    setup.task.directory.still_mine()
    with unbroken():
        recorder.write_progress()
        save_checkpoint(setup.task.directory.last, checkpoint(setup, state, recorder))


def checkpoint(setup: Setup, state: State, recorder: Recorder) -> dict[str, Any]:
    """Return all that a later process needs to go on; holds no time and no path, so equal runs give equal bytes."""
    spec, optimisations = setup.task.spec, state.optimisations
    return {
        "run": spec.id,
        "split": spec.split,
        "done": state.done,
        "skipped": state.idle,
        **recorder.state(),
        "modules": module_states(setup),
        "optimisers": {name: optimiser_state(o.optimiser) for name, o in optimisations.items()},
        "schedules": {name: o.schedule.state_dict() for name, o in optimisations.items()},
        "method": setup.method.state(),
        "precision": setup.engine.fabric.strategy.precision.state_dict(),  # the loss scale of float16
    }


def resume(setup: Setup, state: State, recorder: Recorder) -> None:
    """Go on from the last checkpoint of a run.

    Raises
    ------
    HarnessError
        If it is of another run or split.
    """
    spec, last = setup.task.spec, setup.task.directory.last
    saved = load_checkpoint(last)
    if (saved["run"], saved["split"]) != (spec.id, spec.split):
        raise HarnessError(
            f"{last} belongs to run {saved['run']}, split {saved['split']}, "
            f"not to {spec.id}, split {spec.split}; weights of one split are never tested on another"
        )
    state.done, state.idle = saved["done"], saved["skipped"]
    recorder.load_state(saved, state.done)
    load_modules(setup, saved["modules"])
    setup.method.load_state({k: v.to(setup.engine.device) for k, v in saved["method"].items()})
    if 0 < state.done <= len(setup.epochs) and saved["optimisers"]:  # a finished run may be pruned of them
        state.optimisations = make_optimisers(setup, setup.epochs[state.done - 1].stage)
        for name, optimisation in state.optimisations.items():
            restore_optimiser(optimisation.optimiser, saved["optimisers"][name])
            optimisation.schedule.load_state_dict(saved["schedules"][name])
    setup.engine.fabric.strategy.precision.load_state_dict(saved.get("precision", {}))
    setup.reporter.line(f"resuming run {spec.id}: {state.done} of {len(setup.epochs)} epochs are done")
