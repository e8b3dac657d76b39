"""Units as child processes, and Parsl over them; a program plays the runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.errors import HarnessError
from harness.sweep import engines, unit
from harness.sweep.driver import drive
from harness.sweep.engines import Engine, engine_of, threads_for
from harness.sweep.folder import Sweep
from harness.sweep.status import states_of
from harness.sweep.unit import start
from tests.harness.sweep.conftest import finish

PROGRAM = '''\
"""Plays `python -m harness run --from SPEC`: what to do is in the file of its seed, a line for each time."""
import json, os, signal, sys, time
from pathlib import Path

file = Path(sys.argv[3])
out = Path(sys.argv[5])
spec = json.loads(file.read_text())["spec"]
play = file.parents[1] / f"play{spec['seed']}"
lines = play.read_text().split()
play.write_text(" ".join(lines[1:]))
print(lines[0], os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)

def stop(*_):
    print("asked to stop", flush=True)
    sys.exit(75)

signal.signal(signal.SIGTERM, stop)
if lines[0] == "kill-worker":
    os.kill(os.getppid(), signal.SIGKILL)
if lines[0] == "kill-me":
    os.kill(os.getpid(), signal.SIGKILL)
if lines[0] in ("kill-worker", "wait"):
    time.sleep(60)
if lines[0] == "0":
    run = out / spec["dataset"] / spec["method"] / file.stem
    run.mkdir(parents=True)
    (run / "COMPLETE").touch()
sys.exit(int(lines[0]))
'''


@pytest.fixture
def told_what(tmp_path: Path) -> dict[str, str]:
    """Return the environment in which a child finds the player in the place of the harness."""
    folder = tmp_path / "player" / "harness"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(PROGRAM)
    return {"PYTHONPATH": str(folder.parent)}


def play(sweep: Sweep, *plays: str) -> None:
    for seed, text in enumerate(plays):
        (sweep.path / f"play{seed}").write_text(text)


def begin(sweep: Sweep, environment: dict[str, str], driver: tuple[int, float] | None = None) -> int:
    one = sweep.units[0]
    return start(
        sweep.words(one), str(sweep.log(one)), str(sweep.code(one)), sweep.settings.cwd, environment, driver
    )


@pytest.mark.parametrize(("what", "code"), [("0", 0), ("2", 2), ("kill-me", 137)])
def test_a_unit_ends_with_its_childs_code(
    sweep: Sweep, told_what: dict[str, str], what: str, code: int
) -> None:
    play(sweep, what)
    sweep.log(sweep.units[0]).write_text("before\n")
    assert begin(sweep, told_what) == code
    assert sweep.code(sweep.units[0]).read_text() == f"{code}\n"
    assert sweep.log(sweep.units[0]).read_text().startswith(f"before\n{what} ")


def test_a_unit_waits_for_who_holds_its_run(
    sweep: Sweep, told_what: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "LOOK_S", 0.02)
    play(sweep, "3 3 0")
    assert begin(sweep, told_what) == 0
    monkeypatch.setattr(unit, "HELD_S", -1.0)
    play(sweep, "3 0")
    assert begin(sweep, told_what) == 3, "not for ever"


def test_a_unit_stops_when_its_driver_ends(
    sweep: Sweep, told_what: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nobody has waited for the driver, so that the system still knows its number."""
    monkeypatch.setattr(unit, "LOOK_S", 0.1)
    play(sweep, "wait")
    driver = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = driver.create_time()
    alive = unit.alive

    def end_it(of: tuple[int, float] | None) -> bool:
        if sweep.log(sweep.units[0]).exists() and sweep.log(sweep.units[0]).read_text():
            driver.kill()
        return alive(of)

    monkeypatch.setattr(unit, "alive", end_it)
    assert begin(sweep, told_what, (driver.pid, born)) in (75, 143)  # asked before it could listen: 143
    assert begin(sweep, told_what, (driver.pid, born)) == 75, "and starts nothing any more"
    assert len(sweep.log(sweep.units[0]).read_text().split("wait")) == 2
    driver.wait()


@pytest.fixture
def pinned(told_what: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return an engine with two slots, whose children find the player and a false GPU each."""
    pytest.importorskip("parsl")
    local = engines.local_config
    monkeypatch.setattr(engines, "threads_for", lambda _slots: told_what)
    monkeypatch.setattr(engines, "local_config", lambda sweep, _: local(sweep, Engine(2, ("0", "1"))))
    return Engine(2)


def told(sweep: Sweep) -> list[list[str]]:
    """Return what the children of each run did, and on which GPU."""
    return [sweep.log(one).read_text().splitlines() for one in sweep.units]


def test_units_on_slots(sweep: Sweep, pinned: Engine) -> None:
    """One fails, which stops no other."""
    play(sweep, "0", "2", "0", "0")
    said: list[str] = []
    assert drive(sweep, pinned, said.append) == 2
    assert states_of(sweep) == ["finished", "failed", "finished", "finished"]
    assert [[line.split()[0] for line in log] for log in told(sweep)] == [["0"], ["2"], ["0"], ["0"]]
    assert {line.split()[1] for log in told(sweep) for line in log} <= {"0", "1"}
    assert "4 runs: 0 finished, 0 failed, 4 waiting" in said[0]
    assert any("1 failed: N N (exit code 2)" in line for line in said)
    finish(sweep.units[1])
    assert drive(sweep, pinned, said.append) == 0, "nothing is left"


@pytest.mark.sweep
def test_a_worker_that_is_killed_loses_nothing(sweep: Sweep, pinned: Engine) -> None:
    """Parsl looks after its workers every half minute."""
    play(sweep, "kill-worker 0", "0", "0", "3 0")
    assert drive(sweep, pinned, print) == 0
    first = told(sweep)[0]
    assert "asked to stop" in first, "the child of a worker that was killed does not train on"
    assert [line.split()[0] for line in first if "stop" not in line] == ["kill-worker", "0"]


def test_a_driver_without_parsl_says_what_to_install(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parsl", None)
    with pytest.raises(HarnessError, match=r"pip install 'reidbench\[sweep\]'"):
        drive(sweep, Engine(2), print)


@pytest.mark.parametrize(
    ("engine", "gpus", "slots", "word"),
    [
        ("dask", None, None, "expected parsl:CONFIG.py"),
        ("parsl:none.py", None, None, "there is no file"),
        ("parsl:here.py", "0", None, "leave out --gpus"),
        (None, "0,x", None, "expected the numbers"),
        (None, "0,0", None, "expected the numbers"),
        (None, "0", 2, "leave out --slots"),
    ],
)
def test_odd_engines_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str | None,
    gpus: str | None,
    slots: int | None,
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.py").touch()
    with pytest.raises(HarnessError, match=word):
        engine_of(engine, gpus, slots)


def test_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_of(None, "0, 2", None) == Engine(2, ("0", "2"))
    assert engine_of(None, None, 3) == Engine(3)
    (tmp_path / "c.py").touch()
    assert engine_of(f"parsl:{tmp_path}/c.py", None, None).config == tmp_path / "c.py"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(engines, "cores", lambda: 8)
    assert threads_for(3) == {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_for(3) == {}, "the user has decided"


def test_a_configuration_that_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("parsl")
    file = tmp_path / "config.py"
    for text, word in (("1 / 0", "ZeroDivisionError"), ("config = 3", "it has no `config")):
        file.write_text(text)
        with pytest.raises(HarnessError, match=word):
            engines.read_config(file)
