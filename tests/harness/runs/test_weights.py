"""Weight files of strangers: read, or refused in one message."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.errors import HarnessError
from harness.runs.weights import read_weights


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_state_dict_comes_back(name: str, tmp_path: Path) -> None:
    state = {"conv1.weight": torch.arange(6.0).reshape(2, 3)}
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    assert torch.equal(read_weights(path)["conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("text.pth", lambda path: path.write_text("not weights"), "not a state dict"),
        ("text.safetensors", lambda path: path.write_text("not weights"), "not a state dict"),
        ("empty.pth", lambda path: path.write_bytes(b""), "not a state dict"),
        ("list.pth", lambda path: torch.save([1, 2], path), "not a state dict"),
        ("object.pth", lambda path: torch.save({"args": Namespace(a=1)}, path), "not a state dict"),
        (
            "nested.pth",
            lambda path: torch.save({"state_dict": {}, "epoch": 3}, path),
            "holds 'state_dict', 'epoch'",
        ),
        ("nowhere.pth", lambda path: None, "no such file"),
    ],
)
def test_other_files_are_refused(
    name: str, write: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(HarnessError, match=f"{re.escape(str(tmp_path / name))}.*{words}") as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)
