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


PLAYER = '''\
"""Plays a run of so many epochs of a second; asked to stop, it ends its iteration and keeps whole epochs."""
import json, os, signal, sys, time
from pathlib import Path

file, out = Path(sys.argv[3]), Path(sys.argv[5])
spec = json.loads(file.read_text())["spec"]
run = out / spec["dataset"] / spec["method"] / file.stem
run.mkdir(parents=True, exist_ok=True)
kept = run / "epochs"
done = int(kept.read_text()) if kept.exists() else 0
print(f"from epoch {done}, device {os.environ.get('CUDA_VISIBLE_DEVICES')}", flush=True)
asked = []
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: asked.append(number))
while done < spec["config"]["epochs"]:
    for _ in range(10):
        time.sleep(0.1)
        if asked:
            print(f"asked to stop by {signal.Signals(asked[0]).name}", flush=True)
            sys.exit(75)
    done += 1
    kept.write_text(str(done))
(run / "COMPLETE").touch()
'''


class Playing:
    """Makes sweeps of runs of so many epochs, which a program plays that is found on `path`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "player"
        (self.path / "harness").mkdir(parents=True)
        (self.path / "harness" / "__init__.py").touch()
        (self.path / "harness" / "__main__.py").write_text(PLAYER)

    def __call__(self, *epochs: int) -> Sweep:
        specs = [spec(seed).model_copy(update={"config": {"epochs": n}}) for seed, n in enumerate(epochs)]
        return write_sweep(
            "played", execution(), [{"run": one.id, "spec": one.model_dump()} for one in specs]
        )


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playing:
    monkeypatch.chdir(tmp_path)
    return Playing(tmp_path)


def epochs(unit: Unit) -> int:
    """Return the whole epochs that the player kept of a run."""
    path = unit.run / "epochs"
    return int(path.read_text() or 0) if path.exists() else 0


def execution() -> Any:
    return SimpleNamespace(out=Path("runs"), images=Path("images"), device="cpu", workers=0)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.chdir(tmp_path)
    contents = [{"run": one.id, "spec": one.model_dump()} for one in map(spec, range(4))]
    return write_sweep("my plan/1", execution(), contents)


def finish(unit: Unit) -> None:
    unit.run.mkdir(parents=True, exist_ok=True)
    (unit.run / "COMPLETE").touch()


def fail(sweep: Sweep, unit: Unit, code: int, text: str) -> None:
    sweep.code(unit).write_text(f"{code}\n")
    sweep.log(unit).write_text(text)


def stop(unit: Unit, reason: str) -> None:
    unit.run.mkdir(parents=True, exist_ok=True)
    (unit.run / "manifest.json").write_text(json.dumps({"status": "stopped", "reason": reason}))
