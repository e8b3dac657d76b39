"""Manifests: where a run was begun, and what it is called."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.runs.manifest import differences, earlier_environments


def directory(tmp_path: Path, manifest: str) -> Any:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "last.ckpt").touch()
    return SimpleNamespace(manifest=tmp_path / "manifest.json", last=tmp_path / "last.ckpt")


def test_environments_of_the_first_epochs_are_kept(tmp_path: Path) -> None:
    first = {"environment": {"packages": {"torch": "2.6"}}, "device": "cpu"}
    second = {"environment": {"packages": {"torch": "2.7"}}, "device": "cuda:0"}
    run = directory(tmp_path, json.dumps({**second, "earlier": [first]}))
    assert earlier_environments(run) == (first, second)
    run.last.unlink()
    assert earlier_environments(run) == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"environment": 1}', "[" * 100_000])
def test_a_damaged_manifest_of_an_unfinished_run_is_warned_of(tmp_path: Path, text: str) -> None:
    with pytest.warns(UserWarning, match=r"manifest\.json is damaged"):
        assert earlier_environments(directory(tmp_path, text)) == ()


def test_differences_name_packages_and_machine() -> None:
    then = {"packages": {"torch": "2.6", "numpy": "2.0"}, "cpu": "A", "memory_gib": 1, "device": "cpu"}
    now = {"packages": {"torch": "2.7", "numpy": "2.0"}, "cpu": "B", "memory_gib": 2, "device": "cpu"}
    assert differences(then, now) == ["torch 2.6 then, 2.7 now", "cpu A then, B now"]
    assert differences(now, now) == []
