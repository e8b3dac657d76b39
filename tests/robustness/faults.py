"""Every write of a run and of a cache, failed once: what a person sees, what is lost, and whether it goes on.

``python -m tests.robustness.faults`` prints the table of ``docs/robustness.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console

from harness.cli.app import main
from harness.errors import format_error
from harness.runs.configuration import EngineConfig
from harness.training import weights
from harness.training.progress import Reporter
from results.bundles import write_bundle
from results.checksums import COMPLETE
from results.files import append_line
from tests.conftest import tiny_settings
from tests.results.cases import write_scored_run
from tests.robustness.disk import Call, Fault, lying

RUN = tiny_settings(
    *("epochs=2", "iterations=1", "k1=6", "k2=2", "eps=0.6"),
    *("min_samples=2", "labels_per_batch=3", "instances=2"),
)
TIMES = ("manifest.json", "holder.json", "profile.csv", "log.txt", COMPLETE)
"""Files of a run with times in them, or with digests of such."""
ERROR_OF = {"open": "EIO", "write": "ENOSPC", "fsync": "EIO", "replace": "EIO"}
CACHE_ERROR_OF = {**ERROR_OF, "write": "EDQUOT"}
"""What each function fails with; a cache may have a quota of its own, while the rest of the run goes on."""


class Said(NamedTuple):
    """How a command ended, and what it wrote to standard error."""

    code: int
    text: str


class Operation(NamedTuple):
    """Something that writes files.

    Attributes
    ----------
    prepare : callable
        Puts into a folder what is needed; the current directory is that folder.
    perform : callable
        Does it there.
    stays : callable
        What is there of it afterwards, by name: equal whenever it ends well.
    cache : bool
        Whether a write that fails is only warned of.
    many : bool
        Whether it writes many files of a kind, of which the first and the last are tried.
    """

    name: str
    prepare: Callable[[], None]
    perform: Callable[[], Said]
    stays: Callable[[], Mapping[str, bytes]]
    cache: bool = False
    many: bool = False


class Outcome(NamedTuple):
    """What came of one fault; `wrong` says what should not have happened."""

    operation: str
    fault: Fault
    saw: str
    lost: str
    wrong: tuple[str, ...]


def command(*arguments: object) -> Said:
    """Run the command in this process; a traceback is what it should never be."""
    said, code = io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:
            return Said(1, f"{said.getvalue()}Traceback: {type(error).__name__}: {error}")
    return Said(code, said.getvalue())


def below(folder: Path, names: str = "*") -> dict[str, bytes]:
    """Return the files at or below a folder."""
    found = sorted(folder.rglob(names)) if folder.is_dir() else []
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.is_file()}


def run_files() -> dict[str, bytes]:
    """Return the files of a run that say nothing of times."""
    return {
        name: content
        for name, content in below(Path("runs")).items()
        if Path(name).name not in TIMES and not name.endswith(".lock")
    }


def failed(error: OSError) -> Said:
    """Say what the command says of an error."""
    text, code = format_error(error)
    return Said(code, f"error: {text}\n")


def source() -> Said:
    """Make source weights without their training."""
    known, said = (weights.train_source, weights.weights_identity), io.StringIO()
    weights.train_source = lambda *_: {"conv1.weight": torch.arange(12.0)}
    weights.weights_identity = lambda _: "synthetic-source 0123456789abcdef"
    config = EngineConfig(architecture="resnet18", height=32, width=16, weights="synthetic-source")
    try:
        weights.synthetic_source(config, Reporter(Console(file=said)))
    except OSError as error:
        return failed(error)
    finally:
        weights.train_source, weights.weights_identity = known
    return Said(0, said.getvalue())


def twin() -> None:
    """Make the data of a run."""
    assert command("data", "synth", "twin", "--like", "regdb", "--identities", 12, "--images", 4)[0] == 0


def distances() -> None:
    """Write a result to score."""
    ids = np.arange(6)
    far = np.ones((6, 6)) - np.eye(6)
    np.savez("r.npz", distance=far, query_ids=ids, gallery_ids=ids)


def nothing() -> None:
    """Need nothing."""


def log() -> Said:
    """Write two lines of a log."""
    Path("log.txt").unlink(missing_ok=True)
    try:
        append_line(Path("log.txt"), "one")
        append_line(Path("log.txt"), "two")
    except OSError as error:
        return failed(error)
    return Said(0, "")


def data_files(*folders: str) -> Callable[[], dict[str, bytes]]:
    """Return a function that returns all files of some folders but for lock files."""
    return lambda: {
        f"{folder}/{name}": content
        for folder in folders
        for name, content in below(Path(folder)).items()
        if not name.endswith(".lock")
    }


def tiny_run(*more: object) -> Said:
    """Train a run of two epochs."""
    return command(
        *("run", "cluster-contrast", "--protocol", "regdb", "--trials", 1, "--data", "twin"),
        *("--device", "cpu", *RUN, *more),
    )


def untrained() -> Said:
    """Score a network as it is."""
    return command(
        *("run", "source-only", "--protocol", "regdb", "--trials", 1, "--data", "twin", "--device", "cpu"),
        *tiny_settings(),
    )


def scored() -> Said:
    return command("score", "r.npz", "--protocol", "regdb", "--out", "scores.csv")


def synthesised() -> Said:
    return command("data", "synth", "made", "--like", "regdb", "--identities", 4, "--images", 1)


def exported() -> Said:
    return command("data", "export", "--protocol", "regdb", "--data", "twin", "--out", "lists")


def finished() -> None:
    """Make up a finished run."""
    write_scored_run(Path("runs"), "dmic", identities=4, each=2)


def bundled() -> Said:
    """Write a bundle."""
    (manifest,) = Path("runs").glob("*/*/*/manifest.json")
    try:
        write_bundle({"dmic-0-1": manifest.parent}, Path("b.zip"))
    except OSError as error:
        return failed(error)
    return Said(0, "")


def given(name: str, *arguments: object) -> Callable[[], Said]:
    return lambda: command(name, *arguments)


OPERATIONS = {
    one.name: one
    for one in (
        Operation("log", nothing, log, data_files(".")),
        Operation("score", distances, scored, data_files(".")),
        Operation("twin", nothing, synthesised, data_files("made"), many=True),
        Operation("lists", twin, exported, data_files("lists"), many=True),
        Operation("source weights", nothing, source, data_files("data/weights")),
        Operation("bundle", finished, bundled, lambda: below(Path(), "b.zip")),
        Operation(
            "report", finished, given("report", "runs", "--out", "r.html"), lambda: below(Path(), "r.html")
        ),
        Operation("caches", twin, untrained, run_files, cache=True),
        Operation("run", twin, tiny_run, run_files),
    )
}
CACHES = ("index.npz", "images.npy", "fingerprint", "compiled")
SILENT = ("compiled",)
"""Without the mark that kernels are compiled, a process looks itself whether they are: there is nothing to say."""


def is_cache(call: Call) -> bool:
    """Say whether a file is one that a run can do without: decoded images, a fingerprint, the mark of kernels."""
    return call.name in CACHES


def belongs(operation: Operation, call: Call) -> bool:
    """Say whether a call is one of an operation's own; a run's caches are tried by the operation `caches`."""
    return operation.name not in ("caches", "run") or is_cache(call) == operation.cache


@contextlib.contextmanager
def folder_of(parts: Path | None = None) -> Iterator[Path]:
    """Work in a scratch folder, a copy of another if one is given."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="reidbench-faults-") as name:
        if parts is not None:
            shutil.copytree(parts, name, dirs_exist_ok=True)
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def chosen(operation: Operation, calls: Iterable[Call]) -> Iterable[Call]:
    """Return the calls to fail: the last one of each function on each file, or on the first and last of each kind."""
    # how many lines a log has, depends on whether kernels had to be compiled
    tried = (
        call for call in calls if belongs(operation, call) and (call.name != "log.txt" or call.count <= 2)
    )
    own = list({(call.operation, call.name): call for call in tried}.values())
    if not operation.many:
        return own
    ends: dict[str, list[str]] = {}
    for name in dict.fromkeys(call.name for call in own):
        ends.setdefault(Path(name).suffix, []).append(name)
    names = {name for found in ends.values() for name in (found[0], found[-1])}
    return [call for call in own if call.name in names]


