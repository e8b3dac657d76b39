"""Every reader, given files of any content: it answers, or says what is wrong; no traceback, crash or hang.

``python -m tests.robustness.fuzz --minutes 5`` prints a line for each reader; inputs that go wrong stay in a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from harness.errors import LONGEST, format_error, printable, understood, user_errors

HANG_S, LIMIT_MIB = 2, 512
"""Seconds of the processor, and MiB above what there was before, that one input may take."""
ROUND = 200
"""Inputs of a reader before the next one has its turn."""


class Reader(NamedTuple):
    """Something that reads what others wrote.

    Attributes
    ----------
    drawn : strategy
        Of what `read` is given besides a folder of its own.
    read : callable
        Takes what was drawn and a scratch folder.
    slow : int
        How many times as long it takes as others: it is given so many fewer inputs.
    """

    name: str
    drawn: Any
    read: Callable[[Any, Path], object]
    slow: int = 1


class Trouble(NamedTuple):
    """What went wrong: where it was raised last in our own code, and as what."""

    reader: str
    what: str
    place: str
    given: str


class HangError(BaseException):
    """An input took too long; no reader may catch it."""


def too_long(*_: object) -> None:
    """Interrupt a reader."""
    raise HangError(f"more than {HANG_S} s")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Interrupt what takes more than :data:`HANG_S` seconds of the processor."""
    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(
        signal.ITIMER_VIRTUAL, HANG_S, HANG_S
    )  # again, if a callback or a finaliser swallows the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def peak_mib() -> float:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def our_place(error: BaseException) -> str:
    """Return the last line of our own code that an error came through."""
    here = str(Path(__file__).parents[2])
    found = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in found if frame.filename.startswith(here) and frame.name != too_long.__name__]
    if not frames:
        return "outside our code"
    last = frames[-1]
    return f"{Path(last.filename).relative_to(here)}:{last.lineno} {last.name}"


def trouble(reader: Reader, drawn: Any, folder: Path) -> Trouble | None:
    """Give a reader an input; return what went wrong, or None."""
    before = peak_mib()
    try:
        with watched(), warnings.catch_warnings(action="ignore"):
            reader.read(drawn, folder)
    except (Exception, HangError) as error:
        known = understood(error)
        if not isinstance(known, user_errors()):
            return Trouble(
                reader.name, f"{type(error).__name__}: {error}"[:200], our_place(error), repr(drawn)[:2000]
            )
        text, _ = format_error(known)
        if len(text) > 2 * LONGEST:
            return Trouble(
                reader.name, f"a message of {len(text)} characters", our_place(error), repr(drawn)[:2000]
            )
        printable(text).encode()
    if peak_mib() - before > LIMIT_MIB:
        return Trouble(reader.name, f"{peak_mib() - before:.0f} MiB", "", repr(drawn)[:2000])
    return None


def inputs(reader: Reader, seed: int, count: int, folder: Path) -> dict[tuple[str, str], Trouble]:
    """Give a reader so many inputs; return what went wrong, once for each place and type of error."""
    found: dict[tuple[str, str], Trouble] = {}

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.drawn)
    def each(drawn: Any) -> None:
        one = trouble(reader, drawn, folder)
        if one is not None:
            found.setdefault((one.place, one.what.partition(":")[0]), one)

    each()
    return found


class Count(NamedTuple):
    """What a reader was given in some rounds, and what went wrong."""

    inputs: int
    seconds: float
    troubles: dict[tuple[str, str], Trouble]


def compiled(score: Callable[[], object]) -> None:
    """Have the loops of scoring compiled in a process of its own; no input is to wait for it, or to interrupt it.

    Threads of compiled code would not live on in the processes that the readers get.
    """
    child = multiprocessing.get_context("fork").Process(target=score)
    child.start()
    child.join()


def in_child(reader: Reader, seed: int, count: int) -> dict[tuple[str, str], Trouble]:
    """Give a reader inputs in a process of its own, which may crash."""
    import pickle

    with tempfile.TemporaryDirectory(prefix="reidbench-fuzz-") as name:
        receive, send = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(receive)
            os.chdir(name)
            try:
                found = inputs(reader, seed, count, Path(name))
            except BaseException:  # a fault of these tests themselves
                said = traceback.format_exc()
                found = {(reader.name, said): Trouble(reader.name, said, "the tests themselves", "")}
            with os.fdopen(send, "wb") as file:
                pickle.dump(found, file)
            os._exit(0)
        os.close(send)
        with os.fdopen(receive, "rb") as file:
            content = file.read()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) or not content:
            kept = Path(tempfile.mkdtemp(prefix="reidbench-crash-"))
            for path in Path(name).iterdir():
                if path.is_file():
                    (kept / path.name).write_bytes(path.read_bytes())
            what = f"crash: status {status}"
            return {(reader.name, what): Trouble(reader.name, what, f"seed {seed}", str(kept))}
        return dict(pickle.loads(content))


def fuzz(readers: list[Reader], minutes: float, seed: int, least: int = 0) -> dict[str, Count]:
    """Give all readers inputs in turn until the time is up, at least one round each, and so many over all."""
    end, counts = time.monotonic() + 60 * minutes, {reader.name: Count(0, 0.0, {}) for reader in readers}
    while True:
        for reader in readers:
            start = time.monotonic()
            count = ROUND // reader.slow
            found = in_child(reader, seed, count)
            before = counts[reader.name]
            spent = before.seconds + time.monotonic() - start
            counts[reader.name] = Count(before.inputs + count, spent, {**found, **before.troubles})
            for one in found.keys() - before.troubles.keys():
                print(
                    f"\n{found[one].reader}: {found[one].what}\n  at {found[one].place}\n  given {found[one].given}",
                    flush=True,
                )
            print(f"\r{counts[reader.name].inputs} {reader.name:30}", end="", file=sys.stderr, flush=True)
            given = [count.inputs for count in counts.values()]
            if time.monotonic() > end and min(given) and sum(given) >= least:
                return counts
        seed += 1


def main() -> int:
    """Fuzz for some minutes; print a line for each reader and each thing that went wrong."""
    from tests.robustness.readers import readers, score_whole

    options = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz")
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument(
        "--inputs", type=int, default=0, help="go on until there were so many, over all readers"
    )
    options.add_argument("--only", default="", help="names of readers, separated by commas")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="reidbench-fuzz-") as name:
        chosen = [one for one in readers(Path(name)) if not given.only or one.name in given.only.split(",")]
        compiled(partial(score_whole, Path(name)))
        counts = fuzz(chosen, given.minutes, given.seed, given.inputs)
    for reader, count in counts.items():
        print(f"{reader:28} {count.inputs:8} inputs {count.seconds:7.0f} s {len(count.troubles)} go wrong")
    total, wrong = (sum(n) for n in zip(*((c.inputs, len(c.troubles)) for c in counts.values()), strict=True))
    print(f"\n{total} inputs, first seed {given.seed}: {wrong} go wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
