"""One writer for each run: on one machine, between machines, and where the file system has no locks."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from harness.errors import RunHeldError
from harness.runs import holder
from harness.runs.holder import (
    HOLDER,
    STALE_S,
    Holder,
    claim,
    held,
    holder_of,
    holding,
    lives,
    myself,
    read_holder,
    still_mine,
)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without flock."""

    class NoLock(FileLock):
        def acquire(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(holder, "FileLock", NoLock)


def elsewhere() -> Holder:
    """Return a process of another machine."""
    return replace(myself(), host="node7", machine="another", pid=4321, job="77_3")


def leave(run: Path, by: Holder, silent: float = 0.0) -> None:
    """Leave the holder's file of a process that gave its last sign of life so long ago."""
    (run / HOLDER).write_text(json.dumps(asdict(by)))
    then = time.time() - silent
    os.utime(run / HOLDER, (then, then))


def test_another_machines_process_keeps_its_run_until_it_is_silent(tmp_path: Path) -> None:
    leave(tmp_path, elsewhere(), STALE_S - 20)
    said = r"process 4321 on 'node7', job '77_3', which gave a sign of life 10\d s ago"
    with pytest.raises(RunHeldError, match=said), holding(tmp_path, "x"):
        pass
    assert read_holder(tmp_path) == replace(elsewhere(), token=read_holder(tmp_path).token)  # type: ignore[union-attr]
    leave(tmp_path, elsewhere(), STALE_S + 1)
    with holding(tmp_path, "x"):
        assert read_holder(tmp_path).pid == os.getpid()  # type: ignore[union-attr]
    assert [path.name for path in tmp_path.iterdir() if path.name != holder.LOCK] == []


def test_a_process_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    """Its number stays as long as its parent lives, in containers often for ever."""
    child = subprocess.Popen(["sleep", "60"])
    born = psutil.Process(child.pid).create_time()
    assert lives(child.pid, born)
    child.kill()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not lives(child.pid, born)
    child.wait()


def test_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    me = myself()
    for dead in (
        replace(me, pid=2**22 + 1),
        replace(me, born=me.born - 60),
    ):  # none, and another of that number
        leave(tmp_path, dead)
        with holding(tmp_path, "x"):
            pass


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_holder_keeps_a_second_writer_out(tmp_path: Path) -> None:
    parent = psutil.Process().parent()
    assert parent is not None
    leave(tmp_path, replace(myself(), pid=parent.pid, born=parent.create_time()))
    with pytest.raises(RunHeldError, match=f"held by process {parent.pid}"), holding(tmp_path, "x"):
        pass
    (tmp_path / HOLDER).unlink()
    with holding(tmp_path, "x"), pytest.raises(RunHeldError), holding(tmp_path, "x"):
        pass
    assert not (tmp_path / HOLDER).exists()


def test_with_locks_a_second_writer_is_out_whatever_the_holder_says(tmp_path: Path) -> None:
    with holding(tmp_path, "x"):
        leave(tmp_path, elsewhere(), 10 * STALE_S)
        with pytest.raises(RunHeldError, match="4321"), holding(tmp_path, "x"):
            pass


@pytest.mark.parametrize("left", [None, "stale", "half"])
def test_of_many_that_come_at_once_one_gets_in(tmp_path: Path, left: str | None) -> None:
    for turn in range(5):
        run = tmp_path / str(turn)
        run.mkdir()
        if left:
            leave(run, elsewhere(), 2 * STALE_S)
        if left == "half":
            (run / HOLDER).write_text("{")
            os.utime(run / HOLDER, (0, 0))
        comers = [replace(elsewhere(), pid=number, token=f"{number}") for number in range(8)]

        def come(one: Holder, run: Path = run) -> bool:
            try:
                claim(run, "x", one)
            except RunHeldError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = [one for one, got_in in zip(comers, pool.map(come, comers), strict=True) if got_in]
        assert [read_holder(run)] == won
        assert [path.name for path in run.iterdir()] == [HOLDER]


def test_a_holder_that_was_taken_over_writes_no_more(tmp_path: Path) -> None:
    with holding(tmp_path, "x"):
        still_mine(tmp_path)
        leave(tmp_path, elsewhere())
        with pytest.raises(RunHeldError, match="was taken over by process 4321 on 'node7'"):
            still_mine(tmp_path)
    assert read_holder(tmp_path).pid == 4321  # type: ignore[union-attr]
    assert not held
    still_mine(tmp_path)  # who never held it is not asked


def test_the_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "BEAT_S", 0.01)
    with holding(tmp_path, "x"):
        os.utime(tmp_path / HOLDER, (0, 0))
        deadline = time.monotonic() + 60
        while not (tmp_path / HOLDER).stat().st_mtime and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - (tmp_path / HOLDER).stat().st_mtime < STALE_S
        assert holder_of(tmp_path) == read_holder(tmp_path)


def test_a_taker_that_was_killed_is_no_obstacle_for_long(tmp_path: Path) -> None:
    leave(tmp_path, elsewhere(), 2 * STALE_S)
    turn = tmp_path / f"{HOLDER}.taken"
    turn.touch()
    os.utime(turn, (0, 0))
    with pytest.raises(RunHeldError, match="is being taken over"), holding(tmp_path, "x"):
        pass
    with holding(tmp_path, "x"):
        pass


def test_who_only_looks_sees_the_living(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    leave(tmp_path, elsewhere())
    assert str(holder_of(tmp_path)) == "process 4321 on 'node7', job '77_3'"
    leave(tmp_path, elsewhere(), 2 * STALE_S)
    assert holder_of(tmp_path) is None
    leave(tmp_path, replace(myself(), pid=2**22 + 1))
    assert holder_of(tmp_path) is None
    (tmp_path / HOLDER).write_text("{")
    assert holder_of(tmp_path) == "another process"


@pytest.mark.parametrize("pid", ["1e999", "-1", "1e300", "9" * 5000, "[]", "null"])
def test_what_numbers_no_process_holds_nothing(tmp_path: Path, pid: str) -> None:
    text = json.dumps(asdict(myself())).replace(f'"pid": {os.getpid()}', f'"pid": {pid}')
    (tmp_path / HOLDER).write_text(text)
    assert pid in text
    assert read_holder(tmp_path) is None
