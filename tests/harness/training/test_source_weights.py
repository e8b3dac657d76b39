"""Weights that runs start from: cached ones are checked when they are read, ImageNet's by the hash of the name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.training import weights
from harness.training.progress import Reporter

CONFIG = EngineConfig(
    architecture="resnet18", height=32, width=16, weights="synthetic-source", precision="32"
)
STATE = {"conv1.weight": torch.arange(12.0).reshape(3, 4)}


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the training of source weights; count how often it is done."""
    done: list[int] = []

    def train(*_: object) -> dict[str, torch.Tensor]:
        done.append(1)
        return dict(STATE)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "train_source", train)
    return done


def load() -> dict[str, torch.Tensor]:
    return weights.synthetic_source(CONFIG, Reporter(Console(stderr=True)))


def cache() -> Path:
    (path,) = weights.CACHE.glob("*.safetensors")
    return path


def test_source_weights_are_trained_once(trained: list[int]) -> None:
    assert torch.equal(load()["conv1.weight"], STATE["conv1.weight"])
    assert torch.equal(load()["conv1.weight"], STATE["conv1.weight"])
    assert len(trained) == 1


@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_damaged_source_weights_are_made_again(
    trained: list[int], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load()
    raw = bytearray(cache().read_bytes())
    raw[-3] ^= 64
    cache().write_bytes(raw if damage == "bit" else raw[:-8])
    assert torch.equal(load()["conv1.weight"], STATE["conv1.weight"])
    assert len(trained) == 2
    assert "is damaged" in capsys.readouterr().err


def test_source_weights_without_a_digest_are_warned_of(trained: list[int]) -> None:
    load()
    save_file(STATE, cache())
    with pytest.warns(UserWarning, match="has no digest"):
        load()
    assert len(trained) == 1


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_the_imagenet_file_is_what_its_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = Path(torch.hub.get_dir()) / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    torch.save({"conv1.weight": Evil()}, path)
    with pytest.raises(HarnessError, match="is not the file of that name: its SHA-256 begins with"):
        weights.imagenet("resnet18")
    # a file of the right hash is still not unpickled
    monkeypatch.setattr(weights, "hash_of_name", lambda _name: hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(HarnessError, match="it holds a Python object"):
        weights.imagenet("resnet18")
    assert not Path("executed").exists()
