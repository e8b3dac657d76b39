"""``reidbench runs``: every run with its state, whatever the state."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from harness.runs.holder import myself
from harness.tools.overview import as_text, overview
from results.errors import ResultsError
from tests.results.cases import regdb_rows, write_run

WRITTEN = "2026-01-01T00:00:00Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs in every state, a seed each, and a directory that is none."""
    states = {
        0: {"status": "complete"},
        1: {"status": "running", "holder": asdict(myself())},
        2: {"status": "running"},
        3: {"status": "running", "holder": {"pid": 1, "host": "elsewhere"}},
        4: {"status": "stopped", "reason": "Stopped: interrupted"},
        5: {"status": "stopped", "reason": "HarnessError: the loss is not finite"},
    }
    for seed, state in states.items():
        eps = 0.5 if seed == 5 else 0.6
        path = write_run(tmp_path, regdb_rows(seed=seed), spec={"config": {"k1": 20, "eps": eps}})
        manifest = json.loads((path / "manifest.json").read_text())
        holder = state.pop("holder", None)
        (path / "manifest.json").write_text(
            json.dumps(manifest | state | {"epochs": 12, "written": WRITTEN, "changed": {"k1": 20}}),
            encoding="utf-8",
        )
        if holder:
            (path / "holder.json").write_text(json.dumps(holder), encoding="utf-8")
        if seed:
            (path / "COMPLETE").unlink()
    damaged = tmp_path / "regdb" / "dmic" / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{", encoding="utf-8")
    return tmp_path


def test_every_state_is_told(folder: Path) -> None:
    found, faults = overview([folder])
    frame = pd.DataFrame(found)
    by_seed = frame.set_index("seed")
    assert by_seed["state"].to_dict() == {
        0: "finished",
        1: f"running (process {os.getpid()} on '{socket.gethostname()}')",
        2: "killed",
        3: "running (process 1 on 'elsewhere')",
        4: "stopped",
        5: "failed (the loss is not finite)",
    }
    assert set(frame["epochs"]) == {"10 of 12"}
    rows = regdb_rows(seed=0)
    headline = rows[
        (rows["checkpoint"] == "last") & (rows["metric"] == "mAP") & (rows["setting"] == "visible-to-thermal")
    ]
    assert by_seed.loc[0, "mAP"] == pytest.approx(headline["value"].mean(), abs=0.01)
    assert by_seed.loc[4, "mAP"] == pytest.approx(30 + 1.5 * 9)
    assert set(frame["method"]) == {"dmic[k1=20, eps=0.5]", "dmic[k1=20, eps=0.6]"}
    assert all(text.endswith(" d") for text in frame["age"])
    (fault,) = faults
    assert "damaged" in fault


def test_conditions_and_formats(folder: Path) -> None:
    rows, _ = overview([folder], ["state=stopped,failed"], ["dmic[k1=20, eps=0.5]=small"])
    assert {row["seed"]: row["method"] for row in rows} == {4: "dmic[k1=20, eps=0.6]", 5: "small"}
    assert [row["seed"] for row in rows] == [4, 5]
    assert [one["seed"] for one in json.loads(as_text(rows, "json"))] == [4, 5]
    assert as_text(rows, "csv").startswith("run,method,preset,")
    header, *lines = as_text(rows, "text").splitlines()
    ends = header.index(" settings")
    assert len(lines[1]) == ends  # nothing to say at its end
    assert [line[ends:].strip() for line in lines] == ["k1=20, eps=0.6", ""]
    assert header.split() == [
        "run",
        "method",
        "preset",
        "dataset",
        "split",
        "seed",
        "state",
        "epochs",
        "mAP",
        "age",
        "settings",
    ]
    assert "stopped" in lines[0]
    with pytest.raises(ResultsError, match="state is failed, finished, killed, running, stopped"):
        overview([folder], ["state=lost"])


def test_the_command_needs_no_finished_run(
    folder: Path, reidbench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = reidbench("runs", folder, "--where", "seed=2")
    assert done.returncode == 0
    assert done.stdout.count("killed") == 1
    assert "damaged" in done.stderr
