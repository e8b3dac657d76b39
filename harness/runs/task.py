"""A task: a run, and how this process executes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.runs.directory import RunDirectory
from harness.runs.run_spec import RunSpec
from protocols.base import Protocol


@dataclass(frozen=True)
class Execution:
    """How runs are executed. None of it changes a run's identity.

    Attributes
    ----------
    device : str
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
    workers : int
        Processes that read images ahead, where those fit into no memory.
    out : Path
        Folder of all runs.
    force : bool
        Run again although the run has finished.
    images : Path
        Folder of decoded images, shared by all runs.
    kept : bool
        Whether the run's files outlive the command.
    """

    device: str = "auto"
    workers: int = 0
    out: Path = Path("runs")
    force: bool = False
    images: Path = Path("data") / "images"
    kept: bool = True


@dataclass(frozen=True)
class Task:
    """A run, where its data are, the protocols that score it, and how this process executes it."""

    spec: RunSpec
    root: Path
    protocols: tuple[Protocol, ...]
    execution: Execution = Execution()

    @property
    def allow_partial(self) -> bool:
        """Whether counts may differ from the known ones (always marked in the rows)."""
        return self.spec.data != "real"

    @property
    def directory(self) -> RunDirectory:
        """The files of the run."""
        return RunDirectory(self.execution.out, self.spec)