class Tried(NamedTuple):
    """An operation without a fault: what it needs, its calls, what it left, and what it said."""

    folder: Path
    calls: tuple[Call, ...]
    left: Mapping[str, bytes]
    said: Said


@contextlib.contextmanager
def undisturbed(operation: Operation) -> Iterator[Tried]:
    """Perform an operation without a fault, and keep what it needs for trials with one."""
    with folder_of() as needs:
        operation.prepare()
        with folder_of(needs), lying() as disk:
            said = operation.perform()
            assert said.code == 0, said.text
            calls = tuple(chosen(operation, disk.calls))
            tried = Tried(needs, calls, operation.stays(), said)
        yield tried


def attempt(operation: Operation, tried: Tried, fault: Fault) -> Outcome:
    """Perform an operation with a fault and then without; say what came of it."""
    wrong: list[str] = []
    with folder_of(tried.folder) as folder:
        with lying(fault) as disk:
            first = operation.perform()
        if not disk.met:
            wrong.append("the fault was not met")
        wrong += complaints(operation, fault, first)
        wrong += leftovers(folder)
        if first.code == 0 and operation.stays() != tried.left:
            wrong.append("ended well with other files")
        again = operation.perform() if first.code else first
        if again.code != 0:
            wrong.append(f"does not go on: exit {again.code}: {again.text[-200:]}")
        elif operation.stays() != tried.left:
            wrong.append("other files after going on")
        both = first.text + again.text if first.code else first.text
        repeated = epochs(both) - epochs(tried.said.text)
        wrong += leftovers(folder)
    lost = f"{repeated} finished epochs" if repeated > 0 else "nothing"
    return Outcome(operation.name, fault, seen(first), lost, tuple(wrong))


