"""bfloat16 is used where a device has units for it and its convolutions come out right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.runs import precision
from harness.runs.configuration import EngineConfig
from harness.runs.precision import bfloat16_comes_out_right, settle_precision, source_precision
from harness.training import source
from harness.training.progress import Reporter


def small(precision: str) -> EngineConfig:
    return EngineConfig(architecture="resnet18", height=64, width=32, precision=precision)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("native", "right", "expected"), [(True, True, "bf16"), (True, False, "32"), (False, True, "32")]
)
def test_auto_follows_the_hardware_and_what_it_computes(
    monkeypatch: pytest.MonkeyPatch, native: bool, right: bool, expected: str
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: native)
    monkeypatch.setattr(precision, "right_on_cpu", lambda *network: right)
    assert settle_precision(small("auto"), "cpu").precision == expected
    assert settle_precision(small("32"), "cpu").precision == "32"
    assert source_precision("resnet18", 64, 32) == expected


def test_bfloat16_that_comes_out_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "right_on_cpu", lambda *network: False)
    with pytest.raises(HarnessError, match=r"wrong for resnet18 at 64 x 32 pixels.*use --precision 32"):
        settle_precision(small("bf16"), "cpu")


def test_an_absent_device_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(HarnessError, match="no CUDA device"):
        settle_precision(small("auto"), "cuda")


class Faulty(nn.Conv2d):
    """A convolution whose bfloat16 results are wrong in one row of the output, as of oneDNN on AMX."""

    garbage = 0.0

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if torch.is_autocast_enabled("cpu"):
            y = torch.cat([y[:, :, :-1], torch.full_like(y[:, :, -1:], self.garbage)], 2)
        return y


@pytest.mark.parametrize("garbage", [None, 0.0, 1e37, float("nan")])
def test_one_wrong_convolution_is_found(garbage: float | None) -> None:
    torch.manual_seed(0)
    faulty = Faulty(8, 8, 3, stride=2, padding=1)
    if garbage is not None:
        faulty.garbage = garbage
    last = nn.Conv2d(8, 8, 3, padding=1) if garbage is None else faulty
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), last)
    assert bfloat16_comes_out_right(network, 16, 16) == (garbage is None)


def test_a_source_training_that_diverges_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(source, "ITERATIONS", 2)
    monkeypatch.setattr(source, "IDENTITIES", 8)
    monkeypatch.setattr(source, "SCALE", float("nan"))
    with pytest.raises(HarnessError, match=r"diverged.*nothing was kept"):
        source.train_source("resnet18", 32, 16, Reporter(Console(quiet=True)), tmp_path / "kept")
