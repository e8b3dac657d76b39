"""What all runs share is made once, by one of those that need it at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from harness.inputs import cache
from harness.inputs.images import ImageFiles
from harness.runs import data
from harness.training import kernels, weights
from harness.training.progress import Reporter
from protocols.regdb import RegDBData

WORKERS = 8


class Slow:
    """Makes something slowly, and counts how often."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make, self.calls = make, 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        threading.Event().wait(0.05)
        return self.make(*arguments, **named)


def at_once(work: Callable[[], Any]) -> list[Any]:
    """Do something in all workers at the same moment; each has locks of its own, as processes have."""
    gate = threading.Barrier(WORKERS)

    def wait(_: int) -> Any:
        gate.wait()
        return work()

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(wait, range(WORKERS)))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_decoded_images(tiny_regdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Slow(cache.make)
    monkeypatch.setattr(cache, "make", made)
    paths = tuple(str(path.relative_to(tiny_regdb)) for path in sorted(tiny_regdb.rglob("*.bmp"))[:4])
    files = ImageFiles(tiny_regdb, paths, 8, 4, Image.Resampling.BICUBIC)
    found = at_once(lambda: cache.open_cache(files, Path("images"), print))
    assert made.calls == 1
    rows = np.arange(len(paths))
    assert all(torch.equal(one.take(rows), found[0].take(rows)) for one in found)


def test_the_data_fingerprint(tiny_regdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Slow(data.fingerprint)
    monkeypatch.setattr(data, "fingerprint", made)
    assert len(set(at_once(lambda: data.data_digest(tiny_regdb, RegDBData())))) == 1
    assert made.calls == 1


def test_source_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Slow(lambda *_: {"conv1.weight": torch.arange(3.0)})
    monkeypatch.setattr(weights, "train_source", made)
    monkeypatch.setattr(weights, "weights_identity", lambda _: "synthetic-source x")
    config: Any = SimpleNamespace(architecture="resnet18", height=32, width=16)
    reporter = Reporter(Console(quiet=True))
    assert len(at_once(lambda: weights.synthetic_source(config, reporter))) == WORKERS
    assert made.calls == 1


def test_the_imagenet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Slow(lambda _url, path, *_, **__: torch.save({"conv1.weight": torch.zeros(1)}, path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", made)
    monkeypatch.setattr(weights, "hash_of_name", lambda _: "")
    assert len(at_once(lambda: weights.imagenet("resnet18", print))) == WORKERS
    assert made.calls == 1


def test_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes first compiles; the others wait, and then load what is there."""
    compiled = Slow(lambda: Path("compiled").touch())
    monkeypatch.setattr(kernels, "load_kernels", lambda: None if Path("compiled").exists() else compiled())
    at_once(lambda: kernels.compile_once(print))
    assert compiled.calls == 1
    assert list(kernels.COMPILED.glob("*"))