def epochs(text: str) -> int:
    """Count the epochs that a run said it had finished."""
    return len(re.findall(r"^epoch \d", text, re.MULTILINE))


def complaints(operation: Operation, fault: Fault, said: Said) -> Iterator[str]:
    """Yield what is wrong with how a command ended at a fault."""
    if "Traceback" in said.text:
        yield f"traceback: {said.text[-200:]}"
    if fault.error == "short":
        if said.code != 0:
            yield f"half a write ends it: exit {said.code}"
        return
    if operation.cache:
        if said.code != 0 or ("warning: " not in said.text and fault.call.name not in SILENT):
            yield f"a cache that cannot be written ends in exit {said.code}"
        return
    if said.code != 2:
        yield f"exit {said.code} instead of 2"
    line = seen(said)
    if fault.call.name not in line:
        yield f"the message does not name {fault.call.name}: {line}"
    if not re.search(r"free some|look after it|choose", line):
        yield f"the message names no cure: {line}"


def leftovers(folder: Path) -> Iterator[str]:
    """Yield temporary files that were left behind, and JSON that is cut short."""
    for path in folder.rglob("*"):
        if re.fullmatch(r"\..+\.(\d+-[0-9a-f]{8}|[a-z0-9_]{8})", path.name):
            yield f"left behind: {path.name}"
        if path.suffix == ".json" and path.is_file():
            try:
                json.loads(path.read_bytes())
            except ValueError:
                yield f"half a file: {path.name}"


def seen(said: Said) -> str:
    """Return the line that a person looks at: the error, or else the first warning."""
    for start in ("error: ", "warning: "):
        for line in said.text.splitlines():
            if line.startswith(start):
                return line
    return "nothing: it ended well" if said.code == 0 else said.text[-100:]


def faults(calls: Iterable[Call], errors: Mapping[str, str] = ERROR_OF) -> Iterator[Fault]:
    """Yield a fault for each call, and a short write for each that writes."""
    for call in calls:
        yield Fault(call, errors[call.operation])
        if call.operation == "write":
            yield Fault(call, "short")


def short(text: str) -> str:
    """Return a message without the places that differ from machine to machine."""
    text = re.sub(r"(data/(?:images|fingerprints|weights)/)[\w.-]+", r"\1...", text)
    text = re.sub(r"runs/regdb/[\w-]+/[0-9a-f]{12}", "RUN", text)
    return text.replace("|", "\\|")


def table(names: Iterable[str], only: str = "") -> int:
    """Print a line for every fault that a pattern names; return how many went wrong."""
    bad = 0
    for name in names:
        operation = OPERATIONS[name]
        with undisturbed(operation) as tried:
            for fault in faults(tried.calls, CACHE_ERROR_OF if operation.cache else ERROR_OF):
                if not re.search(only, f"{fault.call.operation} {fault.call.name} {fault.error}"):
                    continue
                one = attempt(operation, tried, fault)
                bad += bool(one.wrong)
                call = fault.call
                what = f"{call.operation} {call.count} of `{call.name}`"
                verdict = f" **{'; '.join(one.wrong)}**" if one.wrong else ""
                print(
                    f"| {name} | {what} | {fault.error} | {short(one.saw)}{verdict} | {one.lost} |",
                    flush=True,
                )
    return bad


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m tests.robustness.faults")
    options.add_argument("names", nargs="*", default=list(OPERATIONS), help=", ".join(OPERATIONS))
    options.add_argument("--only", default="", help="pattern of calls: 'replace COMPLETE', 'ENOSPC'")
    asked = options.parse_args()
    sys.exit(table(asked.names, asked.only) > 0)
