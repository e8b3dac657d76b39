"""One writer for each run: who it is, whether it lives, and when another may take over.

On one machine a lock file of the system (``run.lock``) lets one process in, whatever else happens. Where several
machines share a file system that lock may hold on each of them alone, or not be there at all; so the process that is
in also writes ``holder.json`` with its host, process, job and a token of its own, and touches it every
:data:`BEAT_S`. It is made exclusively, which shared file systems do hold, and whoever finds one

- of this machine takes over if that process is dead, and is refused otherwise;
- of another machine is refused until it has not been touched for :data:`STALE_S`, by the file server's clock.

Of several that take over at once, one gets a second exclusive file. A holder that was taken over, because its machine
stood still, finds another token before it writes anything of the run again, and ends.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from harness.errors import RunHeldError
from harness.runs.run_spec import canonical_json
from results.files import new_file, write_whole

HOLDER, LOCK = "holder.json", "run.lock"
BEAT_S = 15.0
STALE_S = 120.0
"""Seconds without a beat after which a process of another machine counts as dead: eight beats, and twice what network
file systems keep a file's times in their caches."""
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What a file system without locks says."""
JOBS = ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Variables in which batch systems tell a job its number."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a run.

    Attributes
    ----------
    host : str
        Name of its machine, for people.
    machine : str
        What tells machines, restarts of them and containers apart: process numbers mean the same within one.
    pid : int
    born : float
        When the process started, for process numbers are used again.
    job : str
        Of its batch system; empty without one.
    token : str
        Of this holding alone.
    """

    host: str
    machine: str
    pid: int
    born: float
    job: str
    token: str

    def __str__(self) -> str:
        job = f", job {self.job[:64]!a}" if self.job else ""
        return f"process {self.pid} on {self.host[:64]!a}{job}"

    @property
    def dead(self) -> bool:
        """Whether it is a process of this machine that has ended."""
        return self.machine == this_machine() and not lives(self.pid, self.born)


def lives(pid: int, born: float) -> bool:
    """Say whether a process of this machine lives; one that has ended and that nobody has waited for does not."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - born) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def myself() -> Holder:
    """Return this process as the holder of a run."""
    me = psutil.Process()
    return Holder(
        socket.gethostname(), this_machine(), me.pid, me.create_time(), this_job(), secrets.token_hex(8)
    )


def this_machine() -> str:
    """Name this start of this machine, and the container within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def this_job() -> str:
    """Name the job of a batch system that this process belongs to; empty if there is none."""
    number = next((os.environ[name] for name in JOBS if os.environ.get(name)), "")
    task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    return f"{number}_{task}" if number and task else number


def process_number(value: Any) -> int:
    """Return what may number a process; ValueError for anything else."""
    number = int(value)
    if not 0 <= number < 2**31:
        raise ValueError("no number of a process")
    return number


