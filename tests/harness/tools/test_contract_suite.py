"""``reidbench check-method``: what keeps the contract passes, what does not is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import registry
from harness.errors import HarnessError
from harness.registry import load_method
from harness.tools import contract
from harness.tools.contract import Bench, check_method, checks
from methods.base import MethodConfig, Reference, value
from methods.source_only import SourceOnly
from tests.harness.sweep.test_many import Breaks

LIGHT = ("says what it is", "declares its settings", "presets and variants hold")


class LooseConfig(MethodConfig):
    """A setting that nobody stands for."""

    rate: float = value(0.5, "somebody", "a rate")


class Loose(SourceOnly):
    summary = "two\nlines"
    Config = LooseConfig
    reference = Reference("", "", 0, parts={"all": ("hearsay", "")})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["dmic", "gur", "source-only"])
def test_ours_say_and_declare_what_they_should(name: str, tmp_path: Path) -> None:
    bench = Bench(name, load_method(name), tmp_path)
    assert {what: checks()[what](bench) for what in LIGHT} == dict.fromkeys(LIGHT, "")


def test_what_is_not_said_is_named(tmp_path: Path) -> None:
    bench = Bench("loose", Loose, tmp_path)
    said = checks()["says what it is"](bench)
    for words in ("docstring of its class", "summary of one line", "reference", "not hearsay"):
        assert words in said
    assert "setting rate: declare it" in checks()["declares its settings"](bench)


def test_an_error_of_its_own_is_a_finding_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "load_method", lambda _name: Breaks)
    monkeypatch.setattr(contract, "checks", lambda: {"made": lambda bench: str(bench.method(None, None))})
    (found,) = check_method("breaks", tmp_path)
    assert not found.ok
    assert found.detail.startswith("RuntimeError: a bug of its author (test_many.py, line ")


def test_protocols_are_no_methods(tmp_path: Path) -> None:
    assert "regdb" in registry.protocols()
    with pytest.raises(HarnessError, match="regdb is a protocol"):
        next(check_method("regdb", tmp_path))
