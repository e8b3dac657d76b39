"""Takes from finished runs what only resuming needs (``reidbench runs --prune``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from harness.runs.files import write_atomic
from harness.runs.holder import holding
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from results.checksums import COMPLETE, changed_files, checksums
from results.errors import ResultsError

ONLY_FOR_RESUMING = ("optimisers", "schedules")
"""Entries of a checkpoint that nothing reads once a run has finished."""


class Pruned(NamedTuple):
    """How many runs were made smaller, and by how many bytes."""

    runs: int
    freed: int


def prune_runs(paths: Iterable[Path]) -> Pruned:
    """Prune finished runs; those that are pruned already stay as they are.

    Raises
    ------
    ResultsError
        If a file of one is not what the run wrote: pruning would vouch for it.
    RunHeldError
        If another process is at work on one.
    """
    freed = [prune(path) for path in paths]
    return Pruned(sum(one > 0 for one in freed), sum(freed))


def prune(run: Path) -> int:
    """Prune a finished run; return the bytes that it has lost.

    The run counts as unfinished while its checkpoint is rewritten; if that is broken off, the same command finishes it.
    """
    last = run / "checkpoints" / "last.ckpt"
    if is_pruned(run):
        return 0
    with holding(run, run.name):
        if wrong := changed_files(run):
            raise ResultsError(
                f"{run}/{wrong[0]}; it is not pruned. Restore the file, or run it again with --force"
            )
        before = size_of(run)
        saved = load_checkpoint(last)
        (run / COMPLETE).unlink()
        save_checkpoint(last, {**saved, **{name: {} for name in ONLY_FOR_RESUMING}})
        for other in last.parent.glob("best-*.ckpt"):  # a later stage has started from it
            other.unlink()
        write_atomic(run / COMPLETE, checksums(run).encode())
        return before - size_of(run)


def is_pruned(run: Path) -> bool:
    """Say whether a run has nothing to lose: it was pruned, or never had an optimiser."""
    last = run / "checkpoints" / "last.ckpt"
    return not last.is_file() or not load_checkpoint(last)["optimisers"]


def size_of(run: Path) -> int:
    """Return the bytes of a run's checkpoints."""
    return sum(path.stat().st_size for path in (run / "checkpoints").glob("*.ckpt"))
