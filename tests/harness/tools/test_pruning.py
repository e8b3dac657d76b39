"""Pruned runs: smaller, still whole, and never vouched for if they were damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.tools.pruning import is_pruned, prune, prune_runs
from harness.training.checkpoint import load_checkpoint, save_checkpoint
from results.checksums import changed_files
from results.errors import ResultsError
from tests.results.cases import finish, regdb_rows, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = write_run(tmp_path, regdb_rows())
    (path / "checkpoints").mkdir()
    state = {
        "run": path.name,
        "history": [{"epoch": 0, "measured": {"loss": float("nan")}}],
        "modules": {"backbone": {"weight": torch.arange(1000.0)}},
        "optimisers": {
            "model": {"state": {"0": {"exp_avg": torch.ones(2000)}}, "param_groups": [{"lr": 0.1}]}
        },
        "schedules": {"model": {"last_epoch": 3}},
    }
    save_checkpoint(path / "checkpoints" / "last.ckpt", state)
    save_checkpoint(path / "checkpoints" / "best-intra.ckpt", {"modules": state["modules"]})
    return finish(path)


def test_a_pruned_run_is_smaller_and_whole(run: Path) -> None:
    before = load_checkpoint(run / "checkpoints" / "last.ckpt")
    assert not is_pruned(run)
    done = prune_runs([run])
    assert done.runs == 1
    assert done.freed > 8000
    assert is_pruned(run)
    assert changed_files(run) == []
    after = load_checkpoint(run / "checkpoints" / "last.ckpt")
    assert after.keys() == before.keys()
    assert (after["optimisers"], after["schedules"]) == ({}, {})
    assert torch.equal(after["modules"]["backbone"]["weight"], before["modules"]["backbone"]["weight"])
    assert not (run / "checkpoints" / "best-intra.ckpt").exists()
    assert prune(run) == 0


def test_a_damaged_run_is_not_pruned(run: Path) -> None:
    (run / "history.csv").write_text("epoch\n")
    with pytest.raises(ResultsError, match=r"history\.csv: it has changed.* it is not pruned"):
        prune(run)
    assert (run / "COMPLETE").exists()
