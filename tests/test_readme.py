"""The README's blocks do what they say, and its tables are what the registry says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import process_environment, tiny_settings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
)
def test_shell_line_runs(line: str, tmp_path: Path) -> None:
    environment = process_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # doctor answers 1 where it found something to mend
    assert done.returncode in ((0, 1) if "doctor" in line else (0,)), done.stderr


def test_example_method_runs_as_a_plug_in(tiny_regdb: Path, tmp_path: Path) -> None:
    (block,) = (block for block in blocks("python") if "Reference(" in block)
    (tmp_path / "balanced_contrast.py").write_text(block)
    about = tmp_path / "balanced_contrast-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: balanced-contrast\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[reidbench.methods]\nbalanced-contrast = balanced_contrast:BalancedContrast\n"
    )
    environment = process_environment()
    environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    settings = (
        "k1=8",
        "k2=4",
        "eps=0.55",
        "min_samples=2",
        "epochs=1",
        "iterations=2",
        "labels_per_batch=3",
        "instances=2",
    )
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "harness",
                "run",
                "balanced-contrast",
                "--protocol",
                "regdb",
                "--trials",
                "1",
            ),
            *("--data", str(tiny_regdb), "--device", "cpu", *tiny_settings(*settings)),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "balanced-contrast" in done.stdout


def test_both_set_up_commands_are_make_targets() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert f"\n{target}:" in makefile


def test_every_method_and_protocol_is_in_the_readme(
    reidbench: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    from harness.registry import protocols
    from harness.show import method_markdown

    assert method_markdown() in README
    for name in protocols():
        assert name in README or name.endswith("-official")
