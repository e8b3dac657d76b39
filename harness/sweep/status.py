"""How the runs of a sweep stand, from their directories alone, and why some of them failed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.runs.holder import holder_of
from harness.sweep.folder import Sweep, Unit
from results.manifests import is_finished

Kind = Literal["finished", "running", "stopped", "failed", "waiting"]
KINDS: tuple[Kind, ...] = ("finished", "running", "stopped", "failed", "waiting")
HELD, ASKED = 3, (75, 130)
TAIL_LINES, TAIL_BYTES = 6, 4096


@dataclass(frozen=True)
class Failed:
    """Runs that failed of one cause, and the end of one of their logs."""

    cause: str
    units: tuple[Unit, ...]
    tail: tuple[str, ...]


def states_of(sweep: Sweep) -> list[Kind]:
    """Return how each run stands."""
    return [state_of(sweep, unit) for unit in sweep.units]


def state_of(sweep: Sweep, unit: Unit) -> Kind:
    """Say how a run stands.

    ``stopped`` was asked to stop and goes on where it was; so does a ``failed`` one when its cause is mended.
    """
    if is_finished(unit.run):
        return "finished"
    if holder_of(unit.run) is not None:
        return "running"
    code = code_of(sweep, unit)
    if code in (0, HELD):
        return "waiting"
    if code is not None:
        return "stopped" if code in ASKED else "failed"
    return left_by(unit.run)


def code_of(sweep: Sweep, unit: Unit) -> int | None:
    """Return the exit code that a run's last process left in the sweep's folder; None if there is none."""
    try:
        return int(sweep.code(unit).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def left_by(run: Path) -> Kind:
    """Say how a run stands whose last process left no exit code here: by its manifest."""
    try:
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        status, reason = manifest["status"], str(manifest.get("reason", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "waiting"
    asked = reason.startswith(("Stopped", "KeyboardInterrupt"))
    return "failed" if status == "stopped" and not asked else "stopped"


def count(states: Sequence[Kind]) -> str:
    """Say in one line how many runs stand how."""
    counted = Counter(states)
    shown = [f"{counted[kind]} {kind}" for kind in KINDS if counted[kind] or kind in ("finished", "failed")]
    return f"{len(states)} runs: {', '.join(shown)}"


def failures_of(sweep: Sweep) -> list[Failed]:
    """Group the runs that failed by what their logs end with, the commonest cause first."""
    groups: dict[str, list[Unit]] = {}
    for unit in sweep.units:
        if state_of(sweep, unit) == "failed":
            groups.setdefault(cause_of(sweep, unit), []).append(unit)
    found = [Failed(cause, tuple(units), tail_of(sweep, units[0])) for cause, units in groups.items()]
    return sorted(found, key=lambda group: -len(group.units))


def cause_of(sweep: Sweep, unit: Unit) -> str:
    """Return the last line that a run left, without the numbers and names in which runs differ, and its exit code."""
    tail = tail_of(sweep, unit)
    errors = [line for line in tail if line.startswith("error:")]
    line = (errors or list(tail) or ["it left no word"])[-1]
    line = re.sub(r"\b[0-9a-f]{12}\b", "ID", line)
    line = re.sub(r"\d+(\.\d+)?", "N", line)
    code = code_of(sweep, unit)
    return f"{line[:300]} (exit code {'unknown' if code is None else code})"


def tail_of(sweep: Sweep, unit: Unit) -> tuple[str, ...]:
    """Return the last lines of a run's log and of its batch job's output."""
    lines: list[str] = []
    for path in [*sorted(sweep.logs.glob(f"array-*_{unit.place}.out")), sweep.log(unit)]:
        try:
            with path.open("rb") as file:
                file.seek(max(path.stat().st_size - TAIL_BYTES, 0))
                text = file.read().decode(errors="replace")
        except OSError:
            continue
        lines += [line.rstrip() for line in text.splitlines() if line.strip()][-TAIL_LINES:]
    return tuple(lines[-TAIL_LINES:])
