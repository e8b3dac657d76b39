"""From a plan to runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.runs.estimate import estimate
from harness.runs.plan import Request, parse_seeds, plan
from harness.runs.task import Execution
from harness.sweep.folder import read_sweep
from harness.sweep.plan import expand, part_of, read_plan
from tests.conftest import TINY

PLAN = """
protocol = "regdb"
methods = ["source-only", "dmic:mie"]
seeds = "0-1"
trials = "1-2"
set = ["weights=none", "height=32", "width=16"]

[[part]]

[[part]]
methods = ["source-only"]
seeds = 7
trials = 3
"""


def write(folder: Path, text: str = PLAN) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_plan_means_each_method_on_each_trial_from_each_seed(
    tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = read_plan(write(tmp_path, f'data = "{tiny_regdb}"\n{PLAN}'))
    assert read.name == "mine"
    execution = Execution("cpu")
    tasks, failures = expand(read, execution, print)
    assert not failures
    found = [(task.spec.label, task.spec.seed, task.spec.split) for task in tasks]
    assert found == [
        *(
            (label, seed, split)
            for seed in (0, 1)
            for split in (1, 2)
            for label in ("source-only", "dmic:mie")
        ),
        ("source-only", 7, 3),
    ]
    (single,) = plan(
        Request(
            "source-only",
            "regdb",
            str(tiny_regdb),
            "3",
            (7,),
            sets=("weights=none", "height=32", "width=16"),
        ),
        execution,
        print,
    )
    assert single.spec.id == tasks[-1].spec.id, "the same run as by `reidbench run`"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x", "is not TOML"),
        ("name = 3", "`name` is a text"),
        ("part = 3", "parts are tables"),
        ('methods = ["dmic"]', "protocol: Field required"),
        ('protocol = "regdb"\nmethods = []', "methods: "),
        ('protocol = "regdb"\nmethods = ["dmic"]\nsede = 3', "sede: Extra inputs"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(HarnessError, match=word):
        read_plan(write(tmp_path, text))


def test_seeds() -> None:
    assert parse_seeds("0-2") == (0, 1, 2)
    assert parse_seeds("5, 0-1,5") == (5, 0, 1)
    for text in ("", "x", "1-", "2-1", "0-5000", "-1", "²"):
        with pytest.raises(HarnessError, match="--seeds"):
            parse_seeds(text)


def test_a_sweep_from_plan_to_commands(
    tiny_regdb: Path, tmp_path: Path, reidbench: Callable[..., Any]
) -> None:
    sets = [part for value in TINY for part in ("--set", value)]
    asked = ["--methods", "source-only", "--protocol", "regdb", "--data", tiny_regdb, "--seeds", "0-1", *sets]
    asked += ["--trials", "1", "--device", "cpu"]
    shown = reidbench("sweep", "run", *asked, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "2 runs, 0 finished; the others: hours unknown" in shown.stdout
    assert not (tmp_path / "runs").exists()
    one = reidbench("run", "source-only", *asked[2:8], *asked[8:])
    assert one.returncode == 0, one.stderr
    assert "hours unknown" not in reidbench("sweep", "run", *asked[:7], "5", *asked[8:], "--dry-run").stdout
    written = reidbench("sweep", "slurm", *asked)
    assert written.returncode == 0, written.stderr
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert str(folder / "array.sh") in written.stdout
    assert len(read_sweep(folder).units) == 2
    assert "2 runs: 2 finished, 0 failed" in reidbench("sweep", "status", folder).stdout
    assert "no run has failed" in reidbench("sweep", "failures", folder).stdout
    assert "nothing to submit" in reidbench("sweep", "resubmit", folder).stdout
    assert reidbench("sweep", "commands", folder).stdout == ""
    (read_sweep(folder).units[1].run / "COMPLETE").unlink()
    (line,) = reidbench("sweep", "commands", folder).stdout.splitlines()
    words = line.partition(" && reidbench ")[2].split()
    again = reidbench(*words)
    assert again.returncode == 0, again.stderr
    assert "2 runs: 2 finished" in reidbench("sweep", "status", folder).stdout


def test_a_plan_file_and_options_exclude_each_other(tmp_path: Path, reidbench: Callable[..., Any]) -> None:
    refused = reidbench("sweep", "run", write(tmp_path), "--seeds", "3", "--set", "eps=1", "--dry-run")
    assert refused.returncode == 2
    assert "leave out --seeds, --set" in refused.stderr
    missing = reidbench("sweep", "run", "--methods", "dmic", "--dry-run")
    assert "--protocol is missing" in missing.stderr


def test_estimates_say_what_they_do_not_know() -> None:
    assert (
        str(estimate([], Path("nowhere")))
        == "about 0 minutes in all, by profiles of earlier runs, if one runs at a time"
    )
    with pytest.raises(HarnessError, match="options: methods"):
        part_of({"protocol": "regdb"}, "options")
