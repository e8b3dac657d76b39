from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from harness.runs import environment
from harness.runs.environment import (
    check_data,
    check_disk,
    check_faiss,
    check_kernels,
    check_packages,
    check_writable,
    doctor,
)


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


def test_two_faiss_distributions_are_wrong() -> None:
    both = check_faiss(["faiss-cpu", "faiss-gpu"])
    assert not both.ok
    assert "uninstall faiss-cpu faiss-gpu" in both.cure
    assert check_faiss([]).ok


def test_missing_packages_are_named() -> None:
    found = {name: "1" for name in environment.PACKAGES if name not in ("scipy", *environment.OPTIONAL)}
    check = check_packages(found)
    assert not check.ok
    assert "install scipy:" in check.cure
    assert check_packages(found | {"scipy": "1"}).ok


def test_disk_and_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "not" / "yet"
    assert check_writable(out).ok
    assert not out.exists()
    monkeypatch.setattr(environment, "FREE_GIB", 0)
    assert check_disk(out).ok
    monkeypatch.setattr(environment, "FREE_GIB", 10**9)
    assert "--out" in check_disk(out).cure
    (tmp_path / "file").write_text("")
    assert not check_writable(tmp_path / "file" / "runs").ok


def test_data_roots(tmp_path: Path, tiny_regdb: Path) -> None:
    assert check_data("").ok
    assert check_data("synthetic").ok
    assert check_data(str(tiny_regdb)).detail.endswith("holds regdb")
    wrong = check_data(str(tmp_path))
    assert not wrong.ok
    assert str(tmp_path) in wrong.detail
    assert "REIDBENCH_DATA" in wrong.cure


def test_kernels_that_do_not_compile_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler")

    assert check_kernels().ok
    monkeypatch.setattr("protocols.metrics.evaluate", broken)
    found = check_kernels()
    assert not found.ok
    assert "no compiler" in found.detail


def test_the_doctor_cures_whatever_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIDBENCH_DATA", str(tmp_path / "nowhere"))
    checks = {check.name: check for check in doctor(tmp_path)}
    assert set(checks) == {"versions", "torchvision", "devices", "faiss", "kernels", "disk", "output", "data"}
    assert not checks["data"].ok
    assert all(check.ok != bool(check.cure) for check in checks.values())
