"""Real runs of some seconds, for what passes between people."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import pytest

from tests.conftest import tiny_settings

SIZES = (
    "epochs=3",
    "iterations=2",
    "labels_per_batch=3",
    "instances=2",
    "k1=8",
    "k2=4",
    "eps=0.55",
    "min_samples=2",
)


@pytest.fixture(scope="session")
def trained(tiny_regdb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two runs of cluster contrast on trial 1, with seeds 0 and 1; not to be changed."""
    from harness.cli.app import main

    folder = tmp_path_factory.mktemp("trained")
    words = ["run", "cluster-contrast", "--protocol", "regdb", "--trials", "1", "--data", str(tiny_regdb)]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        with contextlib.suppress(SystemExit):
            main([*words, "--seed", "0", "--seed", "1", "--device", "cpu", *tiny_settings(*SIZES)])
    return folder / "runs"


@pytest.fixture(scope="session")
def two(trained: Path) -> tuple[Path, Path]:
    """Return the directories of the two runs, by seed."""
    import json

    found = sorted(
        trained.glob("*/*/*/manifest.json"), key=lambda path: json.loads(path.read_text())["spec"]["seed"]
    )
    one, other = (path.parent for path in found)
    return one, other
