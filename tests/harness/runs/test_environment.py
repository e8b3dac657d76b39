from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from harness.runs import environment


def test_manifest_is_json_and_names_what_decides_numbers() -> None:
    found = environment.manifest_environment()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0
    assert found["threads"] == torch.get_num_threads()
    assert {"cuda", "cudnn", "gpus", "cpu", "platform", "determinism", "commit", "dirty"} <= set(found)


def test_manifest_holds_no_secret_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2-and-more")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = json.dumps(environment.manifest_environment())
    assert "hunter2" not in text
    assert str(Path.home()) not in text
    assert '"OMP_NUM_THREADS": "1"' in text


def test_manifest_follows_the_determinism_switches() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for value in (True, False):
            torch.use_deterministic_algorithms(value)
            assert environment.determinism()["deterministic_algorithms"] is value
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize(
    ("status", "dirty"), [("", False), (" M harness/runs/run_spec.py", True), (None, None)]
)
def test_code_state_of_a_checkout(
    monkeypatch: pytest.MonkeyPatch, status: str | None, dirty: bool | None
) -> None:
    answers = {"ls-files": "harness/runs/environment.py", "status": status, "rev-parse": "a" * 40}
    monkeypatch.setattr(environment, "git", lambda *arguments: answers[arguments[0]])
    assert environment.code_state() == {"commit": "a" * 40, "dirty": dirty}


def test_code_state_without_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installed package inside somebody's own repository must not report that repository's commit."""
    monkeypatch.setattr(environment, "CODE", tmp_path)
    assert environment.code_state() == {"commit": None, "dirty": None}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git("status") is None
