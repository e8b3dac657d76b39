"""A data set nobody knows, defined in this file alone: from its twin to a table, and no other file knows one by name.

It has what the two built-in ones lack: cameras that both modalities share, file names and folders of its own, two
settings with drawn galleries from one training, a rule of removal of its own, and a folder that is always empty.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import registry
from harness.errors import HarnessError
from harness.runs.data import recognise
from harness.training.evaluation import own_trials
from protocols.base import (
    Count,
    DataError,
    Dataset,
    Distance,
    Headline,
    Images,
    IntArray,
    LabelledImages,
    Modality,
    Protocol,
    Scores,
    Trial,
    count,
)
from protocols.check import check
from protocols.files import ForeignFileWarning, images_in, unknown_counts, wrong_layout
from protocols.galleries import Folder, ImageRow, seeded_draw
from protocols.lists import read_identities
from protocols.metrics import evaluate
from protocols.synthetic.plan import Plan, Shot, Twin
from tests.conftest import tiny_settings
from tests.reference.metrics import Rules, slow_scores

ROOT = Path(__file__).parents[2]
SIDES = {Modality.VISIBLE: "day", Modality.INFRARED: "night"}
CAMERAS = (1, 2, 3)
IDENTITIES = 500

pytestmark = pytest.mark.filterwarnings("ignore")
Command = Callable[..., subprocess.CompletedProcess[str]]


# -- the data set: this part would be protocols/corridor.py ------------------------------------------------


def folder_of(side: str, camera: int, identity: int) -> str:
    return f"{side}/place{camera}/p{identity:03d}"


def folders(root: Path, part: str, modality: Modality) -> list[Folder]:
    path = root / "lists" / f"{part}.txt"
    if not path.is_file():
        raise wrong_layout(root, f"lists/{part}.txt", CorridorData.tree)
    places = [
        (identity, camera, root / folder_of(SIDES[modality], camera, identity))
        for identity in read_identities(path)
        for camera in CAMERAS
    ]
    return [Folder(i, c, images_in(place, ".png")) for i, c, place in places if place.is_dir()]


def listed(root: Path, modality: Modality, rows: list[ImageRow]) -> LabelledImages:
    paths = tuple(f"{folder_of(SIDES[modality], c, i)}/{name}" for i, c, name in rows)
    cameras = np.array([row.camera for row in rows], dtype=np.int64)
    images = Images(root, paths, np.full(len(rows), modality, dtype=np.int64), cameras)
    return LabelledImages(images, np.array([row.identity for row in rows], dtype=np.int64))


def everything(root: Path, part: str, modality: Modality) -> LabelledImages:
    found = folders(root, part, modality)
    return listed(root, modality, [ImageRow(i, c, name) for i, c, names in found for name in names])


def plan_twin(people: int, images: int, seed: int) -> Plan:
    """Person 1 lacks a camera by day; number the images of both modalities through, they share the cameras."""

    shots = [
        Shot(f"{folder_of(side, c, i)}/{k}.png", i, c, bool(m), 2 * k + m)
        for m, side in SIDES.items()
        for i in range(1, people + 1)
        for c in (CAMERAS[:2] if m or i == 1 else CAMERAS)
        for k in range(images)
    ]
    half = people // 2
    parts = {"train": range(1, half + 1), "test": range(half + 1, people + 1)}
    texts = {f"lists/{part}.txt": ",".join(map(str, ids)) for part, ids in parts.items()}
    return Plan(shots, texts, folders=("night/place3",))


class CorridorData(Dataset):
    name = "corridor-x"
    alias = "corridor"
    summary = "three places by day and by night"
    landmarks = "day, night and lists"
    tree = "<root>/day/place1/p001/0.png   <root>/lists/train.txt"
    image_folders = ("day", "night")
    list_folders = ("lists",)
    suffix = ".png"
    n_trials = 3
    headline = Headline("corridor", "night-to-day")
    unions = {"corridors": ("corridor",)}
    twin = Twin(
        12, 3, plan_twin, lambda seed: plan_twin(IDENTITIES, 8, seed), size=lambda _shot, _seed: (16, 32)
    )

    def recognises(self, root: Path) -> bool:
        return all((root / name).is_dir() for name in (*self.image_folders, *self.list_folders))

    def counts(self, root: Path) -> list[Count]:
        ids = [read_identities(root / "lists" / f"{part}.txt") for part in ("train", "test")]
        return [count("identities", IDENTITIES, len(ids[0]) + len(ids[1]))]

    def training(self, root: Path, split: int, *, allow_partial: bool = False) -> LabelledImages:
        sides = [everything(root, "train", m) for m in Modality]
        if sum(map(len, sides)) != 20_000:
            unknown_counts(root, self.name, "not 20,000 training images", allow_partial)
        return LabelledImages(
            Images(
                root,
                sides[0].images.paths + sides[1].images.paths,
                np.concatenate([side.images.modality for side in sides]),
                np.concatenate([side.images.camera for side in sides]),
            ),
            np.concatenate([side.identity for side in sides]),
        )


class Corridor(Protocol):
    id = "corridor"
    version = "1"
    dataset = CorridorData()
    summary = "both directions, three drawn galleries each; a person's images in one place do not count"

    def trials(self, root: Path, split: int, *, allow_partial: bool = False) -> list[Trial]:
        return [
            Trial(setting, trial, query, listed(root, side, seeded_draw(drawn, trial, 1)), "seeded")
            for setting, asked, side in (
                ("night-to-day", Modality.INFRARED, Modality.VISIBLE),
                ("day-to-night", Modality.VISIBLE, Modality.INFRARED),
            )
            for query, drawn in [(everything(root, "test", asked), folders(root, "test", side))]
            for trial in range(3)
        ]

    def score(
        self,
        distance: Distance,
        query_ids: IntArray,
        gallery_ids: IntArray,
        query_cams: IntArray,
        gallery_cams: IntArray,
    ) -> Scores:
        pairs, group = np.unique(np.stack([query_ids, query_cams], axis=1), axis=0, return_inverse=True)
        skip = (pairs[:, :1] == gallery_ids) & (pairs[:, 1:] == gallery_cams)
        return evaluate(distance, query_ids, gallery_ids, skip, group.reshape(-1), True)


# -- what a person does with it ----------------------------------------------------------------------------


@pytest.fixture
def corridor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a distribution whose entry points are the classes of this file."""
    info = tmp_path / "site" / "corridor-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corridor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[reidbench.datasets]\ncorridor-x = {__name__}:CorridorData\n"
        f"[reidbench.protocols]\ncorridor = {__name__}:Corridor\n"
    )
    monkeypatch.syspath_prepend(str(info.parent))
    registry.forget()
    yield
    registry.forget()


