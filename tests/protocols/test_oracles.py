"""Metrics and lists equal what public evaluation code produced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from protocols.base import Protocol
from protocols.metrics import distances
from protocols.regdb import RegDB
from protocols.sysu_mm01 import (
    SysuAll,
    SysuAllOfficial,
    SysuIndoor,
    SysuIndoorOfficial,
    official_draw,
    read_permutations,
)

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
        for trial in protocol.trials(root, 0, allow_partial=True):
            if trial.setting != "single-shot":
                continue
            q, g = (np.stack([row[p] for p in side.images.paths]) for side in (trial.query, trial.gallery))
            found = protocol.score(
                distances(q, g),
                trial.query.identity,
                trial.gallery.identity,
                trial.query.images.camera,
                trial.gallery.images.camera,
            )
            t = trial.number
            assert np.abs(found.cmc[: case[f"{mode}_cmc"].shape[1]] - case[f"{mode}_cmc"][t]).max() <= 1e-6
            assert found.mAP == pytest.approx(float(case[f"{mode}_mAP"][t]), abs=1e-6)
            assert found.mINP == pytest.approx(float(case[f"{mode}_mINP"][t]), abs=1e-6)


@pytest.mark.parametrize("protocol", [SysuAllOfficial(), SysuIndoorOfficial()], ids=lambda p: p.id)
@pytest.mark.parametrize("shots", [1, 10])
def test_official_galleries(tmp_path: Path, protocol: SysuAllOfficial, shots: int) -> None:
    expected = json.loads((DATA / "galleries" / "sysu_perm.perm.json").read_text())
    (tmp_path / "exp").mkdir()
    shutil.copy(DATA / "galleries" / "sysu_perm.rand_perm_cam.mat", tmp_path / "exp" / "rand_perm_cam.mat")
    folders = [
        (
            identity,
            camera,
            [
                f"{k:04d}.jpg"
                for k in range(
                    1, int(expected["counts"].get(f"{identity:04d}", {}).get(f"cam{camera}", 0)) + 1
                )
            ],
        )
        for identity in sorted(expected["test_ids"])
        for camera in protocol.gallery_cameras
    ]
    folders = [folder for folder in folders if folder[2]]
    mode = "all" if "all" in protocol.id else "indoor"
    for trial in range(10):
        rows = official_draw(read_permutations(tmp_path), folders, trial, shots)
        found = sorted(f"cam{c}/{i:04d}/{Path(name).stem}" for i, c, name in rows)
        assert found == sorted(
            expected[f"{mode}_{shots}"][trial]
            if isinstance(expected[f"{mode}_{shots}"], list)
            else expected[f"{mode}_{shots}"][str(trial)]
        )


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
