"""Whoever moves a number in harness/training or harness/inputs raises TRAINING_VERSION: a run's identity holds it.

Recorded are the draws of every batch (exactly) and what a tiny run computes from them. The latter depends on the last
bits of a machine's float32 arithmetic, so losses are compared to within a thousandth (another order of images, seed,
resampling or augmentation moves them by more) and scores, which jump when near ties swap, to within one point.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from harness.inputs.batches import EpochBatches
from harness.runs.plan import Request, plan
from harness.runs.run_spec import TRAINING_VERSION
from harness.runs.task import Execution
from harness.training import loop
from harness.training.execute import execute
from harness.training.progress import Reporter
from results.store import read_run
from tests.conftest import TINY

RECORD = Path(__file__).parents[2] / "data" / "training" / "numbers.json"
ABOUT = (
    "If code of harness/training or harness/inputs moved a number, raise TRAINING_VERSION in harness/runs/run_spec.py; "
    "if the twin, the method or the protocol moved it, do not. Then write the numbers above into numbers.json of "
    "tests/data/training."
)


def test_the_numbers_are_those_of_this_training_version(
    tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    draws = hashlib.sha256()
    make = loop.batches_of

    def record(*arguments: object) -> EpochBatches:
        batches = make(*arguments)  # type: ignore[arg-type]
        for name, positions in sorted(batches.positions.items()):
            draws.update(name.encode() + np.ascontiguousarray(positions, dtype="<i8").tobytes())
        for i in range(len(batches)):
            for _, part in sorted(batches[i].items()):
                # whole numbers, and float32 that is drawn as float64: equal on every machine
                draws.update(b"".join(np.ascontiguousarray(array).tobytes() for array in part.draws))
        return batches

    monkeypatch.setattr(loop, "batches_of", record)
    monkeypatch.chdir(tmp_path)
    reporter = Reporter(Console(quiet=True))
    request = Request(
        "supervised",
        "regdb",
        data=str(tiny_regdb),
        trials="1",
        sets=(*TINY, "epochs=2", "iterations=1"),
    )
    (task,) = plan(request, Execution("cpu", out=tmp_path), reporter.line)
    run = read_run(execute(task, reporter).path)
    found = {
        "training_version": TRAINING_VERSION,
        "draws": draws.hexdigest()[:16],
        "losses": run.history.filter(like="loss_").to_numpy().ravel().tolist(),
        "test_mAP": run.history["test_mAP"].tolist(),
    }
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    about = f"{json.dumps(found, indent=2)}\n{ABOUT}"
    for key in ("training_version", "draws"):
        assert found[key] == recorded[key], about
    assert found["losses"] == pytest.approx(recorded["losses"], rel=1e-3), about
    assert found["test_mAP"] == pytest.approx(recorded["test_mAP"], abs=1), about
