"""Weight files of strangers: read, or refused in one message."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.errors import HarnessError
from harness.runs.weights import digest_of, read_weights


def test_names_that_data_parallel_wrapped_are_unwrapped(tmp_path: Path) -> None:
    torch.save({"module.conv1.weight": torch.ones(2), "module.fc.bias": torch.ones(1)}, tmp_path / "w.pth")
    assert set(read_weights(tmp_path / "w.pth")) == {"conv1.weight", "fc.bias"}


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
        ("keys.pth", lambda path: torch.save({1: torch.zeros(1)}, path), "1 names a tensor, but is no text"),
        ("meta.pth", lambda path: torch.save({"w": torch.zeros(2, device="meta")}, path), "of the kind meta"),
        (
            "huge.pth",
            lambda path: torch.save({"w": torch.zeros(1).expand(2**40)}, path),
            "names 4398046511104 bytes, of which the file holds 4",
        ),
        (
            "sparse.pth",
            lambda path: torch.save({"w": torch.zeros(2, 2).to_sparse()}, path),
            "of the kind torch.sparse_coo",
        ),
        (
            "scalar.pth",
            lambda path: torch.save({"w": torch.zeros(2), "best": np.float64(0.5)}, path),
            r"it holds a Python object, [\w.]*scalar; save the tensors alone",
        ),
    ],
)
def test_other_files_are_refused(
    name: str, write: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(HarnessError, match=f"{re.escape(str(tmp_path / name))}.*{words}") as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_every_type_of_number_has_a_digest(tmp_path: Path) -> None:
    state = {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "learned": torch.nn.Parameter(torch.zeros(2)),
        "count": torch.tensor(3),
    }
    torch.save(state, tmp_path / "w.pth")
    assert digest_of(read_weights(tmp_path / "w.pth")) == digest_of(state)
    state["half"][1] = 2
    assert digest_of(read_weights(tmp_path / "w.pth")) != digest_of(state)


def test_a_name_that_no_table_can_hold_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "we\nights.pth")
    with pytest.raises(HarnessError, match="must be printable; rename the file"):
        read_weights(tmp_path / "we\nights.pth")
