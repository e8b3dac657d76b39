"""How steady the machine is while something is timed: a small fixed piece of work, timed again and again beside it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import numpy as np

SIDE = 384
STEADY = 1.25
"""Slowest over fastest calibration up to which timings are called steady."""


@dataclass
class Calibration:
    """Times of the fixed work."""

    times: list[float] = field(default_factory=list)

    def beat(self) -> None:
        """Time the work once: the best of three, so that one interruption does not count."""
        rows = np.ones((SIDE, SIDE), dtype=np.float32)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            rows @ rows
            best = min(best, time.perf_counter() - start)
        self.times.append(best)

    @property
    def spread(self) -> float:
        """Slowest over fastest; 1 before anything was timed."""
        return max(self.times) / min(self.times) if self.times else 1.0

    def words(self) -> str:
        """Say the spread, and warn if it or the load of the machine spoils the timings."""
        said = f"calibration: slowest over fastest {self.spread:.2f} in {len(self.times)} times"
        if self.spread > STEADY:
            return f"{said}: the machine is busy or changes its pace, and these timings with it; repeat on a quiet one"
        return said


def busy() -> str:
    """Say so if more is at work on this machine than it has processors; empty otherwise."""
    try:
        load, count = os.getloadavg()[0], os.cpu_count() or 1
    except OSError:
        return ""
    if load <= 0.5 * count:
        return ""
    return f"the machine is busy: load {load:.1f} on {count} processors; timings will be too long"
