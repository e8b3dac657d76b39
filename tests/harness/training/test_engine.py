"""The engine fits itself to the machine: threads that torch and numba share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import process_environment

CODE = """
import torch
from harness.training.fabric import share_threads
from methods.clustering import MeanExpansion, jaccard_clusters
share_threads()
before = torch.get_num_threads()
features = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)))
jaccard_clusters(features, k1=5, eps=0.5, min_samples=2, expansion=MeanExpansion(2))
print(before, torch.get_num_threads())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_clustering_leaves_torch_its_threads(threads: int) -> None:
    environment = process_environment() | {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(threads)] * 2
