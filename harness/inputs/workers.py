"""Worker processes that prepare items ahead: what stops one of them ends in a message, not in a hang."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harness.errors import HarnessError, format_error, understood, user_errors
from harness.runs.stopping import SIGNALS, unbroken

T = TypeVar("T")
SHARED = Path("/dev/shm")
"""Where worker processes put the tensors that they pass on."""


def ahead(items: Dataset[T], workers: int) -> Iterator[T]:
    """Yield the items of a data set in order, prepared by so many processes; by this one if `workers` is 0.

    Raises
    ------
    HarnessError
        What an item raises for a person to fix, or that the shared memory is too small for the items.
    """
    if not workers:
        yield from DataLoader(items, batch_size=None, shuffle=False)
        return
    loader = DataLoader(
        Guarded(items, workers),
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        worker_init_fn=leave_signals,
    )
    with signals_later():  # a worker that is interrupted before it ignores interrupts would print a traceback
        prepared = iter(loader)
    for item in prepared:
        if isinstance(item, Failure):
            raise HarnessError(item.text)
        yield cast(T, item)


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker process, for the process that can say it."""

    text: str


class Guarded(Dataset[Any]):
    """A data set whose items are a :class:`Failure` where they raise what a person can fix, or do not fit."""

    def __init__(self, items: Dataset[Any], workers: int) -> None:
        self._items, self._workers = items, workers

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        try:
            item = self._items[index]
        except Exception as error:
            known = understood(error)
            if not isinstance(known, user_errors()):
                raise
            return Failure(format_error(known)[0])
        return self._fits(item)

    def _fits(self, item: Any) -> Any:
        """Return an item, or a failure if the shared memory has no room for one of every worker."""
        if not SHARED.is_dir():
            return item
        state = os.statvfs(SHARED)
        free, needed = state.f_bavail * state.f_frsize, self._workers * bytes_in(item)
        if needed <= free:
            return item
        return Failure(
            f"the shared memory {SHARED} has {free / 2**20:.1f} MiB free, {self._workers} worker processes pass "
            f"batches of {needed / 2**20:.1f} MiB through it; enlarge it (docker: --shm-size), or use fewer --workers"
        )


def bytes_in(value: Any) -> int:
    """Return what the tensors of a nested value take."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(bytes_in, value.values()))
    if is_dataclass(value):
        return sum(bytes_in(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return sum(map(bytes_in, value))
    return 0


@contextmanager
def signals_later() -> Iterator[None]:
    """Let this thread, and processes that it starts, see interrupts only at the end.

    Another thread may take a signal that this one blocks; Python still has this one answer it, perhaps within a hook
    of a fork, which can raise nothing.
    """
    with unbroken():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals(_worker: int) -> None:
    """Leave interrupts to the process that started this worker, which ends it."""
    for number in set(SIGNALS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
