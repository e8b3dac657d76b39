"""Has the kernels of clustering, evaluation and views compiled, or loads compiled ones, before anything is timed."""

from __future__ import annotations

import hashlib
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import numba
import numpy as np
import torch
from numba.core import event

from harness.runs.environment import CODE, cpu_model
from harness.runs.files import waiting_for, write_atomic
from harness.runs.stopping import unbroken


class FirstCompilation(event.Listener):
    """Calls a function when numba compiles something for the first time; kernels loaded from its cache do not count.

    Each compilation ends before the process may stop: in callbacks of the compiler what stops it is printed and lost.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell
        self.told = False
        self._open: list[AbstractContextManager[None]] = []

    def on_start(self, _event: event.Event) -> None:
        """Tell, once."""
        if not self.told:
            self.told = True
            self.tell()
        self._open.append(unbroken())
        self._open[-1].__enter__()

    def on_end(self, _event: event.Event) -> None:
        """Stop here, if that was asked for meanwhile."""
        self._open.pop().__exit__(None, None, None)


@contextmanager
def on_compilation(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once if anything is compiled within."""
    with event.install_listener("numba:compile", FirstCompilation(tell)):
        yield


COMPILED = Path("data") / "kernels"
"""Folder of marks that say that somebody here has compiled the kernels of this code for this processor."""


def compile_once(say: Callable[[str], None]) -> None:
    """Compile the kernels, or load compiled ones; of several processes one compiles, and the others wait for it."""
    mark = COMPILED / state_of_kernels()
    with ExitStack() as turn:
        if not mark.is_file():
            with suppress(OSError):  # where nothing can be written, each compiles for itself
                mark.parent.mkdir(parents=True, exist_ok=True)
                turn.enter_context(waiting_for(mark.with_suffix(".lock"), say))
        load_kernels()
        if not mark.is_file():
            with suppress(OSError):
                write_atomic(mark, b"")


def state_of_kernels() -> str:
    """Digest what compiled kernels depend on: versions, the processor, where they are kept, and the files of code."""
    files = sorted(path for name in ("methods", "protocols") for path in (CODE / name).rglob("*.py"))
    times = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    about = (
        numba.__version__,
        platform.python_version(),
        cpu_model(),
        os.environ.get("NUMBA_CACHE_DIR"),
        times,
    )
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


@cache
def load_kernels() -> None:
    """Compile the kernels, or load compiled ones, once a process: what is loaded stays."""
    compile_kernels()


def compile_kernels() -> float:
    """Compile the kernels of clustering, evaluation and views, or load compiled ones; return the seconds it took."""
    from methods.clustering import MIE, jaccard_clusters, nearest_neighbours
    from methods.parts.views import RECIPES, apply_views, draw_views
    from protocols.metrics import distances, evaluate

    start = time.perf_counter()
    # many rows in few directions: without bfloat16 units, the search goes by projections
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1024, 8, generator=generator) @ torch.randn(8, 128, generator=generator)
    rows = torch.nn.functional.normalize(rows)
    half, quarter = torch.arange(1024) // 512, torch.arange(1024) // 256
    jaccard_clusters(rows, k1=8, eps=0.6, min_samples=4, expansion=MIE(4, half, quarter))
    nearest_neighbours(rows, 8, backend="float32")  # what a search falls back on
    some, ids = rows[::16].numpy(), half[::16].numpy()
    with warnings.catch_warnings(action="ignore"):  # two people are a short gallery
        evaluate(
            distances(some, some),
            ids,
            ids,
            np.zeros((1, 64), dtype=bool),
            np.zeros(64, dtype=np.int64),
            False,
        )
    drawn = draw_views(RECIPES["jitter-exchange"], 1, (4, 2), np.random.default_rng(0))
    apply_views(torch.zeros(1, 3, 4, 2, dtype=torch.uint8), drawn)
    return time.perf_counter() - start
