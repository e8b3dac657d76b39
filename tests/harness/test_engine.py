"""The engine fits itself to the machine: threads that torch and numba share, and precision."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import engine
from harness.configuration import EngineConfig
from harness.errors import HarnessError
from tests.conftest import process_environment

CODE = """
import torch
from harness.engine import share_threads
from methods.clustering import Plain, jaccard_clusters
share_threads()
before = torch.get_num_threads()
features = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)))
jaccard_clusters(features, k1=5, eps=0.5, min_samples=2, expansion=Plain(2))
print(before, torch.get_num_threads())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_clustering_leaves_torch_its_threads(threads: int) -> None:
    environment = process_environment() | {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(threads)] * 2


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "32")])
def test_auto_precision_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    monkeypatch.setattr(engine, "has_bfloat16_units", lambda device: native)
    assert engine.settle_precision(EngineConfig(precision="auto"), "cpu").precision == expected
    assert engine.settle_precision(EngineConfig(precision="32"), "cpu").precision == "32"


def test_auto_precision_of_an_absent_device_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(HarnessError, match="no CUDA device"):
        engine.settle_precision(EngineConfig(precision="auto"), "cuda")