def read_holder(run: Path) -> Holder | None:
    """Read who holds a run; None if nobody does, or the file cannot be understood."""
    try:
        found = json.loads((run / HOLDER).read_text(encoding="utf-8"))
        return Holder(
            host=str(found["host"]),
            machine=str(found.get("machine", "")),
            pid=process_number(found["pid"]),
            born=float(found.get("born", 0)),
            job=str(found.get("job", "")),
            token=str(found.get("token", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def silent_s(run: Path) -> float | None:
    """Return the seconds since the holder's last beat, both read off the clock of the file system; None without one.

    Clocks of machines differ, that of the server of their files is one.
    """
    probe = run / f".probe.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with (run / HOLDER).open("rb") as file:  # opening has a network file system look at the file anew
            beat = os.fstat(file.fileno()).st_mtime
        with new_file(probe):
            now = probe.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)
    return max(now - beat, 0.0)


def holder_of(run: Path) -> Holder | str | None:
    """Say who holds a run and lives, for who only looks: a holder, or what is known of one; None if nobody does."""
    try:
        silent = time.time() - (run / HOLDER).stat().st_mtime
    except OSError:
        return None
    holder = read_holder(run)
    if holder is None:
        return None if silent > STALE_S else "another process"
    return None if holder.dead or silent > STALE_S else holder


class Holding:
    """A run that this process holds: its token, and the thread that keeps it alive."""

    def __init__(self, run: Path, me: Holder) -> None:
        self.run, self.me = run, me
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="holder", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            with suppress(OSError):  # a file server that does not answer may answer the next time
                if self.is_mine():
                    os.utime(self.run / HOLDER)

    def is_mine(self) -> bool:
        """Say whether the holder's file is still the one that this process wrote."""
        found = read_holder(self.run)
        return found is not None and found.token == self.me.token

    def release(self) -> None:
        """Let others in; what another has taken over stays."""
        self._end.set()
        self._thread.join(timeout=BEAT_S)  # it may wait for a file server
        if self.is_mine():
            (self.run / HOLDER).unlink(missing_ok=True)


held: dict[Path, Holding] = {}
"""The runs that this process holds."""


def still_mine(run: Path) -> None:
    """Refuse to write into a run that this process held and another has taken over.

    Raises
    ------
    RunHeldError
        Says which process has it now.
    """
    holding = held.get(run.absolute())
    if holding and not holding.is_mine():
        raise RunHeldError(
            f"{run} was taken over by {read_holder(run) or 'another process'} while this one ({holding.me}) "
            f"gave no sign of life for {STALE_S:.0f} s; nothing more is written here"
        )


@contextmanager
def holding(run: Path, name: str) -> Iterator[None]:
    """Hold a run's directory for this process.

    Parameters
    ----------
    name : str
        What messages call the run.

    Raises
    ------
    RunHeldError
        If another process holds it; says which, and when it may be taken over.
    """
    lock = FileLock(run / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunHeldError(
            f"run {name} is held by {read_holder(run) or 'another process'}; its files: {run}"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
    try:
        me = myself()
        claim(run, name, me)
        mine = held[run.absolute()] = Holding(run, me)
        try:
            yield
        finally:
            held.pop(run.absolute(), None)
            mine.release()
    finally:
        lock.release()


def claim(run: Path, name: str, me: Holder) -> None:
    """Write the holder's file, which nobody else may have, or take over that of a dead process."""
    content = canonical_json(asdict(me)).encode()
    for _ in range(2):  # what was there may have been let go in between
        try:
            with new_file(run / HOLDER) as write:
                write(content)
        except FileExistsError:
            if take_over(run, name, content):
                return
        except OSError:  # no room for it: it must not stand there empty
            (run / HOLDER).unlink(missing_ok=True)
            raise
        else:
            return
    raise RunHeldError(f"run {name} is being taken by another process; its files: {run}")


def take_over(run: Path, name: str, content: bytes) -> bool:
    """Replace the holder's file if its process is dead; False if it is gone meanwhile.

    Raises
    ------
    RunHeldError
        If it lives, or another process is taking over.
    """
    if not refuse_living(run, name):
        return False
    turn = run / f"{HOLDER}.taken"
    try:
        with new_file(turn):
            pass
    except FileExistsError:
        with suppress(OSError):
            if time.time() - turn.stat().st_mtime > STALE_S:  # of a process that was killed just here
                turn.unlink()
        raise RunHeldError(f"run {name} is being taken over by another process; its files: {run}") from None
    try:
        if not refuse_living(run, name):  # another may have taken over just before
            return False
        write_whole(run / HOLDER, content)
    finally:
        turn.unlink(missing_ok=True)
    return True


def refuse_living(run: Path, name: str) -> bool:
    """Refuse a run whose holder lives, or may; say whether there is a dead one."""
    silent, holder = silent_s(run), read_holder(run)
    if silent is None:
        return False
    if (holder and holder.dead) or silent > STALE_S:
        return True
    known = f"{holder or 'another process'}, which gave a sign of life {silent:.0f} s ago"
    raise RunHeldError(
        f"run {name} is held by {known} (a dead machine's run may be taken over {STALE_S:.0f} s after its last one); "
        f"its files: {run}"
    )
