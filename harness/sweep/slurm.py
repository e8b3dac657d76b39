"""A sweep as a Slurm array job that needs no process to stay alive: its script, and what the queue says of it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.files import write_atomic
from harness.sweep.folder import Sweep
from results.files import append_line

SCRIPT, JOBS = "array.sh", "jobs.txt"
SQUEUE_S, SBATCH_S = 20, 60
"""Seconds after which an answer of Slurm is not waited for any more; squeue hangs while slurmctld is down."""
NUMBER = re.compile("[0-9]+")


@dataclass(frozen=True)
class Array:
    """How an array job is asked for.

    Attributes
    ----------
    parallel : int
        Runs at a time.
    headers : tuple of str
        Lines ``#SBATCH ...`` of the user's, after ours, so that they win.
    gres : str
        What each run gets; empty: nothing is asked for.
    lead : int
        Seconds before the time limit at which a run is asked to stop.
    """

    parallel: int
    headers: tuple[str, ...] = ()
    gres: str = "gpu:1"
    lead: int = 120

    def __post_init__(self) -> None:
        for line in self.headers:
            if not line.startswith("#SBATCH ") or not line.isprintable():
                raise HarnessError(
                    f"--header {line[:60]!a}: expected a line such as '#SBATCH --partition=gpu'"
                )


@dataclass(frozen=True)
class Queue:
    """What Slurm says of a sweep's jobs: array tasks by their state, or why nothing is known."""

    tasks: dict[int, str]
    unknown: str = ""


def write_script(sweep: Sweep, array: Array) -> Path:
    """Write the array script of a sweep."""
    path = sweep.path / SCRIPT
    write_atomic(path, script(sweep, array).encode())
    return path


def script(sweep: Sweep, array: Array) -> str:
    """Return the array script: each task runs one line of ``specs.txt``."""
    quoted = shlex.quote
    s = sweep.settings
    options = shlex.join(
        ["--out", s.out, "--images", s.images, "--device", s.device, "--workers", str(s.workers)]
    )
    headers = [
        f"--job-name=reidbench-{sweep.path.name}",
        f"--array=0-{len(sweep.units) - 1}%{array.parallel}",
        *([f"--gres={array.gres}"] if array.gres else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR2@{array.lead}",
        f"--output={sweep.logs}/array-%A_%a.out",
    ]
    lines = [f"#SBATCH {header}" for header in headers]
    return TEMPLATE.format(
        headers="\n".join([*lines, *array.headers]),
        cwd=quoted(s.cwd),
        specs=quoted(str(sweep.path / "specs.txt")),
        logs=quoted(str(sweep.logs)),
        python=quoted(sys.executable),
        options=options,
    )


TEMPLATE = """\
#!/bin/bash
{headers}

# One run a task: the line of specs.txt that the task's number says. A run that is asked to stop ends its iteration,
# keeps its last whole epoch, and exits with code 75. Ahead of the time limit Slurm sends USR2 to this script alone,
# which has the run stop and then queues its own task again; at a preemption, Slurm queues it by itself.

cd {cwd} || exit 2
spec=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {specs})
name=$(basename "$spec" .json)
log={logs}/$name.log
code={logs}/$name.code
rm -f "$code"

limit=
trap 'limit=1; kill -USR2 "$run" 2>/dev/null' USR2
trap 'kill -TERM "$run" 2>/dev/null' TERM

{python} -m harness run --from "$spec" {options} >>"$log" 2>&1 &
run=$!
# a signal ends `wait` early; the run is over when its process is gone
while :; do
    wait "$run"
    status=$?
    kill -0 "$run" 2>/dev/null || break
done
wait "$run" 2>/dev/null
again=$?
[ "$again" -ne 127 ] && status=$again

echo "$status" >"$code"
echo "$(date '+%F %T') task $SLURM_ARRAY_TASK_ID on $(hostname): run $name ended with exit code $status"
if [ -n "$limit" ] && [ "$status" -eq 75 ]; then
    echo "the time limit is near: the task is queued again"
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"""


def submit(sweep: Sweep, places: Collection[int] | None = None, parallel: int | None = None) -> str:
    """Submit the array script of a sweep, all of it or some tasks; return the job's number, kept in ``jobs.txt``.

    Raises
    ------
    HarnessError
        If there is no sbatch, it refuses, does not answer, or answers with no number.
    """
    path = sweep.path / SCRIPT
    if not path.is_file():
        raise HarnessError(f"{sweep.path} has no {SCRIPT}; `reidbench sweep slurm PLAN` writes it")
    if not shutil.which("sbatch"):
        raise HarnessError(f"there is no sbatch here; submit {path} where Slurm is")
    chosen = [] if places is None else [f"--array={ranges(places)}{f'%{parallel}' if parallel else ''}"]
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", *chosen, str(path)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SBATCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(
            f"sbatch did not answer within {SBATCH_S} s; look with squeue whether the job is there before you try again"
        ) from error
    if done.returncode:
        raise HarnessError(
            f"sbatch refused {path}: {done.stderr.strip() or done.stdout.strip() or 'no reason given'}"
        )
    number = done.stdout.strip().splitlines()[-1].partition(";")[0] if done.stdout.strip() else ""
    if not NUMBER.fullmatch(number):
        raise HarnessError(
            f"sbatch answered {done.stdout[:200]!a}, which is no job number; look with squeue what is there"
        )
    append_line(sweep.path / JOBS, number)
    return number


def ranges(places: Collection[int]) -> str:
    """Write numbers as Slurm's array indices: ``0-3,7``."""
    parts: list[list[int]] = []
    for place in sorted(places):
        if parts and place == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], place]
        else:
            parts.append([place])
    return ",".join("-".join(map(str, part)) for part in parts)


def jobs_of(sweep: Sweep) -> list[str]:
    """Return the numbers of the array jobs that were submitted for a sweep."""
    try:
        lines = (sweep.path / JOBS).read_text(encoding="utf-8").split()
    except OSError:
        return []
    return [line for line in lines if NUMBER.fullmatch(line)]


def ask_queue(sweep: Sweep) -> Queue:
    """Ask squeue for the tasks of a sweep that wait or run; never sacct, which many clusters do not have."""
    jobs = jobs_of(sweep)
    if not jobs:
        return Queue({})
    if not shutil.which("squeue"):
        return Queue({}, "there is no squeue here")
    words = [
        "squeue",
        "--noheader",
        "--array",
        "--format=%F %K %T",
        "--states=all",
        f"--jobs={','.join(jobs)}",
    ]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=SQUEUE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Queue({}, f"squeue did not answer within {SQUEUE_S} s")
    except OSError as error:
        return Queue({}, f"squeue cannot be run: {error.strerror}")
    if done.returncode and "Invalid job id" not in done.stderr:  # jobs that ended long ago are forgotten
        return Queue({}, f"squeue failed: {done.stderr.strip()[:200] or f'exit code {done.returncode}'}")
    return Queue(tasks_in(done.stdout.splitlines(), jobs))


ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


def tasks_in(lines: Sequence[str], jobs: Collection[str]) -> dict[int, str]:
    """Read squeue's lines ``JOB TASK STATE``; those of other forms, and of tasks that ended, are left out."""
    found: dict[int, str] = {}
    for line in lines:
        parts = line.split()
        if len(parts) == 3 and parts[0] in jobs and NUMBER.fullmatch(parts[1]) and parts[2] not in ENDED:
            found[int(parts[1])] = parts[2]
    return found
