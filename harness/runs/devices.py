"""Names of devices, and what is refused before anything is written."""

from __future__ import annotations

import torch

from harness.errors import HarnessError


def choose_device(device: str, precision: str) -> tuple[str, str]:
    """Return kind (``cpu`` or ``cuda``) and number (empty: any) of a device; ``auto`` is CUDA where there is one.

    Raises
    ------
    HarnessError
        If CUDA is asked for and absent, or the device has no such name.
    """
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise HarnessError(f"--device {device}: expected cpu, cuda, cuda:N or auto")
    if kind == "cuda" and not torch.cuda.is_available():
        raise HarnessError(
            "--device cuda: no CUDA device is visible; `reidbench doctor` says why, --device cpu works"
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise HarnessError(
            f"--device {device}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0"
        )
    if kind == "cpu" and precision == "16":
        raise HarnessError("--precision 16 needs a CUDA device; use bf16 or 32 on the CPU")
    return kind, number
