"""What is killed while a sweep runs on slots, and that nothing is lost by it: `make test-slurm`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.runs.holder import read_holder
from harness.sweep.folder import Sweep, read_sweep
from harness.sweep.status import states_of
from tests.conftest import process_environment, tiny_settings
from tests.harness.sweep.conftest import Playing, epochs

pytestmark = pytest.mark.sweep
pytest.importorskip("parsl")

DRIVER = """\
import sys
from pathlib import Path
from harness.runs.stopping import stoppable
from harness.sweep import engines
from harness.sweep.driver import drive
from harness.sweep.folder import read_sweep

local = engines.local_config
engines.threads_for = lambda _: {"PYTHONPATH": sys.argv[2]}
engines.local_config = lambda sweep, _: local(sweep, engines.Engine(2, ("0", "1")))
with stoppable():
    sys.exit(drive(read_sweep(Path(sys.argv[1])), engines.Engine(2), print))
"""


def until(true: Callable[[], bool], what: str, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def starts(sweep: Sweep) -> list[list[int]]:
    """Return the epochs that each run began with, every time it was started."""
    logs = [sweep.log(unit).read_text() if sweep.log(unit).exists() else "" for unit in sweep.units]
    return [[int(part.partition(",")[0]) for part in log.split("from epoch ")[1:]] for log in logs]


def stops(sweep: Sweep) -> int:
    return sum(path.read_text().count("asked to stop") for path in sweep.logs.glob("*.log"))


def left_of(sweep: Sweep, helpers: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return which of a driver's helpers, and of the workers that these started, are still there."""
    workers = [
        one
        for one in psutil.process_iter(["cmdline"])
        if str(sweep.path) in " ".join(one.info["cmdline"] or ())
    ]
    return [one for one in (*helpers, *workers) if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_driver_that_is_killed_or_stopped_loses_nothing(player: Playing) -> None:
    sweep = player(9, 9, 1, 1, 1, 1)

    def begin() -> subprocess.Popen[str]:
        words = [sys.executable, "-c", DRIVER, str(sweep.path), str(player.path)]
        return subprocess.Popen(words, env=process_environment(), stdout=subprocess.PIPE, text=True)

    first = begin()
    until(lambda: epochs(sweep.units[0]) > 0 and epochs(sweep.units[1]) > 0, "two runs to be under way")
    helpers = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.wait()
    until(lambda: stops(sweep) == 2, "both runs to stop without their driver")
    until(lambda: not left_of(sweep, helpers), "the helpers of the killed driver to end", 120)
    before = list(map(epochs, sweep.units))
    second = begin()
    until(lambda: sum(map(epochs, sweep.units)) > sum(before), "an epoch")
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=300)
    assert second.returncode == 75
    until(lambda: stops(sweep) == 4, "both runs to stop with their driver")
    third = begin()
    said, _ = third.communicate(timeout=900)
    assert third.returncode == 0, said
    assert states_of(sweep) == ["finished"] * 6
    assert "6 runs: 6 finished, 0 failed" in said
    for log in starts(sweep):
        assert log == sorted(log), "no epoch twice"
        assert len(log) <= 3


def words(root: Path, out: Path, *first: str) -> list[str]:
    settings = tiny_settings("epochs=3", "iterations=2", "flip=false")
    where = [
        "--protocol",
        "regdb",
        "--trials",
        "1",
        "--data",
        str(root),
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    return [sys.executable, "-m", "harness", *first, "--seeds", "0-5", *where, *settings]


def test_runs_whose_workers_and_driver_were_killed_are_those_of_a_serial_command(
    tiny_regdb: Path, tmp_path: Path
) -> None:
    def begin(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=tmp_path, env=process_environment())

    assert begin(*words(tiny_regdb, tmp_path / "serial", "run", "supervised")).wait() == 0
    sweep_words = words(
        tiny_regdb, tmp_path / "runs", "sweep", "run", "--methods", "supervised", "--gpus", "0,1"
    )
    kept = (tmp_path / "runs").glob

    def epochs_on_disk() -> int:
        return sum(len(path.read_text().splitlines()) - 1 for path in kept("*/*/*/history.csv"))

    def has_engine(driver: subprocess.Popen[bytes]) -> bool:
        with suppress(psutil.NoSuchProcess):  # one that has ended since it was listed
            helpers = psutil.Process(driver.pid).children(recursive=True)
            return any("interchange" in " ".join([one.name(), *one.cmdline()]) for one in helpers)
        return False

    def under_way(driver: subprocess.Popen[bytes]) -> None:
        # runs of the driver before may still end an epoch, which says nothing of this one
        until(lambda: has_engine(driver), "the engine")
        before = epochs_on_disk()
        until(lambda: epochs_on_disk() > before, "an epoch")

    for how, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 75)):
        driver = begin(*sweep_words)
        under_way(driver)
        driver.send_signal(how)
        assert driver.wait() == code
    driver = begin(*sweep_words)
    under_way(driver)
    holder = next(found for found in map(read_holder, kept("*/*/*")) if found)
    worker = psutil.Process(holder.pid).parent()
    assert worker is not None
    worker.kill()
    assert driver.wait() == 0
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    sweep = read_sweep(folder)
    assert states_of(sweep) == ["finished"] * 6
    gpus = set()
    for unit in sweep.units:
        serial = tmp_path / "serial" / unit.run.relative_to(tmp_path / "runs")
        for name in ("metrics.csv", "history.csv", "checkpoints/last.ckpt", "ranks.npz"):
            assert (unit.run / name).read_bytes() == (serial / name).read_bytes(), name
        environment = json.loads((unit.run / "manifest.json").read_text())["environment"]
        gpus.add(environment["variables"]["CUDA_VISIBLE_DEVICES"])
    assert gpus == {"0", "1"}
