"""What ``reidbench sweep run`` does: the runs that have not finished, side by side, with a word on each that ends."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import code_of_many
from harness.sweep.engines import Engine, run_units
from harness.sweep.folder import Sweep, Unit
from harness.sweep.status import count, failures_of, states_of

if TYPE_CHECKING:
    from harness.runs.data import Say

MEANING = {
    0: "finished",
    1: "failed",
    2: "failed",
    3: "is held by another process",
    75: "was stopped",
    130: "interrupted",
}
"""Of exit codes."""


def drive(sweep: Sweep, engine: Engine, say: Say) -> int:
    """Run what has not finished of a sweep; return the exit code for all of it.

    Raises
    ------
    HarnessError
        If there is no engine to do it with.
    """
    states = states_of(sweep)
    say(f"{count(states)}; specifications and logs: {sweep.path}")
    left = [unit for unit, state in zip(sweep.units, states, strict=True) if state != "finished"]
    if not left:
        return 0
    begun, ends = time.monotonic(), Counter[int]()

    def tell(unit: Unit, code: int) -> None:
        ends[code] += 1
        minutes = (time.monotonic() - begun) / 60
        how = MEANING.get(code, f"ended with exit code {code}")
        where = "" if code == 0 else f"; its log: {sweep.log(unit)}"
        say(f"[{sum(ends.values())}/{len(left)}] {minutes:.0f} min: {unit} {how}{where}")
        if code:
            say(count(states_of(sweep)))

    codes = run_units(sweep, left, engine, tell)
    say(count(states_of(sweep)))
    tell_failures(sweep, say)
    return code_of_many(codes.values())


def tell_failures(sweep: Sweep, say: Say) -> int:
    """Say why runs failed, by cause, with the end of a log of each; return how many did."""
    groups = failures_of(sweep)
    for group in groups:
        say(f"{len(group.units)} failed: {group.cause}")
        for unit in group.units[:3]:
            say(f"  {unit}; its log: {sweep.log(unit)}")
        if len(group.units) > 3:
            say(f"  and {len(group.units) - 3} more")
        for line in group.tail:
            say(f"    | {line}")
    return sum(len(group.units) for group in groups)


def finished_runs(sweep: Sweep) -> list[Path]:
    """Return the directories of the runs that have finished."""
    return [
        unit.run for unit, state in zip(sweep.units, states_of(sweep), strict=True) if state == "finished"
    ]
