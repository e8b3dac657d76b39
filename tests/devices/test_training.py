"""Every method trains on the device without hardware to the bytes of the CPU, and its iterations let no host wait."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from harness.runs.directory import RunDirectory
from harness.training import engine
from tests.methods.test_contract import METHODS, TRAINED, Planner, go, same_files, task, workplace

__all__ = ["task", "workplace"]

READ = "harness/training/engine.py: _read"
"""Reads the losses of the first iteration and of every tenth after it, and of the epoch at its end."""


class Precision:
    """Nothing to keep."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


class Strategy:
    precision = Precision()


class PlainFabric:
    """What the engine asks of Fabric, on a device that Fabric does not know; autocast is CUDA's own business."""

    strategy = Strategy()

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def backward(self, total: Tensor) -> None:
        total.backward()

    def setup_optimizers(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        return optimiser


class Counted(NamedTuple):
    """A phase of an epoch: whether it trains or only looks, how long it is, and its waits by place."""

    trains: bool
    iterations: int
    waits: Counter[str]


Trained = Callable[..., tuple[RunDirectory, list[Counted]]]


@pytest.fixture
def trained(task: Planner, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Train a method on the device; return its files, and what was counted of every phase."""
    from tests.pretend import waits

    def train(name: str, *sets: str) -> Any:
        phases: list[Counted] = []
        train_epoch = engine.Engine.train_epoch

        def counted(self: engine.Engine, *given: Any) -> dict[str, float]:
            before = waits.copy()
            found = train_epoch(self, *given)
            trains = any(step.optimiser for step in given[1].steps)
            phases.append(Counted(trains, len(given[-1]), waits - before))
            return found

        with monkeypatch.context() as patch:
            patch.setattr(engine, "make_fabric", lambda *_: PlainFabric(device))
            patch.setattr(engine.Engine, "train_epoch", counted)
            done = go(task(name, "regdb", "pretend", sets=sets))
        return done, phases

    return train


def expected_waits(phase: Counted) -> dict[str, int]:
    """For losses alone, where there are any."""
    return {READ: len(range(0, phase.iterations, engine.READ_EVERY)) + 1} if phase.trains else {}


@pytest.mark.parametrize("name", METHODS)
def test_trains_to_the_bytes_of_the_cpu_and_waits_for_losses_alone(
    name: str, task: Planner, trained: Trained, pretended: bool
) -> None:
    if not pretended:
        pytest.skip("of the device without hardware")
    done, phases = trained(name)
    same_files(done, go(task(name, "regdb", "cpu")))
    assert bool(phases) == (name in TRAINED)
    for phase in phases:
        assert phase.waits == expected_waits(phase), phase


def test_losses_are_read_at_every_tenth_iteration(trained: Trained, pretended: bool) -> None:
    if not pretended:
        pytest.skip("of the device without hardware")
    _, phases = trained("cluster-contrast", "iterations=12", "epochs=1")
    assert [(phase.iterations, phase.waits) for phase in phases] == [(12, {READ: 3})]
