"""Metrics, lists and end-to-end scores beside those of public evaluation code.

Lists come with the tree of files that they were read from, which is built of empty files in a folder of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from protocols.base import LabelledImages, Modality, Protocol, Scores, Trial
from protocols.llcm import LLCM, LLCMData, LLCMScript21
from protocols.metrics import distances
from protocols.regdb import RegDB
from protocols.sysu_mm01 import SysuAll, SysuAllOfficial, SysuIndoor, SysuIndoorOfficial
from tests.oracles.cases import Arrays, Differences, Kind, Mutation, load

MODES = {"all": SysuAll(), "indoor": SysuIndoor()}
OFFICIAL = {"all": SysuAllOfficial(), "indoor": SysuIndoorOfficial()}
METRICS = {"sysu": SysuAll(), "regdb": RegDB(), "llcm": LLCM()}
FIELDS = ("cmc", "mAP", "mINP")
TOLERANCE = {"cmc": 1e-6, "mAP": 1e-12, "mINP": 1e-12}
"""The public code keeps its cmc in float32."""


# -- metrics ---------------------------------------------------------------------------------------------------


def metrics(path: Path) -> dict[str, float]:
    """One query/gallery pair by the metric of its data set."""
    case, seen = load(path), Differences()
    kind = str(case["kind"])
    protocol = METRICS[kind]
    distance = case["distances"].astype(np.float64) if "distances" in case else similarity(case)
    labels = [case[name] for name in ("query_ids", "gallery_ids", "query_cams", "gallery_cams")]
    found = protocol.score(distance, *labels)
    n = len(case["cmc"])
    seen.close("cmc", found.cmc[:n], case["cmc"], TOLERANCE["cmc"])
    seen.equal("cmc beyond the gallery", found.cmc[n:], np.full(len(found.cmc) - n, found.cmc[n - 1]))
    for name in FIELDS[1:]:
        seen.close(name, getattr(found, name), case[name], TOLERANCE[name])
    if "n_valid" in case:
        seen.equal("valid queries", found.n_valid, case["n_valid"])
        seen.equal("queries", found.n_query, len(case["query_ids"]))
    return seen.largest


def similarity(case: Arrays) -> np.ndarray:
    """Return the distances of a case's features."""
    return distances(case["query_features"], case["gallery_features"])


# -- lists -----------------------------------------------------------------------------------------------------


def beside(path: Path, suffix: str) -> Path:
    """Return the file of the same case with another suffix."""
    return path.with_name(path.name.split(".")[0] + suffix)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@contextmanager
def folder() -> Iterator[Path]:
    """An empty root, below a folder whose name looks like one of a camera and of an identity."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "cam9x7777" / "root"
        root.mkdir(parents=True)
        yield root


def touch(files: Iterable[Path]) -> None:
    """Make empty files, in an order that is not that of their names."""
    for file in reversed(list(files)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def build_sysu(root: Path, recorded: Mapping[str, Any]) -> None:
    """Identity -> camera -> names, and the texts of ``exp``."""
    (root / "exp").mkdir()
    for name, text in recorded["exp"].items():
        (root / "exp" / name).write_text(text)
    folders = [
        (camera, i, names) for i, cameras in recorded["tree"].items() for camera, names in cameras.items()
    ]
    touch(root / camera / identity / name for camera, identity, names in folders for name in names)


def build_llcm(root: Path, recorded: Mapping[str, Any]) -> None:
    """Modality's folder -> camera -> identity -> names (or none), and the texts of ``idx``."""
    build_lists(root, {name: text for name, text in recorded["idx"].items() if name.startswith("train")})
    for name, text in recorded["idx"].items():
        (root / "idx" / name).write_text(text)
    for top, cameras in recorded["tree"].items():
        for camera, people in cameras.items():
            (root / top / camera).mkdir(parents=True)
            touch(root / top / camera / person / name for person, names in people.items() for name in names)


def build_lists(root: Path, texts: Mapping[str, str]) -> None:
    """Texts of ``idx``, and the images that they name."""
    (root / "idx").mkdir()
    for name, text in texts.items():
        (root / "idx" / name).write_bytes(text.encode())
        touch(root / line.rsplit(" ", 1)[0].strip() for line in text.splitlines() if line.strip())


def trials_of(protocol: Protocol, root: Path, setting: str | None = None, split: int = 0) -> list[Trial]:
    trials = protocol.trials(root, split, allow_partial=True)
    return [trial for trial in trials if setting in (None, trial.setting)]


def shots(gallery: Iterable[str]) -> str:
    """Say how a gallery of SYSU-MM01 was drawn: several images of one folder are multi shot."""
    folders = [file.rsplit("/", 1)[0] for file in gallery]
    return "single-shot" if len(set(folders)) == len(folders) else "multi-shot"


