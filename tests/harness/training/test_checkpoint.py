"""Checkpoints: equal states give equal bytes, and a single flipped bit is found."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness.errors import HarnessError
from harness.training.checkpoint import load_checkpoint, save_checkpoint

STATE: dict[str, Any] = {
    "run": "abc",
    "done": 3,
    "rate": float("nan"),
    "none": None,
    "modules": {"net": {"w": torch.arange(6.0).reshape(2, 3), "half": torch.ones(3, dtype=torch.bfloat16)}},
    "rows": [{"mAP": 0.1, "empty": torch.empty(0, dtype=torch.int64)}, torch.tensor(True)],
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "last.ckpt", STATE)
    return tmp_path / "last.ckpt"


def test_a_state_comes_back_and_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    found = load_checkpoint(saved)
    assert found["done"] == 3
    assert torch.equal(found["modules"]["net"]["w"], STATE["modules"]["net"]["w"])
    assert found["modules"]["net"]["half"].dtype == torch.bfloat16
    assert found["rows"][0]["empty"].shape == (0,)
    save_checkpoint(tmp_path / "again.ckpt", found)
    assert (tmp_path / "again.ckpt").read_bytes() == saved.read_bytes()


def test_every_flipped_bit_is_found(saved: Path) -> None:
    raw, dice = saved.read_bytes(), random.Random(0)
    for place in (*range(len(raw) - 60, len(raw)), *(dice.randrange(len(raw)) for _ in range(300))):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << dice.randrange(8)
        saved.write_bytes(damaged)
        try:
            found = load_checkpoint(saved)
        except HarnessError as error:
            assert "is not a readable checkpoint" in str(error)  # noqa: PT017 - most bits, not all
        else:  # a bit of the padding between header and numbers
            assert torch.equal(found["modules"]["net"]["w"], STATE["modules"]["net"]["w"]), place


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(HarnessError, match=r"is not a readable checkpoint .*--force"):
        load_checkpoint(tmp_path / "last.ckpt")


def test_a_checkpoint_without_a_digest_is_read_with_a_warning(tmp_path: Path) -> None:
    nesting = json.dumps({"done": 2, "w": {"__tensor__": "state.w"}})
    save_file({"state.w": torch.ones(2)}, tmp_path / "old.ckpt", metadata={"state": nesting})
    with pytest.warns(UserWarning, match=r"old\.ckpt has no digest"):
        found = load_checkpoint(tmp_path / "old.ckpt")
    assert found["done"] == 2
    assert torch.equal(found["w"], torch.ones(2))
