"""Runs from end to end, in real processes: resume after kill -9, re-use, locks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from tests.conftest import process_environment, tiny_settings

pytestmark = pytest.mark.slow

SETTINGS = tiny_settings(
    "epochs_intra=2",
    "epochs_joint=3",
    "iterations=4",
    "labels_per_batch=3",
    "instances=2",
    "intra_k1=6",
    "k2_start=2",
    "k2_end=3",
    "joint_k1=8",
    "joint_k2=4",
    "eps_high=0.55",
    "eps_low=0.5",
    "turning_epoch=1",
    "min_samples=2",
)


def command(root: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "harness", "run", "dmic", "--protocol", "regdb", "--trials", "1"),
        *("--data", str(root), "--out", str(out), "--device", "cpu", *SETTINGS),
    ]


def run(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, out),
        cwd=out.parent,
        env=process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def run_folder(out: Path) -> Path:
    (manifest,) = out.glob("*/*/*/manifest.json")
    return manifest.parent


@pytest.fixture(scope="module")
def undisturbed(tiny_regdb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "runs"
    done = run(tiny_regdb, out)
    assert done.returncode == 0, done.stderr
    return out


def kill_in_the_middle(root: Path, out: Path, epochs_done: int) -> None:
    """Start a run and kill it while the epoch after `epochs_done` is under way."""
    process = subprocess.Popen(
        command(root, out),
        cwd=out.parent,
        env=process_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        histories = list(out.glob("*/*/*/history.csv"))
        if (
            histories
            and len(pd.read_csv(histories[0])) >= epochs_done
            and histories[0].with_name("checkpoints").joinpath("last.ckpt").exists()
        ):
            time.sleep(0.1)
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"


@pytest.mark.parametrize("epochs_done", [1, 3])
def test_killed_run_resumes_to_the_same_bytes(
    undisturbed: Path, tiny_regdb: Path, tmp_path: Path, epochs_done: int
) -> None:
    out = tmp_path / "runs"
    kill_in_the_middle(tiny_regdb, out, epochs_done)
    assert not (run_folder(out) / "COMPLETE").exists()
    again = run(tiny_regdb, out)
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    expected, found = run_folder(undisturbed), run_folder(out)
    assert found.name == expected.name
    for name in ("metrics.csv", "history.csv", "checkpoints/last.ckpt", "ranks.npz"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def test_finished_run_answers_from_disk(undisturbed: Path, tiny_regdb: Path) -> None:
    before = (run_folder(undisturbed) / "manifest.json").stat().st_mtime_ns
    again = run(tiny_regdb, undisturbed)
    assert again.returncode == 0
    assert "is finished" in again.stderr
    assert (run_folder(undisturbed) / "manifest.json").stat().st_mtime_ns == before


def test_second_process_says_who_holds_the_run(undisturbed: Path, tiny_regdb: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    shutil.copytree(undisturbed, out)
    folder = run_folder(out)
    (folder / "COMPLETE").unlink()
    (folder / "holder.json").write_text(json.dumps({"pid": 4321, "host": "elsewhere"}))
    with FileLock(folder / "run.lock"):
        second = run(tiny_regdb, out)
    assert second.returncode == 3
    assert "4321" in second.stderr
    assert "elsewhere" in second.stderr


def test_run_from_manifest_is_the_same_run(undisturbed: Path, tmp_path: Path, reidbench) -> None:
    manifest = run_folder(undisturbed) / "manifest.json"
    done = reidbench("run", "--from", manifest, "--out", tmp_path / "again", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    again = run_folder(tmp_path / "again")
    assert (again / "metrics.csv").read_bytes() == (manifest.parent / "metrics.csv").read_bytes()


def test_manifest_of_another_version_is_refused(undisturbed: Path, tmp_path: Path, reidbench) -> None:
    content = json.loads((run_folder(undisturbed) / "manifest.json").read_text())
    content["manifest_version"] = 99
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    refused = reidbench("run", "--from", tmp_path / "manifest.json")
    assert refused.returncode == 2
    assert "99" in refused.stderr
    assert "Traceback" not in refused.stderr