def lists(path: Path) -> dict[str, float]:
    """Lists of a tree: of SYSU-MM01 if it has ``exp``, else of LLCM; of RegDB where there are texts alone."""
    seen, expected = Differences(), read(path)
    tree, texts = beside(path, ".tree.json"), beside(path, ".idx.json")
    with folder() as root:
        if texts.exists():
            build_lists(root, read(texts))
            regdb_lists(seen, root, expected)
        elif "exp" in (recorded := read(tree)):
            build_sysu(root, recorded)
            sysu_lists(seen, root, expected)
        else:
            build_llcm(root, recorded)
            llcm_lists(seen, root, expected)
    return seen.largest


def same_list(seen: Differences, found: LabelledImages, expected: Mapping[str, Any], where: str) -> None:
    """Compare files in order, identities and cameras, as far as they are recorded."""
    seen.same("lists", list(found.images.paths), expected["files"], where)
    for name, ours in (("ids", found.identity), ("labels", found.identity), ("cams", found.images.camera)):
        if name in expected:
            seen.same(f"{name} of lists", ours.tolist(), expected[name], where)


def sysu_lists(seen: Differences, root: Path, expected: Mapping[str, Any]) -> None:
    for mode, galleries in expected["gallery"].items():
        trials = trials_of(MODES[mode], root, shots(galleries[0]))
        seen.same("number of trials", len(trials), len(galleries))
        for trial in trials:
            same_list(seen, trial.gallery, {"files": galleries[trial.number]}, f"{mode} {trial.number}")
            if "query" in expected:
                same_list(seen, trial.query, {"files": expected["query"][mode]}, mode)


def regdb_lists(seen: Differences, root: Path, expected: Mapping[str, Any]) -> None:
    for split, sides in expected.items():
        for trial in trials_of(RegDB(), root, split=int(split)):
            asked, side = trial.setting.split("-to-")
            same_list(seen, trial.query, sides[asked], f"{split} {trial.setting}")
            same_list(seen, trial.gallery, sides[side], f"{split} {trial.setting}")


def llcm_lists(seen: Differences, root: Path, expected: Mapping[str, Any]) -> None:
    trials = trials_of(LLCM(), root)
    seen.same("number of trials", len(trials), sum(map(len, expected["gallery"].values())))
    for trial in trials:
        asked, _, side = trial.setting.partition("-to-")
        same_list(seen, trial.query, expected["query"][asked], trial.setting)
        same_list(seen, trial.gallery, expected["gallery"][side][trial.number], trial.setting)
        seen.same("modality", set(trial.query.images.modality.tolist()), {int(Modality[asked.upper()])})
    for trial in trials_of(LLCMScript21(), root):
        same_list(seen, trial.query, expected["gallery"]["infrared"][trial.number], "script")
        same_list(seen, trial.gallery, expected["query"]["visible"], "script")
    if "train" in expected:
        sides = [expected["train"][name] for name in ("visible", "infrared")]
        both: dict[str, list[Any]] = {name: sides[0][name] + sides[1][name] for name in ("files", "labels")}
        both["cams"] = [int(re.findall(r"_c(\d+)_", file)[0]) for file in both["files"]]
        same_list(seen, LLCMData().training(root, 0, allow_partial=True), both, "training")


def official(path: Path) -> dict[str, float]:
    """Galleries of an official permutation file, as sets of names."""
    seen, expected = Differences(), read(path)
    held = set(expected["test_ids"])
    train, val = [i for i in range(1, len(held) + 3) if i not in held][:2]
    with folder() as root:
        touch(
            root / camera / identity / f"{k:04d}.jpg"
            for identity, cameras in expected["counts"].items()
            for camera, n in cameras.items()
            for k in range(1, n + 1)
        )
        (root / "exp").mkdir()
        shutil.copy(beside(path, ".rand_perm_cam.mat"), root / "exp" / "rand_perm_cam.mat")
        for part, ids in (("train", [train]), ("val", [val]), ("test", expected["test_ids"])):
            (root / "exp" / f"{part}_id.txt").write_text(",".join(map(str, ids)))
        for key in (key for key in expected if key not in ("counts", "test_ids")):
            mode, number = key.split("_")
            trials = trials_of(OFFICIAL[mode], root, {"1": "single-shot", "10": "multi-shot"}[number])
            found = [sorted(name.removesuffix(".jpg") for name in t.gallery.images.paths) for t in trials]
            seen.same("galleries", found, expected[key], key)
    return seen.largest


# -- scores ----------------------------------------------------------------------------------------------------


