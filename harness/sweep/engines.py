"""Engines that run the units of a sweep side by side: Parsl, on this machine or wherever its configuration says.

What Parsl calls is :func:`~harness.sweep.unit.start`, which starts ``reidbench run --from`` as a child and returns its
exit code: nothing of a run goes through the engine but that.
"""

from __future__ import annotations

import concurrent.futures
import os
import runpy
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.errors import HarnessError
from harness.sweep.folder import Sweep, Unit
from harness.sweep.unit import start

RETRIES = 2
"""How often a unit is started again whose worker was lost; a run that fails by itself is not."""
TIDY_S = 30.0
LOST = 1
"""Exit code of a unit whose workers were all lost."""
Tell = Callable[[Unit, int], None]
"""Told of each unit that ends, with its exit code."""


@dataclass(frozen=True)
class Engine:
    """How units are run.

    Attributes
    ----------
    slots : int
        Units at a time on this machine.
    gpus : tuple of str
        What ``CUDA_VISIBLE_DEVICES`` is for each slot; empty: nothing is set.
    config : Path or None
        A Python file with a Parsl configuration named ``config``, in the place of the slots.
    """

    slots: int = 1
    gpus: tuple[str, ...] = ()
    config: Path | None = None


def engine_of(text: str | None, gpus: str | None, slots: int | None) -> Engine:
    """Read ``--engine``, ``--gpus`` and ``--slots``.

    Raises
    ------
    HarnessError
        If they contradict each other, or are of no known form.
    """
    if text is not None:
        kind, _, path = text.partition(":")
        if kind != "parsl" or not path:
            raise HarnessError(
                f"--engine {text}: expected parsl:CONFIG.py, a file with `config = parsl.Config(...)`"
            )
        if gpus is not None or slots is not None:
            raise HarnessError("--engine says where runs are executed; leave out --gpus and --slots")
        if not Path(path).is_file():
            raise HarnessError(f"--engine {text}: there is no file {path}")
        return Engine(config=Path(path))
    if gpus is None:
        return Engine(slots=slots or 1)
    chosen = tuple(part.strip() for part in gpus.split(","))
    if not all(part.isascii() and part.isdigit() for part in chosen) or len(set(chosen)) < len(chosen):
        raise HarnessError(f"--gpus {gpus}: expected the numbers of GPUs, such as 0,1,2,3")
    if slots is not None:
        raise HarnessError("--gpus gives each GPU a slot; leave out --slots")
    return Engine(slots=len(chosen), gpus=chosen)


def run_units(sweep: Sweep, units: Sequence[Unit], engine: Engine, tell: Tell) -> dict[str, int]:
    """Run units to their ends; return the exit code of each by its run id. One that fails stops no other.

    Raises
    ------
    HarnessError
        If Parsl is missing, or its configuration cannot be used.
    """
    parsl = load_parsl()
    here = engine.config is None
    me = psutil.Process()
    driver = (me.pid, me.create_time()) if here else None
    environment = threads_for(engine.slots) if here and not engine.gpus else {}
    kernel = parsl.load(local_config(sweep, engine) if here else read_config(engine.config))
    try:
        unit = parsl.python_app(start, data_flow_kernel=kernel)
        futures = {
            unit(
                sweep.words(one),
                str(sweep.log(one)),
                str(sweep.code(one)),
                sweep.settings.cwd,
                environment,
                driver,
            ): one
            for one in units
        }
        return {one.spec.id: code for one, code in ended(futures, tell)}
    finally:
        end(kernel)
        parsl.clear()


def end(kernel: Any) -> None:
    """Have Parsl tidy up, but do not wait for ever: it does where a signal has ended its helpers as well.

    What it cannot end any more ends when it finds this process gone.
    """

    def tidy() -> None:
        with suppress(Exception):
            kernel.cleanup()

    thread = threading.Thread(target=tidy, daemon=True)
    thread.start()
    thread.join(TIDY_S)


def ended(futures: dict[Any, Unit], tell: Tell) -> list[tuple[Unit, int]]:
    """Wait for units; return them with their exit codes in the order of their ends."""
    found = []
    waiting = set(futures)
    while waiting:
        # a short wait, so that signals are heard
        done, waiting = concurrent.futures.wait(
            waiting, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in done:
            unit = futures[future]
            code = LOST if future.exception() else int(future.result())
            tell(unit, code)
            found.append((unit, code))
    return found


def load_parsl() -> Any:
    """Import Parsl.

    Raises
    ------
    HarnessError
        If it is not installed.
    """
    try:
        import parsl
    except ImportError as error:
        raise HarnessError(
            f"`sweep run` needs Parsl ({error}); install it with: pip install 'reidbench[sweep]'. Without it, "
            "`reidbench run` takes seeds and trials in turn, and `sweep slurm` and `sweep commands` work as they are"
        ) from error
    scripts = str(Path(sys.executable).parent)  # where its programs are, which it calls by name
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    return parsl


def local_config(sweep: Sweep, engine: Engine) -> Any:
    """Return Parsl's configuration for slots on this machine; only processes with its keys may talk to it."""
    from parsl import Config, HighThroughputExecutor
    from parsl.providers import LocalProvider

    executor = HighThroughputExecutor(
        label="slots",
        address="127.0.0.1",
        loopback_address="127.0.0.1",
        encrypted=True,
        interchange_launch_cmd=interchange_words(),
        cores_per_worker=min(1.0, cores() / engine.slots),
        max_workers_per_node=engine.slots,
        available_accelerators=list(engine.gpus),
        heartbeat_period=5,
        heartbeat_threshold=30,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
    )
    return Config(executors=[executor], retries=RETRIES, strategy="none", run_dir=str(sweep.path / "parsl"))


def interchange_words() -> list[str]:
    """Return the command of Parsl's interchange; idle workers end within half a minute of its end."""
    # out of the reach of Ctrl-C, which a terminal sends to this process's whole group; and ended with this process
    before = {"setsid": ["setsid"], "setpriv": ["setpriv", "--pdeathsig", "TERM"]}
    return [word for name, words in before.items() if shutil.which(name) for word in words] + [
        "interchange.py"
    ]


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(slots: int) -> dict[str, str]:
    """Share the processors between slots, unless the user has said how many threads a process has."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    each = str(max(1, cores() // slots))
    return {"OMP_NUM_THREADS": each, "NUMBA_NUM_THREADS": each}


def read_config(path: Path | None) -> Any:
    """Run a file of the user's and return its Parsl configuration.

    Raises
    ------
    HarnessError
        If it fails, or has none.
    """
    from parsl import Config

    try:
        config = runpy.run_path(str(path)).get("config")
    except Exception as error:  # whatever a file of the user's raises
        raise HarnessError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise HarnessError(f"{path}: it has no `config = parsl.Config(...)`")
    return config
