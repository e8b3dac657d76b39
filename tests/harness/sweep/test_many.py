"""``reidbench run all``: every method has its turn, whatever the others do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from harness import registry
from harness.cli.app import main
from harness.errors import HarnessError
from harness.registry import Entry
from harness.runs.plan import Request
from harness.runs.task import Execution
from harness.sweep import requests as sweep
from methods.base import MethodConfig, TrainingData
from methods.source_only import SourceOnly
from tests.conftest import tiny_settings


class Breaks(SourceOnly):
    """A method with a bug."""

    name = "breaks"

    def __init__(self, config: MethodConfig, data: TrainingData) -> None:
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


def run_all(root: Path, *more: str, methods: Sequence[str] = ("all",)) -> int:
    words = [
        "run",
        *methods,
        "--protocol",
        "regdb",
        "--data",
        str(root),
        "--device",
        "cpu",
        *more,
    ]
    sizes = tiny_settings("iterations=2", "epochs=1", "flip=false") if "all" in methods else tiny_settings()
    try:
        main([*words, "--ignore-missing", *sizes])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.usefixtures("three_methods")
def test_one_table_and_every_failure(tiny_regdb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all(tiny_regdb, "--trials", "1") == 1  # a bug counts more than a plug-in that is broken
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

    assert run_all(tiny_regdb, "--trials", "1") == 1
    again = capsys.readouterr()
    assert again.err.count("is finished") == 2
    assert "supervised" in again.out


@pytest.mark.usefixtures("three_methods")
def test_a_key_that_one_method_knows_is_left_out_of_the_others(tiny_regdb: Path) -> None:
    request = Request("", "regdb", data=str(tiny_regdb), trials="1", sets=("momentum=0.5", "height=64"))
    tasks, failures = sweep.plan_several(("all",), request, Execution(), print, ignore_missing=True)
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


@pytest.mark.usefixtures("three_methods")
def test_methods_that_lack_a_key_are_named_before_anything_runs(
    tiny_regdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "all", "--protocol", "regdb", "--data", str(tiny_regdb), "--set", "momentum=0.5"])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "--set momentum: breaks, source-only have no such key" in said
    assert "set for supervised" in said
    assert not list(tmp_path.iterdir())


def test_all_variants_of_a_method(tiny_regdb: Path) -> None:
    request = Request("", "regdb", data=str(tiny_regdb), trials="1", preset="demo", sets=("weights=none",))
    tasks, failures = sweep.plan_several(("dmic:*", "pca"), request, Execution(), print)
    labels = [task.spec.label for task in tasks]
    assert not failures
    assert labels[-1] == "pca"
    assert {"dmic:public", "dmic:mie", "dmic:baseline"} < set(labels)
    assert "dmic" not in labels
    with pytest.raises(HarnessError, match="no variants"):
        sweep.expand(["source-only:*"])


@pytest.mark.usefixtures("three_methods")
def test_a_held_run_does_not_keep_the_next_one(
    tiny_regdb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = ("--seed", "8", "--seed", "9", "--trials", "1", "--json", "--dry-run")
    assert run_all(tiny_regdb, *seeds, methods=["source-only"]) == 0
    planned = json.loads(capsys.readouterr().out)["runs"]
    assert [run["seed"] for run in planned] == [8, 9]
    assert {run["seconds"] for run in planned} == {None}  # nothing was measured here yet
    first = tmp_path / planned[0]["path"]
    first.mkdir(parents=True)
    with FileLock(first / "run.lock"):
        assert run_all(tiny_regdb, *seeds[:6], methods=["source-only"]) == 3
    shown = capsys.readouterr()
    assert shown.out.count("held") == 1
    assert f"seed 8 (run {planned[0]['run']}) is held" in shown.err
    assert (tmp_path / planned[1]["path"] / "COMPLETE").exists()
    assert run_all(tiny_regdb, *seeds, methods=["source-only"]) == 0
    first_run, second_run = json.loads(capsys.readouterr().out)["runs"]
    assert first_run["seconds"] > 0
    assert (first_run["state"], second_run["state"]) == ("to do", "finished")


def test_every_usable_method_is_planned(
    tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = Request("", "regdb", data=str(tiny_regdb), trials="1", preset="demo", sets=("weights=none",))
    tasks, failures = sweep.plan_several(("all",), request, Execution(), print)
    assert not failures
    assert {task.spec.method for task in tasks} == {n for n, e in registry.methods().items() if not e.error}
