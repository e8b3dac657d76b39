"""Where training stands: the epochs of all stages in order, and the stages beside an epoch's own."""

from __future__ import annotations

from collections.abc import Sequence

from methods.base import Epoch, Stage


def epochs_of(stages: Sequence[Stage]) -> list[Epoch]:
    """List the epochs of all stages in order."""
    places = [(stage, i) for stage in stages for i in range(stage.epochs)]
    return [Epoch(number, stage, i) for number, (stage, i) in enumerate(places)]


def stage_before(epoch: Epoch, stages: Sequence[Stage]) -> Stage | None:
    """Return the stage before that of an epoch; None in the first."""
    place = stages.index(epoch.stage)
    return stages[place - 1] if place else None


def stage_after(epoch: Epoch, stages: Sequence[Stage]) -> Stage | None:
    """Return the stage after that of an epoch; None in the last."""
    place = stages.index(epoch.stage)
    return stages[place + 1] if place + 1 < len(stages) else None
