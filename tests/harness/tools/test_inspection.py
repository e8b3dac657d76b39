"""``reidbench doctor RUN|DATA``: everything that is wrong, in one list."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError
from harness.tools.inspection import inspect
from harness.training.checkpoint import save_checkpoint
from tests.results.cases import finish, regdb_rows, write_run


def wrong(path: Path) -> dict[str, str]:
    return {check.name: check.detail for check in inspect(path) if not check.ok}


def test_a_damaged_run_is_listed_whole(tmp_path: Path) -> None:
    run = write_run(tmp_path, regdb_rows())
    last = run / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    save_checkpoint(last, {"w": torch.ones(4)})
    finish(run)
    assert set(wrong(run)) == {"manifest"}, "made-up runs have a short one"
    raw = bytearray(last.read_bytes())
    raw[-2] ^= 8
    last.write_bytes(raw)
    (run / "history.csv").unlink()
    (run / "log.txt").symlink_to("elsewhere")
    (run / ".metrics.csv.7-0123abcd").write_text("half")
    found = {check.name: check for check in inspect(run)}
    assert {name for name, check in found.items() if not check.ok} == {
        *("manifest", "files", "tables", "last.ckpt", "log.txt"),
    }
    assert "history.csv" in " ".join(check.detail for check in inspect(run))
    last.parent.rename(tmp_path / "elsewhere")
    last.parent.symlink_to(tmp_path / "elsewhere")
    assert "checkpoints" in wrong(run)
    assert "1 of a killed process" in found["leftovers"].detail


def test_a_damaged_twin_is_listed(tiny_regdb: Path, tmp_path: Path) -> None:
    assert not wrong(tiny_regdb)
    root = Path(shutil.copytree(tiny_regdb, tmp_path / "regdb"))
    image = next((root / "Visible").rglob("*.bmp"))
    image.write_bytes(image.read_bytes()[:100])
    (root / "Visible" / "notes.txt").touch()
    assert str(image) in wrong(root)["image"]
    assert any("notes.txt" in check.detail for check in inspect(root))


def test_another_folder_is_refused_or_no_data(tmp_path: Path) -> None:
    assert "looked for" in wrong(tmp_path)["data"]
    with pytest.raises(HarnessError, match="no such folder"):
        inspect(tmp_path / "nowhere")
