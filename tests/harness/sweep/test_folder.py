"""The folder of a sweep, and how its runs stand."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.errors import HarnessError, code_of_many
from harness.runs.holder import HOLDER, myself
from harness.runs.run_spec import canonical_json
from harness.sweep.driver import tell_failures
from harness.sweep.folder import Sweep, read_sweep
from harness.sweep.status import count, failures_of, states_of
from tests.harness.sweep.conftest import fail, finish, stop


def test_a_folder_says_what_it_was_written_with(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep == read_sweep(sweep.path)
    assert sweep.path.parent == tmp_path / "runs" / "sweeps"
    assert sweep.path.name.startswith("my-plan-1-")
    assert [unit.spec.seed for unit in sweep.units] == [0, 1, 2, 3]
    unit = sweep.units[2]
    assert unit.run == tmp_path / "runs" / "regdb" / "dmic" / unit.spec.id
    assert sweep.words(unit)[:3] == ["run", "--from", str(sweep.path / "specs" / f"{unit.spec.id}.json")]
    assert (sweep.path / "specs.txt").read_text().splitlines()[2] == str(unit.file)


@pytest.mark.parametrize("name", ["sweep.json", "specs.txt"])
def test_what_is_no_folder_of_a_sweep_is_refused(sweep: Sweep, name: str) -> None:
    (sweep.path / name).unlink()
    with pytest.raises(HarnessError, match=f"no folder of a sweep: it has no {name}"):
        read_sweep(sweep.path)


def test_a_damaged_folder_is_refused(sweep: Sweep) -> None:
    sweep.units[1].file.write_text("{")
    with pytest.raises(HarnessError, match="is damaged"):
        read_sweep(sweep.path)


def test_runs_stand_as_their_directories_say(sweep: Sweep) -> None:
    one, two, three, four = sweep.units
    assert states_of(sweep) == ["waiting"] * 4
    finish(one)
    fail(sweep, one, 1, "an earlier failure counts no more")
    two.run.mkdir(parents=True)
    (two.run / HOLDER).write_text(canonical_json(asdict(myself())))
    stop(three, "Stopped: stopped by SIGTERM")
    stop(four, "HarnessError: the loss is not finite")
    assert states_of(sweep) == ["finished", "running", "stopped", "failed"]
    assert count(states_of(sweep)) == "4 runs: 1 finished, 1 running, 1 stopped, 1 failed"
    (two.run / HOLDER).write_text(canonical_json(asdict(replace(myself(), pid=2**22 + 1))))
    sweep.code(three).write_text("3\n")
    sweep.code(four).write_text("75\n")
    assert states_of(sweep) == ["finished", "waiting", "waiting", "stopped"]


def test_failures_are_grouped_by_cause(sweep: Sweep) -> None:
    one, two, three, _ = sweep.units
    fail(sweep, one, 2, "epoch 3\nerror: no clusters in epoch 3\n")
    fail(sweep, two, 2, "epoch 5\nerror: no clusters in epoch 5\n")
    fail(sweep, three, 137, "")
    (sweep.logs / "array-77_2.out").write_text("slurmstepd: error: Detected 1 oom-kill event(s)\n")
    first, second = failures_of(sweep)
    assert first.units == (one, two)
    assert first.cause == "error: no clusters in epoch N (exit code 2)"
    assert first.tail == ("epoch 3", "error: no clusters in epoch 3")
    assert second.cause == "slurmstepd: error: Detected N oom-kill event(s) (exit code 137)"
    said: list[str] = []
    assert tell_failures(sweep, said.append) == 3
    assert said[0] == "2 failed: error: no clusters in epoch N (exit code 2)"


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 3], 3),
        ([3, 75], 75),
        ([75, 2, 3], 2),
        ([2, 1], 1),
        ([0, 137, 2], 1),
        ([130], 130),
    ],
)
def test_the_exit_code_of_several_runs(codes: list[int], code: int) -> None:
    assert code_of_many(codes) == code
