"""``make gpu``, as far as it goes without a device: it says so; and the page that it writes where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests import gpu


def test_without_a_device_it_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(path=tmp_path / "page.md") == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("loss", "code", "word"), [(1.01, 0, "within the"), (1.5, 1, "BEYOND the")])
def test_the_page_has_every_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: float, code: int, word: str
) -> None:
    def run(words: Sequence[str]) -> str:
        if "run" in words:
            device = words[words.index("--device") + 1]
            folder = Path(words[words.index("--out") + 1]) / "a" / "b" / "c"
            folder.mkdir(parents=True)
            first = loss if device == "cuda" else 1.0
            for name, values in {
                "metrics": {"checkpoint": ["last"], "metric": ["mAP"], "value": [40.0]},
                "history": {"loss_cluster": [first]},
                "profile": {"peak_memory_mib": [512.0]},
            }.items():
                pd.DataFrame(values).to_csv(folder / f"{name}.csv")
        return "measured"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "cuda_state", lambda: {"gpus": ["A100"], "cuda": "13", "cudnn": 9})
    assert gpu.main(run, tmp_path / "page.md") == code
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "A100; CUDA 13, cuDNN 9" in text
    assert all(f"## {section.title}\n" in text for section in gpu.SECTIONS)
    assert "`reidbench time --device cuda --n 600000 --against none --repeat 1`" in text
    assert f"{word} tolerance" in text
    assert "512" in text
