"""Which device the tests of this folder are about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

Same = Callable[[Any, Any], None]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out where there is no device to test."""
    here = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    return True if here and not (config.getoption("--pretend") or torch.cuda.is_available()) else None


@pytest.fixture(scope="session")
def pretended(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--pretend"))


@pytest.fixture(scope="session")
def device(pretended: bool) -> torch.device:
    return torch.device("pretend" if pretended else "cuda", 0)


@pytest.fixture(scope="session")
def same(pretended: bool) -> Same:
    """Compare what a device gave with the CPU's: to the bit, or up to rounding on CUDA."""

    def compare(found: Any, expected: Any) -> None:
        if isinstance(expected, Tensor):
            found = found.detach().cpu()
            exact = pretended or not expected.is_floating_point()
            close = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-4, "atol": 1e-5}
            torch.testing.assert_close(found, expected.detach(), equal_nan=True, **close)
        elif isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected)
        elif dataclasses.is_dataclass(expected):
            for field in dataclasses.fields(expected):
                compare(getattr(found, field.name), getattr(expected, field.name))
        elif isinstance(expected, Mapping):
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                compare(found[name], value)
        elif isinstance(expected, list | tuple):
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                compare(one, other)
        else:
            assert found == pytest.approx(expected, rel=0 if pretended else 1e-4)

    return compare
