from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.training.stage_times import StageTimers
from results.schema import PROFILE

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets by hand."""
    now = [0.0]
    monkeypatch.setattr("harness.training.stage_times.time.perf_counter", lambda: now[0])
    return now


def test_wall_time_adds_up_over_calls_and_epochs(clock: list[float]) -> None:
    timers = StageTimers(CPU)
    for epoch in (0, 1):
        timers.begin_epoch(epoch)
        with timers.stage("cluster"):
            clock[0] += 1
            for _ in range(2):
                with timers.stage("jaccard"):
                    clock[0] += 2 + epoch
    frame = timers.frame()
    assert tuple(frame) == PROFILE.names
    assert frame[["epoch", "stage", "calls", "wall_s"]].to_numpy().tolist() == [
        [0, "cluster", 1, 5.0],
        [0, "jaccard", 2, 4.0],
        [1, "cluster", 1, 7.0],
        [1, "jaccard", 2, 6.0],
    ]


def test_peak_memory_on_the_cpu_sees_an_allocation() -> None:
    timers = StageTimers(CPU)
    with timers.stage("before"):
        pass
    with timers.stage("large"):
        held = np.ones(2**25)
    peak = timers.frame().set_index("stage")["peak_memory_mib"]
    assert held.nbytes == 2**28
    assert peak["large"] >= peak["before"] + 200


def test_nested_stages_on_cuda_share_the_one_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = [0]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: peak[0] * 2**20)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: peak.__setitem__(0, 0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    timers = StageTimers(torch.device("cuda"))
    peak[0] = 99
    with timers.stage("outer"):
        peak[0] = 30
        with timers.stage("inner"):
            peak[0] = 10
        peak[0] = 20
    found = timers.frame().set_index("stage")["peak_memory_mib"].to_dict()
    assert found == {"outer": 30, "inner": 10}


def test_resume_keeps_finished_epochs_only(tmp_path: Path, clock: list[float]) -> None:
    first = StageTimers(CPU)
    for epoch in (0, 1):
        first.begin_epoch(epoch)
        with first.stage("train"):
            clock[0] += 3
    first.frame().to_csv(tmp_path / "profile.csv", index=False)
    again = StageTimers(CPU)
    again.resume(tmp_path / "absent.csv", 1)
    again.resume(tmp_path / "profile.csv", 1)
    assert again.frame()[["epoch", "stage", "calls", "wall_s"]].to_numpy().tolist() == [[0, "train", 1, 3.0]]
