"""Runs killed at random moments and resumed end in the bytes of an undisturbed run.

``python -m tests.robustness.soak --runs 50`` kills runs of dmic and of a baseline by signals, at random times and when
files of theirs appear, goes on with them, and prints one line.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.cli.app import main as reidbench
from harness.tools.verify import COMPARED
from results.checksums import changed_files
from tests.conftest import tiny_settings

STEPS = ("iterations=2", "labels_per_batch=3", "instances=2", "min_samples=2")
METHODS = {
    "dmic": tiny_settings(
        *("epochs_intra=2", "epochs_joint=2", "k1=8", "k2_start=2", "k2_end=3", "joint_k2=4"),
        *("eps=0.55", "eps_low=0.5", "turning_epoch=1", *STEPS),
    ),
    "cluster-contrast": tiny_settings("epochs=3", "k1=6", "k2=2", "eps=0.6", *STEPS),
}
FILES = (
    "manifest.json",
    ".last.ckpt.*",
    "last.ckpt",
    "history.csv",
    "ranks.npz",
    ".metrics.csv.*",
    "metrics.csv",
)
"""Files at whose appearance a run is killed; a point comes before those that are being written."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS = 2
"""The most times that one run is killed."""
LIMIT_S = 600


class Moment(NamedTuple):
    """When a process is killed: after a part of the time of a whole run, or as a file appears; and by what."""

    part: float
    file: str
    by: signal.Signals


def start(method: str, out: Path) -> int:
    """Start a run in a process of its own; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(out.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        arguments = [
            "run",
            method,
            "--protocol",
            "regdb",
            "--trials",
            "1",
            "--data",
            "twin",
            "--device",
            "cpu",
        ]
        reidbench([*arguments, "--out", str(out), *METHODS[method]])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except KeyboardInterrupt:
        code = 130
    finally:
        sys.stdout.flush()
        os._exit(code)
    return 0


def ended(pid: int) -> int | None:
    """Return the exit code of a process (negative: the signal that ended it), None while it works."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def finish(pid: int) -> int:
    """Wait for a process; return how it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(pid: int, moment: Moment, whole_s: float, out: Path) -> int:
    """Kill a process at a moment, unless it ends before; return how it ended."""
    begun, known = time.monotonic(), ages(out, moment.file)
    while time.monotonic() - begun < LIMIT_S:
        if (code := ended(pid)) is not None:
            return code
        late = time.monotonic() - begun > moment.part * whole_s
        if late if not moment.file else ages(out, moment.file) - known:
            break
        time.sleep(0.0005)
    os.kill(pid, moment.by)
    return finish(pid)


def ages(out: Path, file: str) -> set[tuple[str, int]]:
    """Return the files of a name below a folder, and when each was written."""
    found = set()
    for path in out.glob(f"*/*/*/{file}") if file else ():
        try:
            found.add((path.name, path.stat().st_mtime_ns))
        except OSError:
            continue
    if file.endswith(("ckpt", "ckpt.*")):
        for path in out.glob(f"*/*/*/checkpoints/{file}"):
            try:
                found.add((path.name, path.stat().st_mtime_ns))
            except OSError:
                continue
    return found


def moment_of(dice: random.Random) -> Moment:
    """Draw a moment."""
    file = dice.choice(FILES) if dice.random() < 0.5 else ""
    return Moment(dice.random(), file, dice.choice(SIGNALS))


def bytes_of(out: Path) -> dict[str, bytes]:
    """Return the files that equal runs have in common."""
    (manifest,) = out.glob("*/*/*/manifest.json")
    return {name: (manifest.parent / name).read_bytes() for name in COMPARED}


def faults(out: Path, whole: Mapping[str, bytes]) -> list[str]:
    """Say in what a finished run is not as an undisturbed one."""
    (manifest,) = out.glob("*/*/*/manifest.json")
    run, found = manifest.parent, bytes_of(out)
    wrong = [f"{name} differs" for name in COMPARED if found[name] != whole[name]]
    wrong += changed_files(run)
    wrong += [f"left behind: {path.name}" for path in run.rglob(".*")]
    return wrong


def soak_one(
    method: str, seed: int, whole: Mapping[str, bytes], whole_s: float, folder: Path
) -> tuple[list[str], int]:
    """Kill a run and go on with it; return what is wrong at its end, and how often it was killed."""
    dice, out, killed = random.Random(seed), folder / f"{method}-{seed}", 0
    for _ in range(dice.randint(1, KILLS)):
        moment = moment_of(dice)
        code = kill_at(start(method, out), moment, whole_s, out)
        expected = {signal.SIGTERM: 75, signal.SIGINT: 130}.get(moment.by, -moment.by)
        if code == 0:  # it was faster
            break
        killed += 1
        if code != expected and code != -moment.by:  # before its handlers are there, the system ends it
            return [f"exit {code} after {moment}"], killed
    if (code := finish(start(method, out))) != 0:
        return [f"does not go on: exit {code}: {out.with_suffix('.txt').read_text()[-300:]}"], killed
    return faults(out, whole), killed


def soak(
    runs: int, seed: int, methods: Sequence[str] = tuple(METHODS)
) -> tuple[int, Counter[str], list[str]]:
    """Kill and resume so many runs; return how often they were killed, the runs by method, and what went wrong."""
    counts, wrong, killed = Counter[str](), list[str](), 0
    with tempfile.TemporaryDirectory(prefix="reidbench-soak-") as name:
        folder = Path(name)
        os.chdir(folder)
        reidbench_data()
        whole, seconds = dict[str, dict[str, bytes]](), dict[str, float]()
        for method in methods:
            begun = time.monotonic()
            code = finish(start(method, folder / method))
            assert code == 0, (folder / f"{method}.txt").read_text()
            whole[method], seconds[method] = bytes_of(folder / method), time.monotonic() - begun
        for number in range(runs):
            method = methods[number % len(methods)]
            found, times = soak_one(method, seed + number, whole[method], seconds[method], folder)
            counts[method] += 1
            killed += times
            wrong += [f"{method}, seed {seed + number}: {one}" for one in found]
    return killed, counts, wrong


def reidbench_data() -> None:
    """Make the data of all runs."""
    try:
        words = [
            "data",
            "synth",
            "twin",
            "--like",
            "regdb",
            "--identities",
            "12",
            "--images",
            "4",
            "--seed",
            "3",
        ]
        reidbench([*words, "--difficulty", "easy"])
    except SystemExit as end:
        if end.code:
            raise


def main() -> int:
    """Soak, and print one line, and one for each thing that went wrong."""
    options = argparse.ArgumentParser(prog="python -m tests.robustness.soak")
    options.add_argument("--runs", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    begun, back = time.monotonic(), Path.cwd()
    killed, counts, wrong = soak(given.runs, given.seed)
    os.chdir(back)
    for line in wrong:
        print(line)
    which = ", ".join(f"{count} of {method}" for method, count in counts.items())
    bad = len({line.partition(":")[0] for line in wrong})
    print(
        f"{given.runs} runs ({which}) killed {killed} times, {time.monotonic() - begun:.0f} s: "
        f"{given.runs - bad} end in the bytes of an undisturbed run, {bad} do not"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
