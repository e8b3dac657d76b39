from __future__ import annotations

from pathlib import Path

import pytest

from harness.runs.environment import PACKAGES
from harness.tools import doctor as doctor_module
from harness.tools.doctor import (
    check_data,
    check_disk,
    check_faiss,
    check_kernels,
    check_packages,
    check_writable,
    doctor,
)


def test_two_faiss_distributions_are_wrong() -> None:
    both = check_faiss(["faiss-cpu", "faiss-gpu"])
    assert not both.ok
    assert "uninstall faiss-cpu faiss-gpu" in both.fix
    assert check_faiss([]).ok


def test_missing_packages_are_named() -> None:
    found = {name: "1" for name in PACKAGES if name not in ("scipy", *doctor_module.OPTIONAL)}
    check = check_packages(found)
    assert not check.ok
    assert "install scipy:" in check.fix
    assert check_packages(found | {"scipy": "1"}).ok


def test_disk_and_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "not" / "yet"
    assert check_writable(out).ok
    assert not out.exists()
    monkeypatch.setattr(doctor_module, "FREE_GIB", 0)
    assert check_disk(out).ok
    monkeypatch.setattr(doctor_module, "FREE_GIB", 10**9)
    assert "--out" in check_disk(out).fix
    (tmp_path / "file").write_text("")
    assert not check_writable(tmp_path / "file" / "runs").ok


def test_data_roots(tmp_path: Path, tiny_regdb: Path) -> None:
    assert check_data("").ok
    assert check_data("synthetic").ok
    assert check_data(str(tiny_regdb)).detail.endswith("holds regdb")
    wrong = check_data(str(tmp_path))
    assert not wrong.ok
    assert str(tmp_path) in wrong.detail
    assert "REIDBENCH_DATA" in wrong.fix


def test_kernels_that_do_not_compile_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler")

    assert check_kernels().ok
    monkeypatch.setattr("protocols.metrics.evaluate", broken)
    found = check_kernels()
    assert not found.ok
    assert "no compiler" in found.detail


def test_the_doctor_names_a_fix_for_whatever_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REIDBENCH_DATA", str(tmp_path / "nowhere"))
    checks = {check.name: check for check in doctor(tmp_path, tmp_path / "images")}
    names = {"versions", "torchvision", "devices", "faiss", "kernels", "disk", "output", "images", "data"}
    assert set(checks) == names
    assert not checks["data"].ok
    assert all(check.ok != bool(check.fix) for check in checks.values())
