"""The wheel: everything is in it, and it works from an empty folder without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import process_environment
from tests.results.cases import regdb_rows, write_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
SOURCES = (
    "harness",
    "methods",
    "protocols",
    "results",
    "reidbench.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of a copy, without the net, and unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "copy").mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "copy" / name)
    words = (
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        folder / "copy",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, words)], capture_output=True, text=True, check=False
    )
    if "No module named pip" in done.stderr:
        pytest.skip("no pip here")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_it_works_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "runs", regdb_rows())
    environment = process_environment() | {"PYTHONPATH": os.fspath(unpacked)}
    places = "import reidbench, results; print(reidbench.shadowed() or results.__file__)"
    report = "from reidbench import main; import sys; sys.argv = ['reidbench', 'report', 'runs']; main()"
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for code in (places, report)
    ]
    assert said[0].stdout.strip() == str(unpacked / "results" / "__init__.py")
    assert said[1].returncode == 0, said[1].stderr
    assert (
        "<svg" in (tmp_path / "report.html").read_text()
        or "image/svg" in (tmp_path / "report.html").read_text()
    )
    for name in ("results/published.csv", "protocols/citations.bib"):
        assert (unpacked / name).is_file()
    (points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "reidbench = reidbench:main" in points.read_text()
