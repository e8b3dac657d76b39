"""The directory of a run: who holds it, what a killed process left, and its log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from harness.errors import HarnessError, RunHeldError
from harness.runs.directory import RunDirectory
from harness.runs.files import waiting_for
from harness.runs.plan import parse_trials
from harness.training.progress import Reporter
from results.checksums import read_checksums


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    spec: Any = SimpleNamespace(dataset="regdb", method="dmic", id="0123456789ab")
    directory = RunDirectory(tmp_path, spec)
    directory.prepare()
    return directory


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "", "{}", '{"pid": [], "host": 3}', "[" * 100_000])
def test_an_odd_holder_file_is_no_obstacle(run: RunDirectory, text: str) -> None:
    (run.path / "holder.json").write_text(text)
    with (
        FileLock(run.path / "run.lock"),
        pytest.raises(RunHeldError, match="held by another process"),
        run.held(),
    ):
        pass


def test_what_a_killed_process_left_goes_when_the_run_is_held_again(run: RunDirectory) -> None:
    left = [run.path / ".metrics.csv.7-0123abcd", run.last.with_name(".last.ckpt.7-0123abcd")]
    for path in left:
        path.write_bytes(b"half")
    with run.held():
        assert not any(path.exists() for path in left)
        assert (run.path / "holder.json").is_file()
    assert not list(run.path.rglob(".*.*"))


def test_complete_holds_the_digests_of_all_files(run: RunDirectory) -> None:
    run.write_manifest({"run": "x"})
    run.metrics.write_text("a\n1\n")
    run.last.write_bytes(b"weights")
    run.log.write_text("told")
    run.finish()
    assert set(read_checksums(run.path)) == {"manifest.json", "metrics.csv", "checkpoints/last.ckpt"}


def test_a_log_that_is_a_link_is_not_written_through(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    run.log.symlink_to(tmp_path / "precious")
    with pytest.raises(HarnessError, match=r"log\.txt is a link"):
        Reporter(Console(stderr=True)).with_log(run.log).line("epoch 0")
    assert (tmp_path / "precious").read_text() == "mine"


def test_who_waits_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with waiting_for(tmp_path / "x.lock", said.append):
        assert not said
    other = FileLock(tmp_path / "x.lock", is_singleton=False)
    other.acquire()

    def say(text: str) -> None:
        said.append(text)
        other.release()

    with waiting_for(tmp_path / "x.lock", say):
        assert said == [f"waiting for another process that holds {tmp_path / 'x.lock'}"]


@pytest.mark.parametrize(
    "text", ["²", "1-²", "٣", "9" * 5000, "1-999999999", "1-", "x", "", ",".join(["1-3"] * 99)]
)
def test_trials_that_are_none_are_refused_at_once(text: str) -> None:
    with pytest.raises(HarnessError, match="--trials"):
        parse_trials(text, (1, 2, 3))


def test_a_run_does_not_write_through_a_link_to_another_folder(run: RunDirectory, tmp_path: Path) -> None:
    run.last.parent.rmdir()
    run.last.parent.symlink_to(tmp_path)
    with pytest.raises(HarnessError, match="checkpoints is a link"), run.held():
        pass
