"""``import reidbench``: its names, what it does not import, and every block of docs/python.md and the README's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reidbench
from harness.errors import HarnessError
from harness.tools.cluster import configuration
from tests.conftest import process_environment
from tests.results.cases import write_scored_run

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def features() -> np.ndarray:
    rng = np.random.default_rng(1)
    found = np.repeat(rng.normal(size=(12, 32)), 6, axis=0) + 0.3 * rng.normal(size=(72, 32))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def folder_with_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for method, shift in (("cluster-contrast", 0.0), ("dmic", 0.5)):
        for seed in (0, 1):
            write_scored_run(tmp_path / "runs", method, seed, shift=shift)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_name_is_there() -> None:
    assert set(reidbench.__all__) == set(reidbench.HOME) == set(dir(reidbench))
    for name in reidbench.__all__:
        assert callable(getattr(reidbench, name))


def test_another_package_of_our_names_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "__init__.py").write_text("load_runs = None\n")
    environment = process_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment['PYTHONPATH']}"
    for code, status in (("reidbench.load_runs", 1), ("reidbench.main()", 2)):
        done = subprocess.run(
            [sys.executable, "-c", f"import reidbench; {code}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert f"the package 'results' is found at {tmp_path / 'results'}" in done.stderr
        assert str(ROOT / "results") in done.stderr


def test_unknown_names_say_which_there_are() -> None:
    with pytest.raises(AttributeError, match="load_runs"):
        _ = reidbench.load_run


def test_runs_are_loaded_without_torch(folder_with_runs: Path) -> None:
    code = (
        "import sys, reidbench; assert 'numpy' not in sys.modules; rows = reidbench.load_runs('runs'); "
        "reidbench.comparison(rows); assert len(rows); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder_with_runs,
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_clusters_of_arrays_and_tensors_are_equal(features: np.ndarray) -> None:
    groups = {"modality": np.arange(72) % 2, "camera": np.arange(72) % 3}
    settings: dict[str, Any] = {"expansion": "mie", "k1": 6, "k2": 3, "eps": 0.5}
    labels = reidbench.cluster(features, **groups, **settings)
    assert labels.dtype == np.int64
    assert labels.max() == 11
    np.testing.assert_array_equal(labels, reidbench.cluster(torch.from_numpy(features), **groups, **settings))


def test_settings_are_those_of_the_command(features: np.ndarray) -> None:
    assert configuration(["k1=6"]).k1 == 6
    with pytest.raises(HarnessError, match="k3"):
        reidbench.cluster(features, k3=6)
    with pytest.raises(HarnessError, match="modality and camera"):
        reidbench.cluster(features, expansion="mie", k1=6, k2=3)
    with pytest.raises(HarnessError, match="camera has shape"):
        reidbench.cluster(features, camera=np.zeros(3, dtype=int))


@pytest.mark.filterwarnings("ignore::protocols.metrics.ShortGalleryWarning")
def test_scores_follow_the_rules_of_the_protocol() -> None:
    distance = np.array([[0.1, 0.2, 0.3]])
    ids = {"query_ids": np.array([7]), "gallery_ids": np.array([5, 5, 7])}
    cams = {"query_cams": np.array([3]), "gallery_cams": np.array([2, 2, 1])}
    plain = reidbench.score(distance, "regdb", **ids)
    unseen = reidbench.score(distance, "sysu-all", **ids, **cams)
    assert plain["rank-1"] == 0
    assert plain["mAP"] == pytest.approx(100 / 3)
    assert unseen["rank-1"] == unseen["mAP"] == 100
    with pytest.raises(HarnessError, match="several"):
        reidbench.score(distance, "sysu", **ids)


@pytest.mark.filterwarnings("ignore")
def test_blocks_of_the_python_page_run(folder_with_runs: Path) -> None:
    blocks = FENCED.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    assert len(blocks) > 5
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), namespace)
    np.testing.assert_array_equal(namespace["labels"], namespace["identity"])


@pytest.mark.filterwarnings("ignore")
def test_fifteen_lines_of_the_readme_run(folder_with_runs: Path, features: np.ndarray) -> None:
    (block,) = (
        b for b in FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8")) if "import reidbench" in b
    )
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    ids = np.repeat(np.arange(12), 6)
    np.savez("features.npz", features=features, modality=np.arange(72) % 2, camera=np.arange(72) % 3)
    np.savez("mine.npz", distance=-features @ features.T, query_ids=ids, gallery_ids=ids)
    exec(compile(block, "README.md", "exec"), {})
