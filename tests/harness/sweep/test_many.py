"""``reidbench run all``: every method has its turn, whatever the others do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import registry
from harness.cli.app import main
from harness.registry import Entry
from harness.runs.plan import Request
from harness.runs.task import Execution
from harness.sweep import many as sweep
from methods.base import MethodConfig, Stage
from methods.source_only import SourceOnly
from tests.conftest import tiny_settings


class Breaks(SourceOnly):
    """A method with a bug."""

    name = "breaks"

    @classmethod
    def stages(cls, config: MethodConfig) -> Sequence[Stage]:
        raise RuntimeError("a bug of its author")


@pytest.fixture
def three_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A method with a bug, a plug-in that cannot be loaded, and two that work, in an empty folder."""
    known = registry.methods()
    found = {
        "breaks": Entry("breaks", "", f"{__name__}:Breaks", "tests"),
        "odd": Entry("odd", "", "odd:Odd", "odd-package", error="the package odd-package is broken: oh"),
        **{name: known[name] for name in ("source-only", "supervised")},
    }
    for module in (registry, sweep):
        monkeypatch.setattr(module, "methods", lambda: found)
    monkeypatch.chdir(tmp_path)


def run_all(root: Path, *more: str) -> int:
    words = [
        "run",
        "all",
        "--protocol",
        "regdb",
        "--data",
        str(root),
        "--device",
        "cpu",
        *more,
    ]
    try:
        main([*words, *tiny_settings("iterations=2", "epochs=1", "flip=false")])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.usefixtures("three_methods")
def test_one_table_and_every_failure(tiny_regdb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all(tiny_regdb, "--trials", "1") == 2
    shown = capsys.readouterr()
    (table,) = [
        part for part in shown.out.split("regdb, ") if part.startswith("visible-to-thermal, division")
    ]
    assert "source-only" in table
    assert "supervised" in table
    assert "breaks" not in table
    said = " ".join(shown.err.split())
    assert "odd failed" in said
    assert "odd-package is broken" in said
    assert "breaks, split 1, seed 0" in said
    assert "a bug of its author" in said

    assert run_all(tiny_regdb, "--trials", "1") == 2
    again = capsys.readouterr()
    assert again.err.count("is finished") == 2
    assert "supervised" in again.out


@pytest.mark.usefixtures("three_methods")
def test_a_key_that_one_method_knows_is_left_out_of_the_others(tiny_regdb: Path) -> None:
    request = Request("all", "regdb", data=str(tiny_regdb), trials="1", sets=("momentum=0.5", "height=64"))
    tasks, failures = sweep.plan_all(request, Execution(), print)
    assert [failure.what for failure in failures] == ["odd"]
    assert {task.spec.method for task in tasks} == {"breaks", "source-only", "supervised"}
    for task in tasks:
        assert task.spec.engine["height"] == 64
        assert task.spec.config.get("momentum", 0.5) == 0.5


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--set", "momemtum=1"), "momentum"),
        (("--trials", "11"), "--trials 11"),
        (("--protocol", "sysu-all"), "holds regdb"),
    ],
)
@pytest.mark.usefixtures("three_methods")
def test_what_concerns_all_is_refused_at_once(
    tiny_regdb: Path, more: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_all(tiny_regdb, *more) == 2
    said = capsys.readouterr().err
    assert word in said
    assert "failed" not in said


def test_every_usable_method_is_planned(
    tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = Request("all", "regdb", data=str(tiny_regdb), trials="1", preset="demo", sets=("weights=none",))
    tasks, failures = sweep.plan_all(request, Execution(), print)
    assert not failures
    assert {task.spec.method for task in tasks} == {n for n, e in registry.methods().items() if not e.error}
