"""The example plug-in, built and installed into an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import process_environment

pytestmark = pytest.mark.slow
PLUGIN = Path(__file__).parents[1] / "data" / "plugin"


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=process_environment(), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that borrows this one's packages (torch is large), with the plug-in installed."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=False)
    found = folder / "venv" / "bin" / "python"
    site = command(
        found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    ).stdout.strip()
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = shutil.copytree(PLUGIN, folder / "plugin")
    done = command(
        *(
            found,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            source,
        ),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return found


def test_it_shows_up_and_has_a_page(python: Path, tmp_path: Path) -> None:
    listed = command(python, "-m", "harness", "list", "methods", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    (line,) = [line for line in listed.stdout.splitlines() if "tight-contrast" in line]
    assert "reidbench-example" in line
    shown = command(python, "-m", "harness", "show", "tight-contrast", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "an example" in shown.stdout


def test_this_environment_knows_nothing_of_it(python: Path, tmp_path: Path) -> None:
    assert (
        "tight-contrast"
        not in command(sys.executable, "-m", "harness", "list", "methods", cwd=tmp_path).stdout
    )


def test_broken_it_is_named_and_the_rest_works(python: Path, tmp_path: Path) -> None:
    found = command(python, "-c", "import reidbench_example as e; print(e.__file__)", cwd=tmp_path)
    module = Path(found.stdout.strip())
    source = module.read_text()
    module.write_text("raise RuntimeError('half an upgrade')\n")
    try:
        listed = command(python, "-m", "harness", "list", "methods", cwd=tmp_path)
        used = command(python, "-m", "harness", "show", "tight-contrast", cwd=tmp_path)
    finally:
        module.write_text(source)
    assert listed.returncode == 0, listed.stderr
    assert "cluster-contrast" in listed.stdout
    assert "reidbench-example is broken" in listed.stdout.replace("\n", " ")
    assert used.returncode == 2
    assert "reidbench-example" in used.stderr
    assert "Traceback" not in used.stderr
