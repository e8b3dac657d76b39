"""Named stage timers: wall time and peak memory of extract, neighbours, ..., train, evaluate."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import torch

from results.schema import PROFILE, ProfileRow, ResultsError, frame_of
from results.store import read_frame

POLL_S = 0.02
STEP_PARTS = ("draw", "transfer", "augment", "forward", "loss", "backward", "optimiser", "update")
"""Parts of an iteration, in their order. A run does not measure them: clocks would be read when a device is behind."""


@dataclass
class Total:
    """What the calls of one stage in one epoch add up to."""

    calls: int = 0
    wall_s: float = 0.0
    peak_memory_mib: float = 0.0


class PeakMemory:
    """The largest memory use while it watches: resident set on the CPU, allocated memory on CUDA, in MiB."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._open: list[Total] = []

    def watch(self, total: Total) -> AbstractContextManager[None]:
        """Raise ``total.peak_memory_mib`` to the peak seen within; may be nested."""
        return self._watch_cuda(total) if self._device.type == "cuda" else self._watch_process(total)

    @contextmanager
    def _watch_cuda(self, total: Total) -> Iterator[None]:
        self._book()
        self._open.append(total)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def _book(self) -> None:
        """Credit the peak since the last call to every open stage; CUDA has one counter for all."""
        peak = torch.cuda.max_memory_allocated(self._device) / 2**20
        for total in self._open:
            total.peak_memory_mib = max(total.peak_memory_mib, peak)
        torch.cuda.reset_peak_memory_stats(self._device)

    @contextmanager
    def _watch_process(self, total: Total) -> Iterator[None]:
        stop = threading.Event()

        def read() -> None:
            total.peak_memory_mib = max(total.peak_memory_mib, self._process.memory_info().rss / 2**20)

        def poll() -> None:
            while not stop.wait(POLL_S):
                read()

        thread = threading.Thread(target=poll, daemon=True)
        read()
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            read()  # what was allocated since the last look


class StageTimers:
    """Collects stage timings of a run, per epoch.

    Parameters
    ----------
    device : torch.device
        Its queue is drained before a clock is read.
    step_parts : bool
        Measure the parts of iterations as well.

    Attributes
    ----------
    step_times : dict of str to (float, float)
        Wall and CPU seconds of each part of all iterations.
    """

    def __init__(self, device: torch.device, *, step_parts: bool = False) -> None:
        self.step_times: dict[str, tuple[float, float]] = {}
        self._step_parts = step_parts
        self._device = device
        self._memory = PeakMemory(device)
        self._epoch = 0
        self._totals: dict[tuple[int, str], Total] = {}

    def begin_epoch(self, epoch: int) -> None:
        """Book what follows under `epoch`."""
        self._epoch = epoch

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Measure a stage, or a part of an iteration where these are asked for."""
        if name not in STEP_PARTS:
            return self._stage(name)
        return self._part(name) if self._step_parts else nullcontext()

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        wall, cpu = self._now(), time.process_time()
        yield
        before = self.step_times.get(name, (0.0, 0.0))
        self.step_times[name] = before[0] + self._now() - wall, before[1] + time.process_time() - cpu

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        total = self._totals.setdefault((self._epoch, name), Total())
        with self._memory.watch(total):
            start = self._now()
            yield
            total.wall_s += self._now() - start
        total.calls += 1

    def book(self, name: str, wall_s: float) -> None:
        """Add a stage that was measured elsewhere."""
        total = self._totals.setdefault((self._epoch, name), Total())
        total.calls, total.wall_s = total.calls + 1, total.wall_s + wall_s

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def rows(self) -> list[ProfileRow]:
        """Return one row per epoch and stage, in order of first appearance."""
        return [
            ProfileRow(
                epoch=epoch,
                stage=name,
                calls=total.calls,
                wall_s=total.wall_s,
                peak_memory_mib=total.peak_memory_mib,
                device=str(self._device),
            )
            for (epoch, name), total in self._totals.items()
        ]

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table."""
        return frame_of(self.rows(), PROFILE)

    def resume(self, path: Path, epochs_done: int) -> None:
        """Take over what an earlier process measured in the epochs that it finished, if that is readable."""
        if not path.exists():
            return
        try:
            before = read_frame(path, PROFILE)
        except ResultsError as error:
            warnings.warn(f"the stage times of the first epochs are lost: {error}", stacklevel=2)
            return
        kept = before[before["epoch"] < epochs_done]
        for row in kept.to_dict("records"):
            self._totals[int(row["epoch"]), str(row["stage"])] = Total(
                int(row["calls"]), float(row["wall_s"]), float(row["peak_memory_mib"])
            )
