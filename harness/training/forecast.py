"""How long a run, and the whole request that it belongs to, will take still: from epochs that were measured."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands that read runs show progress too, and need no torch
    from methods.base import Epoch

LATEST = 5
"""Epochs of a stage whose mean says what the next one takes."""


@dataclass(frozen=True)
class Work:
    """The epochs of a run in their order.

    Attributes
    ----------
    run, method : str
        Its id, and its method: runs of one method take as long as each other.
    epochs : tuple of (stage, iterations)
    """

    run: str
    method: str
    epochs: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, run: str, method: str, epochs: Iterable[Epoch]) -> Work:
        """Return the work of epochs."""
        return cls(run, method, tuple((epoch.stage.name, epoch.stage.iterations) for epoch in epochs))


@dataclass
class Forecast:
    """Seconds that are left, by the epochs that this process has measured.

    Attributes
    ----------
    works : list of Work
        Runs that are not finished, in their order.
    done : mapping of run to int
        Epochs that need not be trained any more.
    """

    works: list[Work]
    done: dict[str, int] = field(default_factory=dict)
    measured: dict[tuple[str, str], deque[float]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=LATEST))
    )
    spent: dict[str, tuple[float, int]] = field(default_factory=dict)

    def expect(self, work: Work) -> None:
        """Count a run in, unless it is."""
        if all(one.run != work.run for one in self.works):
            self.works.append(work)

    def finish(self, run: str) -> None:
        """Take a run out that needs no more time, however it ended."""
        self.works = [work for work in self.works if work.run != run]

    def add(self, run: str, number: int, seconds: float) -> None:
        """Take in that epoch `number` of a run took so long."""
        self.done[run] = number + 1
        for work in self.works:
            if work.run == run and number < len(work.epochs):
                stage, iterations = work.epochs[number]
                self.measured[work.method, stage].append(seconds)
                whole, units = self.spent.get(work.method, (0.0, 0))
                self.spent[work.method] = whole + seconds, units + iterations + 1

    def left(self, run: str) -> float | None:
        """Return the seconds from the epoch in progress to the end of a run; None if nothing is known yet."""
        return self._sum([work for work in self.works if work.run == run])

    def left_of_all(self) -> float | None:
        """Return the seconds of all runs that are not finished; None if something of them is not known."""
        return self._sum(self.works)

    def _sum(self, works: Sequence[Work]) -> float | None:
        parts = [
            self._seconds(work.method, stage, iterations)
            for work in works
            for stage, iterations in work.epochs[self.done.get(work.run, 0) :]
        ]
        known = [part for part in parts if part is not None]
        return sum(known) if works and len(known) == len(parts) else None

    def _seconds(self, method: str, stage: str, iterations: int) -> float | None:
        """Return what an epoch takes: as the stage's latest, else by iterations, of that method or of any."""
        if latest := self.measured.get((method, stage)):
            return sum(latest) / len(latest)
        spent = [self.spent[method]] if method in self.spent else list(self.spent.values())
        units = sum(count for _, count in spent)
        return (iterations + 1) * sum(whole for whole, _ in spent) / units if units else None


def duration(seconds: float | None) -> str:
    """Return ``0:07``, ``12:40``, ``3 h 05``, ``2 d 4 h``, or ``?`` for what is not known."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
