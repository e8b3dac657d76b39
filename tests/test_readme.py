"""The README's blocks do what they say, and its tables are what the registry says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from harness.cli.app import app as cli
from tests.conftest import process_environment, tiny_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
)
def test_shell_line_runs(
    line: str, tmp_path: Path, reidbench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The shortest one in a shell; importing everything anew takes longer than the others' work."""
    environment = process_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if line == "reidbench list":
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    else:
        done = reidbench(*shlex.split(line)[1:])
    # doctor answers 1 where it found something to mend
    assert done.returncode in ((0, 1) if "doctor" in line else (0,)), done.stderr


def run_with_plug_in(
    folder: Path, word: str, point: tuple[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Install the README's block that holds `word` as a plug-in (group, entry point) in `folder`, and run there."""
    (block,) = (block for block in blocks("python") if word in block)
    group, target = point
    (folder / f"{target.split(' = ')[1].split(':')[0]}.py").write_text(block)
    about = folder / "example-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{target}\n")
    environment = process_environment()
    environment["PYTHONPATH"] += f"{os.pathsep}{folder}"
    return subprocess.run(
        [sys.executable, "-m", "harness", "run", *arguments, "--device", "cpu"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_example_method_runs_as_a_plug_in(tiny_regdb: Path, tmp_path: Path) -> None:
    sizes = ("k1=8", "k2=4", "eps=0.55", "min_samples=2", "labels_per_batch=3", "instances=2")
    done = run_with_plug_in(
        tmp_path,
        "Reference(",
        ("reidbench.methods", "balanced-contrast = balanced_contrast:BalancedContrast"),
        *("balanced-contrast", "--protocol", "regdb", "--trials", "1", "--data", str(tiny_regdb)),
        *tiny_settings(*sizes, "epochs=1", "iterations=2"),
    )
    assert done.returncode == 0, done.stderr
    assert "balanced-contrast" in done.stdout


def test_example_protocol_scores_as_a_plug_in(tiny_sysu: Path, tmp_path: Path) -> None:
    done = run_with_plug_in(
        tmp_path,
        "SysuOutdoor",
        ("reidbench.protocols", "sysu-outdoor = sysu_outdoor:SysuOutdoor"),
        *("source-only", "--protocol", "sysu-outdoor", "--data", str(tiny_sysu)),
        *tiny_settings(),
    )
    assert done.returncode == 0, done.stderr
    assert "sysu-outdoor, single-shot" in done.stdout


@pytest.mark.parametrize(
    "line",
    [line for block in blocks("") for line in block.splitlines() if line.startswith(("reidbench", "make"))],
)
def test_other_lines_name_options_and_targets_that_exist(line: str) -> None:
    """Blocks that need real data, hours or a GPU are parsed, not run."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        return
    command = typer.main.get_command(cli.app)
    names = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[names.pop(0)]
    with command.make_context("reidbench", names):
        pass


def test_every_test_that_a_footgun_names_exists() -> None:
    lines = (ROOT / "docs" / "footguns.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(tests/\S+?\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_pictures_exist() -> None:
    found = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert found
    assert all((ROOT / path).is_file() for path in found)


def test_both_set_up_commands_are_make_targets() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert f"\n{target}:" in makefile


def test_every_method_and_protocol_is_in_the_readme(
    reidbench: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    from harness.registry import protocols
    from harness.tools.pages import method_markdown

    assert method_markdown() in README
    for name in protocols():
        assert name in README or name.endswith("-official")
