"""The directory of a run: its files, its lock, and the marker that makes it a result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.runs.files import write_atomic
from harness.runs.holder import holding, still_mine
from harness.runs.run_spec import RunSpec
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
        """Make the directories.

        Raises
        ------
        HarnessError
            If they cannot be made, or checkpoints would go elsewhere by a link that somebody left there.
        """
        if self.last.parent.is_symlink():
            raise HarnessError(
                f"{self.last.parent} is a link, and a run writes into its own directory alone; delete it, "
                "or choose another disk with --out"
            )
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(
                f"cannot create the run directory {self.path}: {error.strerror}; choose a writable folder with --out"
            ) from error

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Write the manifest whole."""
        self.still_mine()
        write_atomic(self.manifest, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())

    def finish(self) -> None:
        """Write the marker that makes this a result, with the digests of all files; call it after everything else."""
        self.still_mine()
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

    def still_mine(self) -> None:
        """Refuse to go on in a run that another process has taken over (:class:`~harness.errors.RunHeldError`)."""
        still_mine(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises
        ------
        RunHeldError
            If another process holds it; says which.
        """
        self.prepare()
        with holding(self.path, self.spec.id):
            for folder in (self.path, self.last.parent):
                clear_leftovers(folder)
            yield
