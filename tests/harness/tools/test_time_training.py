"""``reidbench time --what training``: every part of an iteration has its time, beside a bare loop."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.tools.time_training import measure_training
from harness.tools.training_bench import TrainingPlan
from harness.training.stage_times import STEP_PARTS
from tests.conftest import TINY

SMALL = (*(one for one in TINY if not one.startswith("weights")), "instances=2")
BESIDE = ("whole iteration", "bare iteration", "decode", "extract", "cluster", "start memories", "evaluate")


@pytest.mark.filterwarnings("ignore")
def test_every_part_has_its_time(
    reidbench: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = reidbench(
        *("time", "--what", "training", "--method", "dmic", "--architecture", "resnet18", "--batch", 3),
        *("--iterations", 1, "--repeat", 1, "--device", "cpu", "--out", "times.csv"),
        *(word for one in SMALL for word in ("--set", one)),
    )
    assert done.returncode == 0, done.stderr
    # four streams of 3 labels x 2 images, visible ones with a second view
    assert "36 images of 32x16 an iteration" in done.stderr
    times = pd.read_csv(tmp_path / "times.csv").set_index("part")
    assert tuple(times.index) == (*STEP_PARTS, *BESIDE)
    assert times["share"].sum() == pytest.approx(1)
    assert (times["wall_s"] > 0).all()
    ratio = times.loc["whole iteration", "wall_s"] / times.loc["bare iteration", "wall_s"]
    assert f"overhead over the bare loop: {ratio:.3f}; peak memory: " in done.stdout


@pytest.mark.filterwarnings("ignore")
def test_a_method_that_trains_nothing_is_refused() -> None:
    plan = TrainingPlan("source-only", "regdb", SMALL[:3], images=40, iterations=1, rounds=1)
    with pytest.raises(
        HarnessError, match="source-only trains nothing on 40 made-up images: it has no stage"
    ):
        measure_training(plan, "cpu", print)
