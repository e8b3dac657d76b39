"""A sweep of four runs that nobody trains."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.runs.run_spec import RunSpec
from harness.sweep.folder import Sweep, Unit, write_sweep


def spec(seed: int) -> RunSpec:
    return RunSpec(
        method="dmic",
        label="dmic",
        preset="demo",
        config={"epochs": 2},
        engine={"height": 32},
        dataset="regdb",
        split=1,
        seed=seed,
        data_digest="d",
        data="synthetic",
        weights="none",
        sources="s",
        training_version=2,
    )


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.chdir(tmp_path)
    execution: Any = SimpleNamespace(out=Path("runs"), images=Path("images"), device="cpu", workers=0)
    contents = [{"run": one.id, "spec": one.model_dump()} for one in map(spec, range(4))]
    return write_sweep("my plan/1", execution, contents)


def finish(unit: Unit) -> None:
    unit.run.mkdir(parents=True, exist_ok=True)
    (unit.run / "COMPLETE").touch()


def fail(sweep: Sweep, unit: Unit, code: int, text: str) -> None:
    sweep.code(unit).write_text(f"{code}\n")
    sweep.log(unit).write_text(text)


def stop(unit: Unit, reason: str) -> None:
    unit.run.mkdir(parents=True, exist_ok=True)
    (unit.run / "manifest.json").write_text(json.dumps({"status": "stopped", "reason": reason}))
