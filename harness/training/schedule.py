"""Where training stands: the epochs of all stages in order, and each one's place among them."""

from __future__ import annotations

from collections.abc import Sequence

from methods.base import Epoch, Stage


def epochs_of(stages: Sequence[Stage]) -> list[Epoch]:
    """List the epochs of all stages in order."""
    places = [(number, i) for number, stage in enumerate(stages) for i in range(stage.epochs)]
    return [Epoch(number, stage, i) for number, (stage, i) in enumerate(places)]


def stage_of(epoch: Epoch, stages: Sequence[Stage]) -> Stage:
    """Return the stage that an epoch is in."""
    return stages[epoch.stage]


def stage_before(epoch: Epoch, stages: Sequence[Stage]) -> Stage | None:
    """Return the stage before that of an epoch; None in the first."""
    return stages[epoch.stage - 1] if epoch.stage else None


def stage_after(epoch: Epoch, stages: Sequence[Stage]) -> Stage | None:
    """Return the stage after that of an epoch; None in the last."""
    return stages[epoch.stage + 1] if epoch.stage + 1 < len(stages) else None


def ends_stage(epoch: Epoch, stages: Sequence[Stage]) -> bool:
    """Say whether an epoch is the last of its stage."""
    return epoch.in_stage + 1 == stage_of(epoch, stages).epochs


def phase_name(epoch: Epoch) -> str:
    """Return the name of an epoch's phase, as ``history.csv`` has it."""
    return epoch.phase
