"""Shared fixtures: tiny twins, made once a session, and ways to run the command."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # one thread a worker: more only wait for each other; read by OpenMP and numba when they are imported
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import pytest

from protocols.llcm import LLCMData
from protocols.regdb import RegDBData
from protocols.synthetic.twin import synthesise
from protocols.sysu_mm01 import SysuMM01Data

TINY = (
    "architecture=resnet18",
    "height=32",
    "width=16",
    "weights=none",
    "precision=32",
    "evaluate_every=1",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--oracles",
        action="append",
        metavar="FOLDER",
        help="compare with the recorded results (.npz, .json) of this folder too",
    )
    parser.addoption(
        "--pretend",
        action="store_true",
        help="give this process a second device without hardware, for tests/devices",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--pretend"):
        import tests.pretend  # noqa: F401 - registers the device


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_disks() -> Iterator[None]:
    """Let files be written without waiting until a disk has them: no test takes the power away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def tiny_regdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twin") / "regdb"
    synthesise(root, RegDBData(), identities=12, images=4, seed=3, difficulty="easy", size=(16, 32))
    return root


@pytest.fixture(scope="session")
def tiny_sysu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twin") / "sysu"
    synthesise(root, SysuMM01Data(), identities=12, images=3, seed=3, difficulty="easy", size=(16, 32))
    return root


@pytest.fixture(scope="session")
def tiny_llcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twin") / "llcm"
    synthesise(root, LLCMData(), identities=27, images=3, seed=3, difficulty="easy", size=(16, 32))
    return root


@pytest.fixture
def reidbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in an empty folder, in this process, which has imported torch; a traceback is an error."""
    from harness.cli.app import main

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code: object = 0
        try:
            main(list(map(str, arguments)))
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(code or 0), said.out, said.err)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REIDBENCH_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main sets it; undone afterwards
    return call


def process_environment() -> dict[str, str]:
    """Return the environment of a child process: this checkout importable, one thread."""
    here = str(Path(__file__).parents[1])
    kept = {k: v for k, v in os.environ.items() if k != "REIDBENCH_DATA"}
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return kept | one_thread | {"PYTHONPATH": here, "NO_COLOR": "1", "COLUMNS": "200"}


def tiny_settings(*more: str) -> list[str]:
    """Return --set options of a run that takes seconds."""
    return [part for value in (*TINY, *more) for part in ("--set", value)]