def scores(path: Path) -> dict[str, float]:
    """Metrics of ten galleries of a tree, from a feature of each file; their means."""
    seen, arrays, recorded = Differences(), load(path), read(beside(path, ".tree.json"))
    rows = features_of(arrays)
    with folder() as root:
        of_sysu = "exp" in recorded
        (build_sysu if of_sysu else build_llcm)(root, recorded)
        for key in (key for key in arrays if key.endswith("_mean_cmc")):
            pattern = key.removesuffix("_mean_cmc")
            protocol, setting = (sysu_pattern if of_sysu else llcm_pattern)(pattern, path)
            trials = trials_of(protocol, root, setting)
            same_scores(seen, [score(protocol, trial, rows) for trial in trials], arrays, pattern)
    assert seen.largest, f"{path.name}: no scores in it"
    return seen.largest


def features_of(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return the feature of each file."""
    sides = [key.removesuffix("_files") for key in arrays if key.endswith("_files")]
    return {
        str(file): feature
        for side in sides
        for file, feature in zip(arrays[f"{side}_files"], arrays[f"{side}_features"], strict=True)
    }


def sysu_pattern(mode: str, path: Path) -> tuple[Protocol, str]:
    drawn = beside(path, ".lists.json")
    return MODES[mode], shots(read(drawn)["gallery"][mode][0]) if drawn.exists() else "single-shot"


def llcm_pattern(pattern: str, _: Path) -> tuple[Protocol, str | None]:
    """Return what one call of the released script computes; other than the two directions it has one."""
    if pattern == "script_2_1":
        return LLCMScript21(), None
    return LLCM(), pattern.replace("_", "-")


def score(protocol: Protocol, trial: Trial, rows: Mapping[str, np.ndarray]) -> Scores:
    """Score a trial with the feature of each file."""
    q, g = (np.stack([rows[file] for file in side.images.paths]) for side in (trial.query, trial.gallery))
    ids = (trial.query.identity, trial.gallery.identity)
    return protocol.score(distances(q, g), *ids, trial.query.images.camera, trial.gallery.images.camera)


def same_scores(seen: Differences, found: list[Scores], arrays: Arrays, pattern: str) -> None:
    n = arrays[f"{pattern}_cmc"].shape[1]
    for name in FIELDS:
        ours = np.array([np.atleast_1d(getattr(one, name))[:n].squeeze() for one in found])
        seen.close(name, ours, arrays[f"{pattern}_{name}"], TOLERANCE[name], where=pattern)
        mean = arrays[f"{pattern}_mean_{name}"]
        seen.close(f"mean {name}", ours.mean(axis=0), mean, TOLERANCE[name], where=pattern)


FILES = (
    Kind(".scores.npz", (), scores),
    Kind(".npz", ("kind", "query_ids", "gallery_ids", "query_cams", "gallery_cams", *FIELDS), metrics),
    Kind(".lists.json", (), lists),
    Kind(".perm.json", ("counts", "test_ids"), official),
)
MUTATIONS = [
    Mutation(
        "SYSU-MM01: queries of camera 3 see camera 2",
        "protocols/sysu_mm01.py",
        "dtype=bool), gallery_cams == 2])",
        "dtype=bool), gallery_cams == 3])",
        ("sysu_cam2_only", "sysu_single.scores"),
    ),
    Mutation(
        "SYSU-MM01: CMC over images",
        "protocols/sysu_mm01.py",
        "(query_cams == 3).astype(np.int64), True)",
        "(query_cams == 3).astype(np.int64), False)",
        ("sysu_multishot",),
    ),
    Mutation(
        "queries without a match count as missed",
        "protocols/metrics.py",
        ".cumsum() / len(valid)",
        ".cumsum() / len(first_rank)",
        ("sysu_indoor_missing", "regdb_thermal_visible_missing", "llcm_same_camera"),
    ),
    Mutation(
        "LLCM: queries see their identity in their own camera",
        "protocols/metrics.py",
        "skip = same & (pairs[:, 1:] == gallery_cams)",
        "skip = same & (pairs[:, 1:] < gallery_cams.min())",
        ("llcm_same_camera", "llcm_lists.scores"),
    ),
    Mutation(
        "single-shot galleries are seeded one trial late",
        "protocols/galleries.py",
        "stream = random.Random(trial)",
        "stream = random.Random(trial + 1)",
        ("sysu_single.lists", "llcm_lists.lists"),
    ),
    Mutation(
        "official galleries are one row early",
        "protocols/galleries.py",
        "order[trial, :shots]",
        "order[trial - 1, :shots]",
        ("sysu_perm.perm",),
    ),
    Mutation(
        "LLCM's script asks with all infrared images",
        "protocols/llcm.py",
        'Trial("script 2-1", t, drawn[INFRARED][t], whole[VISIBLE]',
        'Trial("script 2-1", t, whole[INFRARED], whole[VISIBLE]',
        ("llcm_lists.lists", "llcm_lists.scores"),
    ),
]
