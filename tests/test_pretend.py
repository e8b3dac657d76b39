"""Tests of devices, on one without hardware: it changes PyTorch, and so gets a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torch.utils import backend_registration

from tests.conftest import process_environment

NEEDED = ("_DummyBackendModule", "_setup_privateuseone_for_python_backend")


@pytest.mark.slow
@pytest.mark.skipif(
    not all(hasattr(backend_registration, name) for name in NEEDED),
    reason="this torch has no interface for back ends written in Python",
)
@pytest.mark.parametrize("file", ["test_functions", "test_training"])
def test_a_device_without_hardware(file: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", f"tests/devices/{file}.py", "--pretend"),
            *("-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-x"),
        ],
        cwd=process_environment()["PYTHONPATH"],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout
