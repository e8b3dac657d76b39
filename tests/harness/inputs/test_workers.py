"""Worker processes: items in order, and an end in a message where one cannot be made or passed on."""

from __future__ import annotations

import os
import signal
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from harness.errors import HarnessError, format_error, understood
from harness.inputs import workers
from harness.inputs.images import read_image
from harness.inputs.workers import ahead, bytes_in

Space = namedtuple("Space", "f_bavail f_frsize")


class Numbers(Dataset[dict[str, torch.Tensor]]):
    """Twelve items; what `odd` does happens at the fourth."""

    def __init__(self, odd: str = "") -> None:
        self.odd = odd

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == 3 and self.odd == "refuse":
            raise HarnessError("cannot read the image x.bmp")
        if index == 3 and self.odd == "bug":
            raise KeyError("x")
        if index == 3 and self.odd == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return {
            "x": torch.full((4,), index),
            "stops": torch.tensor(signal.getsignal(signal.SIGINT) == signal.SIG_IGN),
        }


@pytest.mark.parametrize("count", [0, 2])
def test_items_come_in_order(count: int) -> None:
    assert [int(item["x"][0]) for item in ahead(Numbers(), count)] == list(range(12))


def test_workers_leave_interrupts_to_the_process_that_started_them() -> None:
    assert all(bool(item["stops"]) for item in ahead(Numbers(), 2))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_what_a_person_can_fix_is_said_without_a_traceback() -> None:
    with pytest.raises(HarnessError) as caught:
        list(ahead(Numbers("refuse"), 2))
    assert str(caught.value) == "cannot read the image x.bmp"


def test_a_bug_in_a_worker_keeps_its_traceback() -> None:
    with pytest.raises(KeyError, match="Original Traceback"):
        list(ahead(Numbers("bug"), 2))


def test_a_killed_worker_is_named() -> None:
    with pytest.raises(RuntimeError) as caught:
        list(ahead(Numbers("killed"), 2))
    assert "use fewer --workers" in format_error(understood(caught.value))[0]


def test_a_small_shared_memory_ends_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHARED", Path("/"))
    monkeypatch.setattr(workers.os, "statvfs", lambda _path: Space(1, 48))
    with pytest.raises(HarnessError, match=r"shared memory .* has 0.0 MiB free, 2 worker processes"):
        list(ahead(Numbers(), 2))


def test_bytes_of_nested_values() -> None:
    assert bytes_in({"a": torch.zeros(3), "b": [torch.zeros(2, dtype=torch.uint8), "text", None, 3]}) == 14


def test_images_that_would_turn_white_or_never_come_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 999, np.uint16)).save(tmp_path / "deep.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "text.bmp").write_bytes(b"P1\n8 i\n" + bytes(40))
    for name, words in (("deep", "more than 8 bits"), ("pipe", "no regular one"), ("text", "text.bmp")):
        (path,) = tmp_path.glob(f"{name}.*")
        with pytest.raises(HarnessError, match=f"cannot read the image .*{words}"):
            read_image(path, 4, 4, Image.Resampling.BICUBIC)
