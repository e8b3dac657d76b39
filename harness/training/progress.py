"""What a person sees while a run works: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from harness.errors import HarnessError, printable
from harness.training.forecast import Forecast, duration
from harness.training.lines import Standing, by_priority, joined, losses_by_priority, with_bar
from results.files import append_line

T = TypeVar("T")
SHORT_S = 2.0
"""What has been at work for less does not yet say how long it will take."""


def log_line(path: Path, text: str) -> None:
    """Write a line at the end of a log.

    Raises
    ------
    HarnessError
        If the log is a link: what it leads to may be anybody's file.
    """
    if path.is_symlink():
        raise HarnessError(f"{path} is a link, and a log is no place to follow one; delete it")
    append_line(path, text)


@dataclass
class Bar:
    """One thing that is counted: batches, images, trials."""

    what: str
    total: int
    began: float
    done: int = 0
    live: Sequence[str] = ()

    def parts(self) -> tuple[str, ...]:
        """Return what must be seen of it."""
        spent = time.monotonic() - self.began
        left = spent * (self.total - self.done) / self.done if self.done and spent >= SHORT_S else None
        return (f"{self.what} {self.done} of {self.total}", *([f"{duration(left)} left"] if left else []))


@dataclass
class Screen:
    """The live lines: the run, then whatever is counted at the moment."""

    standing: Standing | None = None
    began: float = 0.0
    recent: Sequence[str] = ()
    bars: tuple[Bar, ...] = ()

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw for the width that the terminal has now."""
        width = options.max_width
        if self.standing is not None:
            yield self._run_line(self.standing, width)
        for bar in self.bars[-1:]:
            yield drawn(*with_bar(bar.parts(), bar.done / max(bar.total, 1), bar.live, width))

    def _run_line(self, standing: Standing, width: int) -> Text:
        spent = max(time.monotonic() - self.began, 0.0)
        now = replace(
            standing,
            left=None if standing.left is None else max(standing.left - spent, 0.0),
            left_of_all=None if standing.left_of_all is None else max(standing.left_of_all - spent, 0.0),
        )
        share = (standing.number - 1) / max(standing.epochs, 1)
        fixed = now.words() if len(joined(now.words(), None)) <= width else now.short_words()
        return drawn(*with_bar(fixed, share, self.recent, width))


def drawn(text: str, bar: int, filled: int) -> Text:
    """Return a line of a bar and text."""
    line = Text(no_wrap=True, overflow="crop", end="\n")
    if bar:
        line.append("━" * filled, "green").append("─" * (bar - filled), "bright_black").append("  ")
    return line.append(text)


class Reporter:
    """Shows progress and keeps the log of a run.

    Parameters
    ----------
    console : Console
        Bars are drawn only if it is a terminal.
    log : Path, optional
        File that gets every line.
    forecast : Forecast, optional
        The runs of the whole request; without one, no time left is known.
    """

    def __init__(self, console: Console, log: Path | None = None, forecast: Forecast | None = None) -> None:
        self.console = console
        self.forecast = forecast or Forecast([])
        self.place = (1, 1)
        self._log = log
        self._screen = Screen()
        self._live = False

    def with_log(self, log: Path) -> Reporter:
        """Return a reporter on the same console that also writes to `log`."""
        reporter = type(self)(self.console, log, self.forecast)
        reporter.place = self.place
        return reporter

    def line(self, text: str) -> None:
        """Print one line, and log it."""
        self._print(printable(text))
        self._keep(text)

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _keep(self, text: str) -> None:
        if self._log is not None:
            log_line(self._log, printable(text))

    @contextmanager
    def bars(self) -> Iterator[None]:
        """Show live bars within this context; nothing where there is no terminal."""
        if not self.console.is_terminal:
            yield
            return
        self._live = True
        try:
            with Live(self._screen, console=self.console, transient=True, refresh_per_second=4):
                yield
        finally:
            self._live, self._screen = False, Screen()

    def begin_epoch(self, run: str, number: int, epochs: int, stage: str) -> None:
        """Show that an epoch (counted from 0) of a run begins."""
        self.forecast.done[run] = number
        self._screen.began = time.monotonic()
        self._screen.standing = self._standing(run, number + 1, epochs, stage)

    def end_epoch(
        self, run: str, number: int, epochs: int, stage: str, measured: Mapping[str, float]
    ) -> None:
        """Take in how long an epoch took, and print and log what came of it; on a terminal what fits into a line."""
        self.forecast.add(run, number, time.monotonic() - self._screen.began)
        standing = self._standing(run, number + 1, epochs, stage)
        self._screen.recent = tuple(by_priority(measured))
        parts = [*standing.words(), *map(printable, self._screen.recent)]
        self._print(joined(parts, self.console.width if self.console.is_terminal else None))
        self._keep(joined(parts, None))

    def _standing(self, run: str, number: int, epochs: int, stage: str) -> Standing:
        left, whole = self.forecast.left(run), self.forecast.left_of_all()
        return Standing(number, epochs, printable(stage), left, whole, self.place)

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield `items` under a bar of their own."""
        if not self._live:
            yield from items
            return
        bar = Bar(printable(description), total, time.monotonic())
        self._screen.bars = (*self._screen.bars, bar)
        try:
            for item in items:
                yield item
                bar.done += 1
        finally:
            self._screen.bars = tuple(one for one in self._screen.bars if one is not bar)

    def live(self, losses: Mapping[str, float]) -> None:
        """Show loss terms at the newest bar, their sum first."""
        if self._screen.bars:
            self._screen.bars[-1].live = tuple(losses_by_priority(losses))
