"""Weights that runs start from: cached ones are checked when they are read, ImageNet's by the hash of the name."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.runs.stopping import stoppable
from harness.runs.weights import digest_of
from harness.training import source, weights
from harness.training.checkpoint import save_checkpoint
from harness.training.progress import Reporter

CONFIG = EngineConfig(
    architecture="resnet18", height=32, width=16, weights="synthetic-source", precision="32"
)
SHORT = {"IDENTITIES": 3, "IMAGES": 2, "ITERATIONS": 4, "BATCH": 3}
"""A source training of three people and four iterations."""
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


class SmallNetwork(torch.nn.Module):
    def __init__(self, _architecture: str, identities: int) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        self.classifier = torch.nn.Linear(4, identities)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.trunk(images).mean((2, 3)))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SHORT, "SourceNetwork": SmallNetwork, "source_precision": lambda *_: "32"}.items():
        monkeypatch.setattr(source, name, value)


def train(kept: Path) -> str:
    return digest_of(source.train_source("resnet18", 32, 16, Reporter(Console(stderr=True)), kept))


def stop_within(monkeypatch: pytest.MonkeyPatch, iteration: int, number: int) -> None:
    """Have a signal come within an iteration of the first source training."""
    jitter, calls = source.jitter, []

    def signalled(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == iteration + 1:
            signal.raise_signal(number)
        return jitter(*arguments)

    monkeypatch.setattr(source, "jitter", signalled)


@pytest.mark.usefixtures("short")
def test_a_source_training_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, kept = train(tmp_path / "other.ckpt"), tmp_path / "kept.ckpt"
    stop_within(monkeypatch, 1, signal.SIGTERM)
    with pytest.raises(SystemExit, match="75"), stoppable():
        train(kept)
    assert "2 of its 4 iterations are kept" in capsys.readouterr().err
    assert train(kept) == undisturbed
    assert "going on with the source training after 2 of 4" in capsys.readouterr().err


@pytest.mark.usefixtures("short")
def test_a_source_training_that_was_killed_goes_on_from_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, kept = train(tmp_path / "other.ckpt"), tmp_path / "kept.ckpt"
    monkeypatch.setattr(source, "SAVE_EVERY_S", -1.0)
    calls: list[int] = []

    def killed(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(source, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train(kept)
    monkeypatch.setattr(source, "save_checkpoint", save_checkpoint)
    assert train(kept) == undisturbed
    assert "after 3 of 4" in capsys.readouterr().err
    kept.write_bytes(kept.read_bytes()[:-9])
    assert train(kept) == undisturbed
    assert "the source training begins again" in capsys.readouterr().err


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
        weights.imagenet("resnet18", print)
    # a file of the right hash is still not unpickled
    monkeypatch.setattr(weights, "hash_of_name", lambda _name: hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(HarnessError, match="it holds a Python object"):
        weights.imagenet("resnet18", print)
    assert not Path("executed").exists()
