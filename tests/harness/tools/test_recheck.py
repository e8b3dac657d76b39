"""``verify --quick`` and ``bundle`` on real runs: what an edit of any file gives, and what strangers' files may be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from results.checksums import COMPLETE
from tests.conftest import process_environment
from tests.results.cases import finish

pytestmark = pytest.mark.slow
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def copy(two: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(two[0], tmp_path / two[0].name))


def edit(path: Path) -> None:
    """Raise the first mAP of a run by one percent, as a hand would."""
    lines = path.read_text().splitlines()
    header = lines[0].split(",")
    row = next(i for i, line in enumerate(lines) if ",mAP," in line)
    cells = lines[row].split(",")
    cells[header.index("value")] = str(float(cells[header.index("value")]) + 1)
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def test_runs_and_bundles_pass_without_torch(two: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.cli.app import main\n"
        "try: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    )

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            cwd=tmp_path,
            env=process_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    done = call("verify", "--quick", two[0])
    assert done.returncode == 0, done.stderr
    assert f"{two[0]}: 36 metric rows are what the ranks give; 6 files are those of COMPLETE" in done.stdout
    done = call("bundle", trained, "--out", "b.zip")
    assert done.returncode == 0, done.stderr
    assert "b.zip: 2 runs" in done.stdout
    assert "name this folder of yours: " in done.stderr
    done = call("verify", "--quick", "b.zip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("36 metric rows are what the ranks give; 5 files are those") == 2


def test_a_row_edited_by_hand_survives_nowhere(reidbench: Command, copy: Path) -> None:
    edit(copy / "metrics.csv")
    for words in (("table", copy), ("report", copy), ("bundle", copy)):
        done = reidbench(*words)
        assert done.returncode == 2
        assert "metrics.csv: it has changed since the run finished" in done.stderr
    done = reidbench("verify", "--quick", copy)
    assert done.returncode == 1
    assert "metrics.csv: it has changed since the run finished" in done.stdout
    finish(copy)  # with a new COMPLETE
    done = reidbench("verify", "--quick", copy)
    assert done.returncode == 1
    assert "last/regdb/visible-to-thermal/1: metrics.csv says mAP" in done.stdout
    assert reidbench("bundle", copy, "--out", "b.zip").returncode == 2
    assert not Path("b.zip").exists()


def test_a_specification_that_is_not_the_runs_is_named(reidbench: Command, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["spec"]["config"]["eps"] = 0.7
    (copy / "manifest.json").write_text(json.dumps(manifest))
    finish(copy)
    done = reidbench("verify", "--quick", copy)
    assert done.returncode == 1
    assert "its specification is that of run " in done.stdout
    assert f"not of {copy.name}" in done.stdout


@pytest.mark.parametrize("name", ["ranks.npz", "history.csv", "profile.csv", "checkpoints/last.ckpt"])
def test_every_file_is_compared(reidbench: Command, copy: Path, name: str) -> None:
    with (copy / name).open("ab") as file:
        file.write(b" ")
    assert f"{name}: it has changed" in reidbench("verify", "--quick", copy).stdout
    (copy / name).unlink()
    assert f"{name}: it is missing" in reidbench("verify", "--quick", copy).stdout


def test_all_runs_of_a_folder_are_looked_at(
    reidbench: Command, two: tuple[Path, Path], tmp_path: Path
) -> None:
    for run in two:
        shutil.copytree(run, tmp_path / "runs" / run.name)
    (tmp_path / "runs" / two[1].name / COMPLETE).unlink()
    done = reidbench("verify", "--quick", "runs")
    assert done.returncode == 1
    assert f"runs/{two[0].name}: 36 metric rows" in done.stdout
    assert f"runs/{two[1].name}: not finished" in done.stdout
    done = reidbench("bundle", "runs", "--out", "b.zip")
    assert done.returncode == 0
    assert "b.zip: 1 runs" in done.stdout
    assert f"left out, as it has not finished: runs/{two[1].name}" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "--quick", "none"), "none is no folder and no bundle"),
        (("verify", "--quick", "."), "holds no run"),
        (("bundle", "."), "no finished run found"),
        (("bundle", ".", "--out", "b.tar"), "b.tar: a bundle is called something.zip"),
        (("bundle", ".", "--out", "none/b.zip"), "the folder none does not exist"),
    ],
)
def test_refusals(reidbench: Command, words: tuple[str, ...], said: str) -> None:
    done = reidbench(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
