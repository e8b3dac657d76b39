from __future__ import annotations

import pytest
import torch

from harness.errors import HarnessError, RunHeldError, explain, mendable


def test_exit_codes() -> None:
    assert explain(HarnessError("wrong")) == ("wrong", 2)
    assert explain(RunHeldError("held")) == ("held", 3)


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 8 TiB"), torch.OutOfMemoryError("CUDA: 8 TiB\nmore")]
)
def test_a_full_memory_is_explained_in_one_line(error: BaseException) -> None:
    assert isinstance(error, mendable())
    text, code = explain(error)
    assert code == 2
    assert "8 TiB" in text
    assert "\n" not in text
