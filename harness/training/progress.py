"""What a person sees while a run works: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.errors import HarnessError, printable
from results.files import append_line

T = TypeVar("T")


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


class Reporter:
    """Shows progress and keeps the log of a run.

    Parameters
    ----------
    console : Console
        Bars are drawn only if it is a terminal.
    log : Path, optional
        File that gets every line.
    """

    def __init__(self, console: Console, log: Path | None = None) -> None:
        self.console = console
        self._log = log
        self._bars: Progress | None = None

    def with_log(self, log: Path) -> Reporter:
        """Return a reporter on the same console that also writes to `log`."""
        return Reporter(self.console, log)

    def line(self, text: str) -> None:
        """Print one line, and log it."""
        text = printable(text)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        if self._log is not None:
            log_line(self._log, text)

    @contextmanager
    def bars(self) -> Iterator[None]:
        """Show live bars within this context; nothing where there is no terminal."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[live]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as self._bars:
            yield
        self._bars = None

    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        """Yield `items` under a bar of their own."""
        if self._bars is None:
            yield from items
            return
        task = self._bars.add_task(description, total=total, live="")
        try:
            for item in items:
                yield item
                self._bars.advance(task)
        finally:
            self._bars.remove_task(task)

    def live(self, text: str) -> None:
        """Show a text (losses, clusters) at the newest bar."""
        if self._bars is not None and self._bars.task_ids:
            self._bars.update(self._bars.task_ids[-1], live=text)
