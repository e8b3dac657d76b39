"""Slurm array jobs: the script, and answers of sbatch and squeue, odd ones too, from programs that play them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.sweep import slurm
from harness.sweep.folder import Sweep
from harness.sweep.slurm import Array, ask_queue, jobs_of, ranges, submit, tasks_in, write_script


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def play(folder: Path, name: str, body: str) -> None:
    """Put a program into a folder that notes its arguments beside it."""
    program = folder / name
    program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$*" >> {folder}/{name}.asked\n{body}\n')
    program.chmod(0o755)


def asked(folder: Path, name: str) -> str:
    path = folder / f"{name}.asked"
    return path.read_text() if path.exists() else ""


def test_the_script_asks_for_what_a_sweep_needs(sweep: Sweep) -> None:
    array = Array(8, ("#SBATCH --partition=gpu", "#SBATCH --gres=gpu:h100:1"), lead=300)
    text = write_script(sweep, array).read_text()
    head = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    for wanted in ("--array=0-3%8", "--gres=gpu:1", "--requeue", "--open-mode=append", "--signal=B:USR2@300"):
        assert f"#SBATCH {wanted}" in head
    assert head[-2:] == list(array.headers)
    assert "USR1" not in text
    assert "sacct" not in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "gres" not in slurm.script(sweep, Array(1, gres=""))


@pytest.mark.parametrize("line", ["--partition=gpu", "#SBATCH -p gpu\nrm -rf", "rm -rf ~"])
def test_a_header_is_one_line_for_sbatch(line: str) -> None:
    with pytest.raises(HarnessError, match="expected a line such as"):
        Array(1, (line,))


PROGRAM = """\
#!/bin/bash
trap 'sleep 0.2; exit 75' USR2 TERM
echo "$*"
touch started
[ "$1 $2" = "-m harness" ] || exit 9
{then}
"""


def run_task(
    sweep: Sweep, bin_folder: Path, then: str, number: signal.Signals | None = None
) -> subprocess.Popen[str]:
    """Run the array script's second task, with a program in Python's place."""
    program = bin_folder / "python"
    program.write_text(PROGRAM.format(then=then))
    program.chmod(0o755)
    play(bin_folder, "scontrol", "")
    text = slurm.script(sweep, Array(1)).replace(slurm.sys.executable, str(program))
    job = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "77"}
    process = subprocess.Popen(
        ["bash", "-c", text],
        env={**os.environ, **job},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if number:
        deadline = time.monotonic() + 60
        while not Path("started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
    process.said = process.communicate(timeout=60)[0]  # type: ignore[attr-defined]
    return process


@pytest.mark.parametrize("code", [0, 2, 3, 75])
def test_a_task_runs_its_line_and_ends_with_the_runs_code(sweep: Sweep, bin_folder: Path, code: int) -> None:
    process = run_task(sweep, bin_folder, f"exit {code}")
    assert process.returncode == code
    unit = sweep.units[1]
    assert sweep.code(unit).read_text() == f"{code}\n"
    assert f"--from {unit.file} --out {sweep.settings.out}" in sweep.log(unit).read_text()
    assert asked(bin_folder, "scontrol") == "", "75 alone is no reason to queue again"


WAIT = "while :; do sleep 0.05; done"


def test_a_task_that_nears_its_limit_is_queued_again(sweep: Sweep, bin_folder: Path) -> None:
    process = run_task(sweep, bin_folder, WAIT, signal.SIGUSR2)
    assert process.returncode == 75
    assert sweep.code(sweep.units[1]).read_text() == "75\n"
    assert asked(bin_folder, "scontrol") == "requeue 77_1\n"


def test_a_task_that_is_preempted_is_queued_by_slurm(sweep: Sweep, bin_folder: Path) -> None:
    process = run_task(sweep, bin_folder, WAIT, signal.SIGTERM)
    assert process.returncode == 75
    assert asked(bin_folder, "scontrol") == ""


def test_submitting_keeps_the_jobs_number(sweep: Sweep, bin_folder: Path) -> None:
    script = write_script(sweep, Array(8))
    play(bin_folder, "sbatch", "echo '123;cluster'")
    assert submit(sweep) == "123"
    assert submit(sweep, [0, 1, 3], 2) == "123"
    assert jobs_of(sweep) == ["123", "123"]
    first, second = asked(bin_folder, "sbatch").splitlines()
    assert first == f"--parsable {script}"
    assert second == f"--parsable --array=0-1,3%2 {script}"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("echo 'invalid partition' >&2; exit 1", "refused .*invalid partition"),
        ("exit 1", "no reason given"),
        ("", "which is no job number"),
        ("echo 'Submitted batch job'", "which is no job number"),
        ("exec sleep 30", "did not answer"),
    ],
)
def test_odd_answers_of_sbatch(
    sweep: Sweep, bin_folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, word: str
) -> None:
    monkeypatch.setattr(slurm, "SBATCH_S", 0.5 if "sleep" in body else 60)
    write_script(sweep, Array(8))
    play(bin_folder, "sbatch", body)
    with pytest.raises(HarnessError, match=word):
        submit(sweep)
    assert jobs_of(sweep) == []


def test_without_slurm_or_script_the_message_says_so(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarnessError, match=r"has no array\.sh"):
        submit(sweep)
    write_script(sweep, Array(8))
    with pytest.raises(HarnessError, match="there is no sbatch here"):
        submit(sweep)
    (sweep.path / slurm.JOBS).write_text("77\n")
    assert ask_queue(sweep).unknown == "there is no squeue here"


@pytest.mark.parametrize(
    ("body", "tasks", "unknown"),
    [
        (
            "printf '77 0 RUNNING\\n77 2 PENDING\\n78 1 PENDING\\n77 3 COMPLETED\\n'",
            {0: "RUNNING", 2: "PENDING"},
            "",
        ),
        ("", {}, ""),
        ("printf '77 N/A PENDING\\nodd\\n\\n77 0-3 PENDING\\n'", {}, ""),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", {}, ""),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", {}, "squeue failed: Unable to contact"),
        ("exec sleep 30", {}, "did not answer"),
        ("printf '\\377\\376'", {}, ""),
    ],
)
def test_odd_answers_of_squeue(
    sweep: Sweep,
    bin_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    tasks: dict[int, str],
    unknown: str,
) -> None:
    assert ask_queue(sweep).tasks == {}, "nothing was submitted, so nobody is asked"
    monkeypatch.setattr(slurm, "SQUEUE_S", 0.5 if "sleep" in body else 60)
    (sweep.path / slurm.JOBS).write_text("77\nodd\n")
    play(bin_folder, "squeue", body)
    found = ask_queue(sweep)
    assert found.tasks == tasks
    assert unknown in found.unknown
    assert bool(found.unknown) == bool(unknown)
    assert "--jobs=77" in asked(bin_folder, "squeue")


def test_ranges() -> None:
    assert ranges([7, 0, 1, 2, 4]) == "0-2,4,7"
    assert tasks_in(["1 2 RUNNING", "x"], ["1"]) == {2: "RUNNING"}
