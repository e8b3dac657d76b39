"""Where a process computes: one device and one precision by Lightning Fabric, and the threads of the CPU."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import numba
import torch

from harness.runs.devices import choose_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def make_fabric(device: str, precision: str) -> Fabric:
    """Launch Fabric on one device, as :func:`choose_device` names it.

    Raises
    ------
    HarnessError
        If there is no such device.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    kind, number = choose_device(device, precision)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    set_switches()
    # one device, also within a batch job of several tasks, which Fabric would otherwise take for its own processes
    devices = [int(number)] if kind == "cuda" and number else 1
    chosen: Any = PRECISIONS[precision]
    fabric = Fabric(accelerator=kind, devices=devices, precision=chosen, plugins=LightningEnvironment())
    fabric.launch()
    return fabric


def compute_device(device: str) -> torch.device:
    """Return the device of a name for work that trains nothing, with the same switches set.

    Raises
    ------
    HarnessError
        If there is no such device.
    """
    kind, number = choose_device(device, "32")
    set_switches()
    return torch.device(kind, int(number or 0)) if kind == "cuda" else torch.device(kind)


def set_switches() -> None:
    """Set what is global: deterministic algorithms, no TF32, no cuDNN search, threads. Nothing else sets it."""
    share_threads()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # what `use_deterministic_algorithms` does, but for the compiler's switch, whose import takes as long as torch's
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def share_threads() -> None:
    """Let torch and numba use equally many threads.

    Both stand on one OpenMP runtime, whose number of threads numba sets for torch too when it starts: without
    this, results would depend on whether a process has clustered yet, and ``OMP_NUM_THREADS`` would be ignored
    from then on.
    """
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    numba.set_num_threads(threads)  # starts numba's threads, so torch's number comes second
    torch.set_num_threads(threads)
