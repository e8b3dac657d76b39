from __future__ import annotations

import pytest
import torch

from harness.errors import HarnessError, RunHeldError, format_error, user_errors


def test_exit_codes() -> None:
    assert format_error(HarnessError("wrong")) == ("wrong", 2)
    assert format_error(RunHeldError("held")) == ("held", 3)


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 8 TiB"), torch.OutOfMemoryError("CUDA: 8 TiB\nmore")]
)
def test_a_full_memory_is_explained_in_one_line(error: BaseException) -> None:
    assert isinstance(error, user_errors())
    text, code = format_error(error)
    assert code == 2
    assert "8 TiB" in text
    assert "\n" not in text
