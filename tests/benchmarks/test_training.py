"""Training iterations of a method beside a bare loop on the same network, in one run; tiny unless asked for.

The ratio of a group is the overhead. At the papers' size, with as many labels in a batch as memory has room for::

    pytest tests/benchmarks/test_training.py --paper-size 2 --benchmark-enable --benchmark-columns=min,median
"""

from __future__ import annotations

from typing import Any

import pytest

from harness.tools.time_training import bare_loop
from harness.tools.training_bench import Bench, TrainingPlan, set_up
from harness.training.kernels import load_kernels
from protocols.sysu_mm01 import SysuMM01Data
from tests.conftest import TINY


@pytest.fixture(scope="module", params=["dmic", "pgm"])
def bench(request: pytest.FixtureRequest) -> Bench:
    labels = int(request.config.getoption("--paper-size", default=0))
    tiny = (*(one for one in TINY if not one.startswith("weights")), "instances=2")
    load_kernels()
    plan = TrainingPlan(
        request.param,
        SysuMM01Data.name,
        () if labels else tiny,
        labels=labels or 3,
        images=1000 if labels else 200,
        iterations=1,
    )
    return set_up(plan, "auto" if labels else "cpu")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loop", ["ours", "bare"])
def test_iteration(benchmark: Any, bench: Bench, loop: str) -> None:
    work = bench.ours if loop == "ours" else bare_loop(bench)
    benchmark.group = f"an iteration of {bench.method.name}, {bench.engine.config.architecture}"

    def run() -> None:
        work()
        bench.engine.wait()

    benchmark.pedantic(run, rounds=3, iterations=1, warmup_rounds=1)