@pytest.fixture
def ready(corridor: None, reidbench: Command) -> Command:
    made = reidbench("data", "synth", "twin", "--like", "corridor", "--images", 2)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "twin: synthetic twin of corridor, medium, seed 0: 118 images of 12 people\n"
    return reidbench


def test_its_twin_is_checked_and_fingerprinted(ready: Command, tmp_path: Path) -> None:
    checked = ready("data", "check", "twin")
    assert checked.returncode == 0, checked.stderr
    assert "twin: corridor-x, synthetic twin" in checked.stdout
    assert checked.stdout.endswith("the data may be used\n")
    assert list((tmp_path / "twin" / "night" / "place3").iterdir()) == []
    printed = ready("data", "fingerprint", "twin").stdout
    ready("data", "synth", "again", "--like", "corridor-x", "--images", 2)
    assert ready("data", "fingerprint", "again").stdout == printed
    with (tmp_path / "again" / "lists" / "train.txt").open("a") as file:
        file.write("\n")
    assert ready("data", "fingerprint", "again").stdout != printed
    (tmp_path / "twin" / "night" / "notes.txt").touch()
    next((tmp_path / "twin" / "day" / "place3").rglob("*.png")).unlink()
    with pytest.warns(ForeignFileWarning, match=r"notes.txt is ignored"):
        check(tmp_path / "twin", CorridorData())
    damaged = ready("data", "check", "twin")
    assert damaged.returncode == 2
    assert re.search(r"images below day\W+70\W+69\W+WRONG", damaged.stdout)


def test_without_the_marker_its_known_counts_hold(ready: Command, tmp_path: Path) -> None:
    (tmp_path / "twin" / "SYNTHETIC.json").unlink()
    checked = ready("data", "check", "twin")
    assert checked.returncode == 2
    assert re.search(r"identities\W+500\W+12\W+WRONG", checked.stdout)
    refused = ready("run", "source-only", "--protocol", "corridor", "--data", "twin", *tiny_settings())
    assert refused.returncode == 2
    assert "identities: expected 500, found 12" in refused.stderr


def test_it_is_recognised_listed_and_named_in_refusals(ready: Command, tmp_path: Path) -> None:
    assert recognise(tmp_path / "twin").name == "corridor-x"
    with pytest.raises(DataError, match=r"(?s)or for day, night and lists.*corridor-x:\n<root>/day"):
        recognise(tmp_path)
    assert [protocol.id for protocol in registry.load_protocols("corridors")] == ["corridor"]
    assert "corridor-x" in ready("list", "protocols").stdout
    assert "corridor-x" in ready("show", "source-only").stdout
    assert "corridor-x (adapted)" in ready("show", "spcl").stdout
    refused = ready("data", "synth", "other", "--like", "coridor")
    assert refused.returncode == 2
    assert "expected corridor or llcm or regdb or sysu" in refused.stderr
    refused = ready("data", "export", "--protocol", "regdb", "--data", "twin", "--out", "lists")
    assert "holds corridor-x, but protocol regdb needs regdb" in refused.stderr


