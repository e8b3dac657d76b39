"""The directory of a run: its files, its lock, and the marker that makes it a result."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import HarnessError, RunHeldError
from harness.runs.files import write_atomic
from harness.runs.run_spec import RunSpec, canonical_json
from results.checksums import COMPLETE, checksums
from results.files import clear_leftovers


class RunDirectory:
    """The files of one run, below ``<out>/<data set>/<method>/<run id>``."""

    def __init__(self, out: Path, spec: RunSpec) -> None:
        self.spec = spec
        self.path = out / spec.dataset / spec.method / spec.id
        self.manifest = self.path / "manifest.json"
        self.metrics = self.path / "metrics.csv"
        self.history = self.path / "history.csv"
        self.profile = self.path / "profile.csv"
        self.ranks = self.path / "ranks.npz"
        self.last = self.path / "checkpoints" / "last.ckpt"
        self.log = self.path / "log.txt"
        self._complete = self.path / COMPLETE

    def best(self, stage: str) -> Path:
        """Return the checkpoint of the best test epoch of a stage, kept if the next stage starts from it."""
        return self.last.with_name(f"best-{stage}.ckpt")

    @property
    def complete(self) -> bool:
        """Whether the run has finished and everything is on disk."""
        return self._complete.exists()

    def prepare(self) -> None:
        """Make the directories."""
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(
                f"cannot create the run directory {self.path}: {error.strerror}; choose a writable folder with --out"
            ) from error

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Write the manifest whole."""
        write_atomic(self.manifest, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())

    def finish(self) -> None:
        """Write the marker that makes this a result, with the digests of all files; call it after everything else."""
        write_atomic(self._complete, checksums(self.path).encode())

    def reopen(self) -> None:
        """Take the marker away: what follows from the last checkpoint is made again."""
        self._complete.unlink(missing_ok=True)

    def reset(self) -> None:
        """Forget what an earlier run left (``--force``); the marker goes first."""
        self.reopen()
        checkpoints = self.last.parent.glob("*.ckpt")
        for path in (self.metrics, self.history, self.profile, self.ranks, self.log, *checkpoints):
            path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises
        ------
        RunHeldError
            If another process holds it; says which.
        """
        self.prepare()
        holder = self.path / "holder.json"
        lock = FileLock(self.path / "run.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunHeldError(
                f"run {self.spec.id} is held by {describe_holder(holder)}; its files: {self.path}"
            ) from None
        try:
            for folder in (self.path, self.last.parent):
                clear_leftovers(folder)
            me = {"pid": os.getpid(), "host": socket.gethostname()}
            write_atomic(holder, canonical_json(me).encode())
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def describe_holder(path: Path) -> str:
    """Say who holds a run, from the file its process wrote."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(holder['pid'])} on {str(holder['host'])[:64]!a}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
