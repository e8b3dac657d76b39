"""Metrics and lists equal what public evaluation code produced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from protocols.base import Protocol, Scores, Trial
from protocols.metrics import distances
from protocols.regdb import RegDB
from protocols.sysu_mm01 import SysuAll, SysuAllOfficial, SysuIndoor, SysuIndoorOfficial

DATA = Path(__file__).parents[1] / "data" / "protocols"
CASES = sorted(DATA.glob("*.npz"))
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_metrics(path: Path) -> None:
    case = np.load(path, allow_pickle=False)
    if "distances" in case:
        distance = case["distances"].astype(np.float64)
    else:
        distance = distances(case["query_features"], case["gallery_features"])
    protocol: Protocol = SysuAll() if str(case["kind"]) == "sysu" else RegDB()
    found = protocol.score(
        distance, case["query_ids"], case["gallery_ids"], case["query_cams"], case["gallery_cams"]
    )
    n = len(case["cmc"])
    assert np.abs(found.cmc[:n] - case["cmc"]).max() <= 1e-6
    assert np.all(found.cmc[n:] == found.cmc[n - 1])
    assert abs(found.mAP - float(case["mAP"])) <= 1e-6
    assert abs(found.mINP - float(case["mINP"])) <= 1e-6


def build_tree(root: Path, name: str) -> Path:
    tree = json.loads((DATA / "galleries" / f"{name}.tree.json").read_text())
    (root / "exp").mkdir(parents=True)
    for file, text in tree["exp"].items():
        (root / "exp" / (file if file.endswith(".txt") else f"{file}.txt")).write_text(text)
    for identity, cameras in tree["tree"].items():
        for camera, names in cameras.items():
            folder = root / camera / identity
            folder.mkdir(parents=True)
            for image in reversed(names):
                (folder / image).write_bytes(b"")
    return root


def lists(name: str) -> dict:
    return json.loads((DATA / "galleries" / f"{name}.lists.json").read_text())


@pytest.mark.parametrize(("name", "setting"), [("sysu_single", "single-shot"), ("sysu_multi", "multi-shot")])
def test_sysu_lists(tmp_path: Path, name: str, setting: str) -> None:
    root, expected = build_tree(tmp_path / "sysu", name), lists(name)
    for mode, protocol in (("all", SysuAll()), ("indoor", SysuIndoor())):
        trials = [t for t in protocol.trials(root, 0, allow_partial=True) if t.setting == setting]
        if "query" in expected:
            assert list(trials[0].query.images.paths) == expected["query"][mode]
        for trial in trials:
            assert list(trial.gallery.images.paths) == expected["gallery"][mode][trial.number]
        assert len(trials) == len(expected["gallery"][mode])


def test_sysu_scores_end_to_end(tmp_path: Path) -> None:
    root = build_tree(tmp_path / "sysu", "sysu_single")
    case = np.load(DATA / "galleries" / "sysu_single.scores.npz", allow_pickle=False)
    row = {
        str(p): f
        for names, feats in (("query_files", "query_features"), ("visible_files", "visible_features"))
        for p, f in zip(case[names], case[feats], strict=True)
    }
    for mode, protocol in (("all", SysuAll()), ("indoor", SysuIndoor())):
        trials = [t for t in protocol.trials(root, 0, allow_partial=True) if t.setting == "single-shot"]
        found = [score(protocol, trial, row) for trial in trials]
        n = case[f"{mode}_cmc"].shape[1]
        cmc, *rest = np.array([s.cmc[:n] for s in found]), [s.mAP for s in found], [s.mINP for s in found]
        for name, values in zip(("cmc", "mAP", "mINP"), (cmc, *map(np.array, rest)), strict=True):
            np.testing.assert_allclose(values, case[f"{mode}_{name}"], rtol=0, atol=1e-6)
            np.testing.assert_allclose(values.mean(axis=0), case[f"{mode}_mean_{name}"], rtol=0, atol=1e-6)


def score(protocol: Protocol, trial: Trial, row: dict[str, np.ndarray]) -> Scores:
    """Score a trial with the feature of each path."""
    q, g = (np.stack([row[p] for p in side.images.paths]) for side in (trial.query, trial.gallery))
    return protocol.score(
        distances(q, g),
        trial.query.identity,
        trial.gallery.identity,
        trial.query.images.camera,
        trial.gallery.images.camera,
    )


@pytest.mark.parametrize("protocol", [SysuAllOfficial(), SysuIndoorOfficial()], ids=lambda p: p.id)
def test_official_galleries(tmp_path: Path, protocol: Protocol) -> None:
    expected = json.loads((DATA / "galleries" / "sysu_perm.perm.json").read_text())
    for identity, cameras in expected["counts"].items():
        for camera, n in cameras.items():
            folder = tmp_path / camera / identity
            folder.mkdir(parents=True)
            for k in range(1, n + 1):
                (folder / f"{k:04d}.jpg").touch()
    (tmp_path / "exp").mkdir()
    shutil.copy(DATA / "galleries" / "sysu_perm.rand_perm_cam.mat", tmp_path / "exp" / "rand_perm_cam.mat")
    for part, ids in (("train", [1]), ("val", [2]), ("test", expected["test_ids"])):
        (tmp_path / "exp" / f"{part}_id.txt").write_text(",".join(map(str, ids)))
    trials = protocol.trials(tmp_path, 0, allow_partial=True)
    assert len(trials) == 20
    mode = protocol.id.split("-")[1]
    for trial in trials:
        shots = {"single-shot": 1, "multi-shot": 10}[trial.setting]
        found = sorted(path.removesuffix(".jpg") for path in trial.gallery.images.paths)
        assert found == expected[f"{mode}_{shots}"][trial.number]


def test_regdb_lists(tmp_path: Path) -> None:
    texts = json.loads((DATA / "galleries" / "regdb.idx.json").read_text())
    (tmp_path / "idx").mkdir()
    for name, text in texts.items():
        (tmp_path / "idx" / name).write_bytes(text.encode())
        for line in text.splitlines():
            path = tmp_path / line.rsplit(" ", 1)[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    expected = lists("regdb")
    for trial, sides in expected.items():
        first = RegDB().trials(tmp_path, int(trial), allow_partial=True)[0]
        for side, name in ((first.query, "visible"), (first.gallery, "thermal")):
            assert list(side.images.paths) == sides[name]["files"]
            assert side.identity.tolist() == sides[name]["labels"]
