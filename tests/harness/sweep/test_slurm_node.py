"""Sweeps on a real Slurm of one node: `make test-slurm`.

What happens to array tasks (time limit, preemption, requeue, a controller that is killed) is tried with a program that
plays a run of some epochs; then real runs, one of which is queued again in its midst, are compared with serial ones.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.sweep.driver import drive
from harness.sweep.engines import Engine
from harness.sweep.folder import Sweep, read_sweep
from harness.sweep.slurm import Array, ask_queue, submit, write_script
from harness.sweep.status import states_of
from tests.conftest import process_environment, tiny_settings
from tests.harness.sweep.conftest import Playing, epochs
from tests.harness.sweep.slurm_node import Node, missing

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(missing()), reason=missing() or "Slurm is here")]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("slurm"))
    yield made
    made.close()


def finished(sweep: Sweep) -> bool:
    return states_of(sweep) == ["finished"] * len(sweep.units)


def start_again(node: Node, job: str) -> None:
    """Let a task that was queued again start now: Slurm has it wait two minutes otherwise."""
    node.until(
        lambda: "PENDING" in node.ask("squeue", "--noheader", "--format=%T", f"--jobs={job}"), "the queue"
    )
    node.ask("scontrol", "update", f"JobId={job}", "StartTime=now")


def outputs(sweep: Sweep) -> str:
    return "".join(path.read_text() for path in sorted(sweep.logs.glob("array-*.out")))


@pytest.fixture
def playing(player: Playing, monkeypatch: pytest.MonkeyPatch) -> Playing:
    monkeypatch.setenv("PYTHONPATH", str(player.path))
    return player


def test_an_array_on_two_gpus(node: Node, playing: Playing) -> None:
    sweep = playing(1, 1, 1, 1)
    write_script(sweep, Array(2))
    job = submit(sweep)
    assert set(ask_queue(sweep).tasks) == {0, 1, 2, 3}
    node.until(lambda: finished(sweep), "four runs")
    logs = [sweep.log(unit).read_text() for unit in sweep.units]
    assert {log.split()[-1] for log in logs} == {"0", "1"}, "each got a device of its own"
    assert [sweep.code(unit).read_text() for unit in sweep.units] == ["0\n"] * 4
    node.until(lambda: not ask_queue(sweep).tasks, f"job {job} to leave the queue")


def test_a_time_limit_queues_the_task_again(node: Node, playing: Playing) -> None:
    """Slurm counts limits in minutes, and sends the signal up to a minute early."""
    sweep = playing(70)
    write_script(sweep, Array(1, ("#SBATCH --time=1",), lead=10))
    job = submit(sweep)
    node.until(lambda: "queued again" in outputs(sweep), "the signal before the limit")
    assert "asked to stop by SIGUSR2" in sweep.log(sweep.units[0]).read_text()
    kept = epochs(sweep.units[0])
    assert 0 < kept < 70
    start_again(node, job)
    node.until(lambda: f"from epoch {kept}," in sweep.log(sweep.units[0]).read_text(), "the second start")
    node.ask("scancel", "--full", job)
    node.until(lambda: not ask_queue(sweep).tasks, "the end")


def test_preemption_stops_a_run_which_goes_on_afterwards(node: Node, playing: Playing) -> None:
    sweep = playing(12)
    write_script(sweep, Array(1, ("#SBATCH --partition=low", "#SBATCH --gres=gpu:2"), gres=""))
    job = submit(sweep)
    node.until(lambda: epochs(sweep.units[0]) > 1, "two epochs")
    urgent = [
        "sbatch",
        "--parsable",
        "--partition=high",
        "--gres=gpu:2",
        "--output=/dev/null",
        "--wrap=sleep 2",
    ]
    node.ask(*urgent)
    node.until(lambda: "asked to stop by SIGTERM" in sweep.log(sweep.units[0]).read_text(), "the preemption")
    start_again(node, job)
    node.until(lambda: finished(sweep), "the run")
    assert "queued again" not in outputs(sweep), "Slurm does that by itself"
    assert sweep.log(sweep.units[0]).read_text().count("from epoch") == 2


def test_scontrol_requeue(node: Node, playing: Playing) -> None:
    sweep = playing(6)
    write_script(sweep, Array(1))
    job = submit(sweep)
    node.until(lambda: epochs(sweep.units[0]) > 1, "two epochs")
    node.ask("scontrol", "requeue", f"{job}_0")
    start_again(node, job)
    node.until(lambda: finished(sweep), "the run")
    second = sweep.log(sweep.units[0]).read_text().rpartition("from epoch ")[2]
    assert int(second.partition(",")[0]) > 1


def test_a_controller_that_is_killed_loses_nothing(
    node: Node, playing: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = playing(25, 1)
    write_script(sweep, Array(1))
    submit(sweep)
    begun = time.time()
    node.until(lambda: epochs(sweep.units[0]) > 0, "an epoch")
    node.until(
        lambda: (node.base / "state" / "job_state").stat().st_mtime > begun + 2, "its state on the disk"
    )
    node.kill("slurmctld", signal.SIGKILL)
    monkeypatch.setattr("harness.sweep.slurm.SQUEUE_S", 3)
    assert ask_queue(sweep).unknown, "who asks is not kept waiting"
    monkeypatch.undo()
    node.begin("slurmctld")
    node.until(lambda: finished(sweep), "both runs")
    node.until(lambda: not ask_queue(sweep).tasks, "the end")


CONFIGURATION = """\
import parsl
from parsl import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import SlurmProvider