def test_its_lists_are_exported_and_scored(ready: Command, tmp_path: Path) -> None:
    done = ready("data", "export", "--protocol", "corridor", "--data", "twin", "--out", "lists")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{f}: 6 query and gallery lists" for f in ("lists", "lists/day-to-night")
    ]
    sides = {}
    for side in ("query", "gallery"):
        with (tmp_path / "lists" / f"{side}_2.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        sides[f"{side}_ids"] = np.array([int(row["identity"]) for row in rows])
        sides[f"{side}_cams"] = np.array([int(row["camera"]) for row in rows])
    right = sides["query_ids"][:, None] == sides["gallery_ids"]
    np.savez(tmp_path / "mine.npz", distance=(~right).astype(float), **sides)
    scored = ready("score", "mine.npz", "--protocol", "corridor")
    assert scored.returncode == 0, scored.stderr
    assert "rank-1   100.00 %" in scored.stdout


def test_its_rule_of_removal_decides() -> None:
    """The only near image shows the person in the same place, and is not seen."""
    one = np.array([1])
    scores = Corridor().score(np.array([[0.0, 0.5, 1.0]]), one, np.array([1, 2, 1]), one, np.array([1, 1, 2]))
    assert (scores.cmc[0], scores.mAP, scores.hits.tolist()) == (0.0, 0.5, [2])


@pytest.mark.parametrize("seed", range(5))
def test_its_scores_equal_the_slow_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids, cams = (lambda n: rng.integers(0, 25, n)), (lambda n: rng.choice(CAMERAS, n))
    case = (rng.standard_normal((20, 60)), ids(20), ids(60), cams(20), cams(60))
    rules = Rules(
        lambda person, place, ids, cams: (ids == person) & (cams == place), distinct_identities=True
    )
    scores, slow = Corridor().score(*case), slow_scores(*case, rules)
    np.testing.assert_allclose(scores.cmc, slow.cmc, atol=1e-12)
    assert (scores.mAP, scores.mINP) == pytest.approx((slow.mAP, slow.mINP), abs=1e-12)


@pytest.mark.slow
def test_one_run_is_scored_in_both_settings_and_tabulated(ready: Command, tmp_path: Path) -> None:
    done = ready(
        "run", "source-only", "--protocol", "corridor", "--data", "twin", "--device", "cpu", *tiny_settings()
    )
    assert done.returncode == 0, done.stderr
    (metrics,) = (tmp_path / "runs" / "corridor-x" / "source-only").glob("*/metrics.csv")
    rows = pd.read_csv(metrics).query("checkpoint == 'last' and metric == 'mAP'")
    assert rows.groupby("setting")["trial"].nunique().to_dict() == {"night-to-day": 3, "day-to-night": 3}
    assert set(rows["headline"]) == {"corridor night-to-day"}
    assert set(rows["n_trials"]) == {3}
    expected = rows.query("setting == 'night-to-day'")["value"].mean()
    assert f"mean test mAP of {expected:.2f}" in done.stderr
    manifest = json.loads((metrics.parent / "manifest.json").read_text())
    assert manifest["spec"]["dataset"] == "corridor-x"
    table = ready("table", "runs", "--format", "csv")
    assert table.returncode == 0, table.stderr
    assert "3 of 3" in table.stdout


def test_a_trial_of_another_split_is_refused_where_the_split_is_the_trial(tmp_path: Path) -> None:
    class Coupled(CorridorData):
        splits = (1, 2)
        split_is_trial = True

    class Leaks(Corridor):
        dataset = Coupled()

        def trials(self, root: Path, split: int, *, allow_partial: bool = False) -> list[Trial]:
            images = listed(root, Modality.VISIBLE, [])
            return [
                Trial("night-to-day", number, images, images, "whole split") for number in self.dataset.splits
            ]

    with pytest.raises(HarnessError, match="corridor gives trial 2 for weights of split 1"):
        own_trials(Leaks(), tmp_path, 1, allow_partial=False)


# -- nobody else knows a data set --------------------------------------------------------------------------


def names_of_data_sets() -> re.Pattern[str]:
    """Return the pattern of every name that a data set or one of its protocols has."""
    entries = registry.datasets().values()
    names = {name for entry in entries for name in (entry.name, entry.alias, *entry.unions)}
    words = sorted(re.escape(name) for name in names | set(registry.protocols()) if name)
    return re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)


def texts_of(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the string constants of a file, without docstrings and the examples of the command line's help."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    told: set[Any] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            told.add(node.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "add":  # a command and its example
            told.update(node.args)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told:
            yield node.lineno, node.value


def test_no_other_file_names_a_data_set() -> None:
    pattern = names_of_data_sets()
    own = {entry.target.partition(":")[0] for entry in registry.datasets().values()}
    assert len(own) == len(registry.datasets()), "one file a data set"
    named = [
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for package in ("harness", "results", "protocols")
        for file in sorted((ROOT / package).rglob("*.py"))
        if ".".join(file.relative_to(ROOT).with_suffix("").parts) not in own
        for line, text in texts_of(file)
        if pattern.search(text)
    ]
    assert not named, "\n".join(named)


def test_every_protocol_stands_in_the_file_of_its_data_set() -> None:
    places = {entry.name: entry.target.partition(":")[0] for entry in registry.datasets().values()}
    for entry in registry.protocols().values():
        assert entry.target.partition(":")[0] == places[entry.dataset]
