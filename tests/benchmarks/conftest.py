"""Sizes of the benchmarks: tiny unless asked for, so that the code is exercised wherever the tests run."""

from __future__ import annotations

import pytest

from harness.tools.calibration import busy

SIZES, DIM = "200,400", 32


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reidbench benchmarks")
    group.addoption("--sizes", default=SIZES, help="numbers of samples, separated by commas")
    group.addoption(
        "--paper-size",
        type=int,
        default=0,
        help="training at the papers' size, with so many labels in a batch",
    )
    group.addoption("--dim", type=int, default=DIM, help="width of the features")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "size" in metafunc.fixturenames:
        text = metafunc.config.getoption("--sizes", default=SIZES)
        metafunc.parametrize("size", [int(part) for part in text.split(",")], scope="module")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Warn below the timings if the machine was busy with other things."""
    if terminalreporter.config.getoption("--benchmark-enable", default=False) and (said := busy()):
        terminalreporter.write_line(f"warning: {said}")


@pytest.fixture(scope="session")
def dim(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--dim", default=DIM))