provider = SlurmProvider(
    partition="low", nodes_per_block=1, cores_per_node=2, init_blocks=1, max_blocks=1, walltime="00:10:00",
    exclusive=False, scheduler_options="#SBATCH --gres=gpu:2", launcher=SimpleLauncher(),
)
slots = HighThroughputExecutor(
    address="127.0.0.1", max_workers_per_node=2, cores_per_worker=0.1, available_accelerators=2, provider=provider
)
config = parsl.Config(executors=[slots], retries=1)
"""


def test_parsl_drives_slurm(node: Node, player: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("parsl")
    monkeypatch.chdir(player.path)  # where a child finds the player before the harness
    sweep = player(1, 1, 1, 1)
    file = player.path / "slurm.py"
    file.write_text(CONFIGURATION)
    said: list[str] = []
    assert drive(sweep, Engine(config=file), said.append) == 0
    assert finished(sweep)
    assert {sweep.log(unit).read_text().split()[-1] for unit in sweep.units} == {"0", "1"}
    node.until(lambda: not node.ask("squeue", "--noheader").strip(), "the block to be given back")


def real(root: Path, folder: Path, *words: str) -> list[str]:
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
        str(folder),
    ]
    return [sys.executable, "-m", "harness", *words, *where, *settings]


def test_real_runs_are_those_of_a_serial_command(
    node: Node, tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs; the first is queued again after its first epoch, wherever it stands."""
    monkeypatch.chdir(tmp_path)
    for name, value in process_environment().items():
        monkeypatch.setenv(name, value)
    subprocess.run(real(tiny_regdb, tmp_path / "serial", "run", "supervised", "--seeds", "0-1"), check=True)
    words = ["sweep", "slurm", "--methods", "supervised", "--seeds", "0-1", "--submit", "--max-parallel", "2"]
    done = subprocess.run(
        real(tiny_regdb, tmp_path / "runs", *words), check=True, capture_output=True, text=True
    )
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert "submitted 2 of 2 runs as job" in done.stdout
    sweep = read_sweep(folder)
    first = sweep.units[0]
    node.until(lambda: (first.run / "checkpoints" / "last.ckpt").exists(), "an epoch", 900)
    job = done.stdout.split()[-1]
    node.ask("scontrol", "requeue", f"{job}_0")
    start_again(node, job)
    node.until(lambda: finished(sweep), "both runs", 900)
    for unit in sweep.units:
        serial = tmp_path / "serial" / unit.run.relative_to(tmp_path / "runs")
        for name in ("metrics.csv", "history.csv", "checkpoints/last.ckpt", "ranks.npz"):
            assert (unit.run / name).read_bytes() == (serial / name).read_bytes(), name
    states = [json.loads((unit.run / "manifest.json").read_text())["status"] for unit in sweep.units]
    assert states == ["complete", "complete"]
