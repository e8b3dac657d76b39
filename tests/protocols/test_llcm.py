"""LLCM: the metric, what is refused and where, its twin (`tests/oracles` has what the released code computed)."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import registry
from harness.runs.data import recognise
from harness.tools.tables import table_of
from protocols.base import DataError, Modality
from protocols.check import check
from protocols.files import DataWarning, PartialDataWarning
from protocols.llcm import LLCM, LLCMData, LLCMScript21, plan_full_size, plan_twin
from protocols.metrics import ShortGalleryWarning
from protocols.sysu_mm01 import SysuAll
from results import find_runs, published_figures
from tests.conftest import tiny_settings
from tests.reference.metrics import SYSU, Rules, slow_scores

DATA = Path(__file__).parents[1] / "data" / "protocols" / "llcm"
RULES = Rules(lambda person, place, ids, cams: (ids == person) & (cams == place), distinct_identities=True)
Command = Callable[..., subprocess.CompletedProcess[str]]
quiet = pytest.mark.filterwarnings("ignore")


# -- the metric ------------------------------------------------------------------------------------------------


Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_case(seed: int, people: int = 25) -> Case:
    g = np.random.default_rng(seed)
    ids, cams = (lambda n: g.integers(0, people, n)), (lambda n: g.integers(1, 10, n))
    return g.standard_normal((40, 90)), ids(40), ids(90), cams(40), cams(90)


def same_scores(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one.cmc, other.cmc, atol=1e-12)
    assert (one.mAP, one.mINP) == pytest.approx((other.mAP, other.mINP), abs=1e-12)


@quiet
@pytest.mark.parametrize("people", [5, 19, 20, 21, 25])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_slow_reference(seed: int, people: int) -> None:
    case = random_case(seed, people)
    same_scores(LLCM().score(*case), slow_scores(*case, RULES))


@pytest.mark.parametrize("seed", range(3))
def test_names_of_cameras_do_not_matter(seed: int) -> None:
    distance, ids, gallery_ids, cams, gallery_cams = random_case(seed)
    renamed = np.random.default_rng(seed).permutation(10) + 40
    first = LLCM().score(distance, ids, gallery_ids, cams, gallery_cams)
    same_scores(first, LLCM().score(distance, ids, gallery_ids, renamed[cams], renamed[gallery_cams]))


@pytest.mark.parametrize("seed", range(3))
def test_without_a_common_camera_it_is_the_metric_of_sysu_mm01_without_removal(seed: int) -> None:
    distance, ids, gallery_ids, cams, gallery_cams = random_case(seed)
    found = LLCM().score(distance, ids, gallery_ids, cams, gallery_cams + 20)
    six, four = np.full_like(cams, 6), np.full_like(gallery_cams, 4)
    same_scores(found, slow_scores(distance, ids, gallery_ids, six, four, SYSU))
    same_scores(found, SysuAll().score(distance, ids, gallery_ids, six, four))


def test_a_query_without_another_camera_leaves_every_mean() -> None:
    """Of person 1 there is one camera alone; person 2 has another, behind a wrong image."""
    with pytest.warns(ShortGalleryWarning):
        found = LLCM().score(
            np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]]),
            np.array([1, 2]),
            np.array([1, 2, 2]),
            np.array([5, 4]),
            np.array([5, 4, 6]),
        )
    assert (found.n_query, found.n_valid) == (2, 1)
    assert (found.cmc[0], found.cmc[1], found.mAP) == (0.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_cams": np.array([4, 5]), "gallery_cams": np.array([4, 5])}, "every match of the 2 queries"),
        ({"gallery_ids": np.array([3, 4])}, "none of the 2 queries has a match"),
        ({"distance": np.array([[np.nan, 1.0], [0.0, 1.0]])}, "distance: 1 of 2 rows have NaN"),
        ({"query_cams": np.array([4])}, r"query_cams has shape \(1,\)"),
        ({"gallery_cams": np.array([4, 5, 6])}, r"gallery_cams has shape \(3,\)"),
        ({"distance": np.ones((1, 2))}, r"distance has shape \(1, 2\)"),
    ],
)
def test_what_has_no_score_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    ids, cams = np.array([1, 2]), np.array([4, 5])
    case = {"distance": np.eye(2), "query_ids": ids, "gallery_ids": ids, "query_cams": cams}
    with pytest.raises(DataError, match=message):
        LLCM().score(**(case | {"gallery_cams": cams + 1} | change))


@pytest.mark.parametrize("empty", ["query", "gallery"])
def test_an_empty_side_is_named(empty: str) -> None:
    n = {"query": 3, "gallery": 4} | {empty: 0}
    sides = {f"{side}_{what}": np.ones(n[side], dtype=np.int64) for side in n for what in ("ids", "cams")}
    with pytest.raises(DataError, match="zero queries" if empty == "query" else "the gallery is empty"):
        LLCM().score(np.zeros((n["query"], n["gallery"])), **sides)


# -- files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tiny_llcm: Path, tmp_path: Path) -> Path:
    """A twin that says it is none, of which nothing is partial but the counts."""
    shutil.copytree(tiny_llcm, tmp_path / "LLCM")
    (tmp_path / "LLCM" / "SYNTHETIC.json").unlink()
    return tmp_path / "LLCM"


def read(root: Path, allow_partial: bool = True) -> None:
    LLCMData().training(root, 0, allow_partial=allow_partial)
    LLCM().trials(root, 0, allow_partial=allow_partial)


def first_folder(root: Path, top: str = "test_vis") -> Path:
    return next(path for path in sorted((root / top).glob("cam*/*")))


def rename(path: Path, pattern: str, new: str) -> None:
    path.rename(path.with_name(re.sub(pattern, new, path.name)))


def training_line(change: Callable[[str], str]) -> Callable[[Path], object]:
    def mend(root: Path) -> object:
        file = root / "idx" / "train_nir.txt"
        first, *rest = file.read_text().splitlines()
        return file.write_bytes("\n".join([change(first), *rest]).encode())

    return mend


def trained_and_tested(root: Path) -> None:
    line = (root / "idx" / "train_vis.txt").read_text().splitlines()[0]
    text = (root / "idx" / "test_id.txt").read_text().strip()
    (root / "idx" / "test_id.txt").write_text(f"{text},{int(line.split('/')[1])}\n")


def without_folders(root: Path, top: str) -> None:
    for folder in (root / top).glob("cam*/*"):
        shutil.rmtree(folder)


def only_shared_cameras(root: Path) -> None:
    """Leave each person the folders of one camera in both modalities, or none."""
    for folder in [*(root / "test_vis").glob("cam*/*"), *(root / "test_nir").glob("cam*/*")]:
        other = root / ("test_nir" if "test_vis" in str(folder) else "test_vis") / folder.parent.name
        if not (other / folder.name).is_dir():
            shutil.rmtree(folder)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty identity folder": (
        lambda root: [image.unlink() for image in first_folder(root).iterdir()],
        r"test_vis/cam\d/\d{4} holds no .jpg image",
    ),
    "name without a camera": (
        lambda root: rename(next(first_folder(root).iterdir()), r"_c\d\d_", "_"),
        r"_vis.jpg: the name is not <identity>_c<camera>_",
    ),
    "name of another identity": (
        lambda root: rename(next(first_folder(root).iterdir()), r"^\d{4}", "0999"),
        "the name says identity 0999, the folder does not",
    ),
    "name of another camera": (
        lambda root: rename(next(first_folder(root, "test_nir").iterdir()), r"_c\d\d_", "_c03_"),
        "the name says camera 3, the folder does not",
    ),
    "identity above 9999": (
        lambda root: (root / "test_vis" / "cam1" / "10000").mkdir(parents=True),
        "test_vis/cam1/10000: an identity has four digits, up to 9999",
    ),
    "test identity above 9999": (
        lambda root: (root / "idx" / "test_id.txt").write_text("1,10000\n"),
        "test_id.txt, line 1, column 3: identity 10000 is above 9999",
    ),
    "duplicate test identity": (
        lambda root: (root / "idx" / "test_id.txt").write_text("1, 3,1\n"),
        "test_id.txt, line 1, column 6: identity 1 stands twice",
    ),
    "second line": (
        lambda root: (root / "idx" / "test_id.txt").write_text("1,3\n5\n"),
        "test_id.txt, line 2: unexpected second line",
    ),
    "trailing comma": (
        lambda root: (root / "idx" / "test_id.txt").write_text("1,3,"),
        "test_id.txt, line 1, column 5: '' is not an identity",
    ),
    "empty id file": (
        lambda root: (root / "idx" / "test_id.txt").write_text(""),
        "test_id.txt, line 1: empty",
    ),
    "no id file": (
        lambda root: (root / "idx" / "test_id.txt").unlink(),
        r"test_id.txt not found. Expected tree",
    ),
    "no training list": (
        lambda root: (root / "idx" / "train_nir.txt").unlink(),
        r"idx/train_nir.txt not found. Expected tree:\n<root>/vis",
    ),
    "trained and tested": (trained_and_tested, r"stands in test_id.txt and in train_vis.txt \(1 such\)"),
    "third field": (training_line(lambda line: f"{line} 7"), "train_nir.txt, line 1: .* has an extra field"),
    "empty line": (training_line(lambda line: f"\n{line}"), "train_nir.txt, line 1: '' is not a path"),
    "no label": (training_line(lambda line: line.split()[0]), "train_nir.txt, line 1"),
    "image of the other modality": (
        training_line(lambda line: line.replace("nir/", "./nir/")),
        "train_nir.txt, line 1: ./nir/.* is not nir/<four digits>/<image>",
    ),
    "no such image": (
        training_line(lambda line: line.replace(".jpg", ".png")),
        "train_nir.txt, line 1: no image",
    ),
    "no infrared image": (
        lambda root: without_folders(root, "test_nir"),
        "no infrared query, no infrared gallery",
    ),
    "no visible image": (
        lambda root: without_folders(root, "test_vis"),
        "no visible query, no visible gallery",
    ),
    "no match in another camera": (only_shared_cameras, "every match of all queries, infrared and visible"),
}


@quiet
@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused_even_if_partial_ones_are_allowed(root: Path, case: str) -> None:
    damage, message = BAD[case]
    damage(root)
    with pytest.raises(DataError, match=message):
        read(root)


@quiet
def test_bad_data_end_the_command(root: Path, reidbench: Command) -> None:
    BAD["name of another identity"][0](root)
    for command in (
        ("data", "check", root),
        ("data", "export", "--protocol", "llcm", "--data", root, "--out", "lists", "--allow-partial-data"),
        ("run", "source-only", "--protocol", "llcm", "--data", root, *tiny_settings()),
    ):
        done = reidbench(*command)
        assert done.returncode == 2
        assert "the name says identity 0999" in done.stderr
        assert "Traceback" not in done.stderr


@quiet
@pytest.mark.parametrize("text", ["{0}  {1}", "{0}\t{1}", "{0} {1}\r", "{0} {1} "])
def test_blanks_and_line_ends_that_are_fine(root: Path, text: str) -> None:
    before = LLCMData().training(root, 0, allow_partial=True)
    training_line(lambda line: text.format(*line.split()))(root)
    after = LLCMData().training(root, 0, allow_partial=True)
    assert after.images.paths == before.images.paths
    assert after.identity.tolist() == before.identity.tolist()


def odd_label(root: Path) -> None:
    training_line(lambda line: line.split()[0] + " 99")(root)


def missing_person(root: Path) -> None:
    for folder in root.glob(f"test_*/cam*/{first_folder(root).name}"):
        shutil.rmtree(folder)


def missing_modality(root: Path) -> None:
    for folder in root.glob(f"test_vis/cam*/{first_folder(root).name}"):
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: None, "lines of train_vis.txt: expected 16946, found"),
        (odd_label, "training labels of one modality alone: expected 0, found 1"),
        (odd_label, "pairs of training label and identity: expected 713, found 19"),
        (missing_person, r"test identities without images \(the first\): expected \[\], found \[\d"),
        (missing_modality, r"test identities of one modality alone \(the first\): expected \[\], found \[\d"),
    ],
)
def test_what_a_complete_copy_cannot_have_is_refused_or_a_warning(
    root: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(root)
    reads = (LLCMData().training, LLCM().trials)
    said = []
    for one in reads:
        with pytest.raises(DataError, match=r"--allow-partial-data") as refused:
            one(root, 0)
        said.append(str(refused.value))
        with pytest.warns(PartialDataWarning, match=r"not the known ones of llcm.*`reidbench data check"):
            one(root, 0, allow_partial=True)
    assert re.search(message, "\n".join(said))
    report = check(root, LLCMData(), images=False)
    assert re.search(
        message, "\n".join(f"{r.what}: expected {r.expected}, found {r.found}" for r in report.rows)
    )


@quiet
def test_queries_of_one_modality_alone_are_counted_as_invalid(root: Path) -> None:
    missing_modality(root)
    trials = LLCM().trials(root, 0, allow_partial=True)
    for trial in trials:
        d = np.random.default_rng(0).standard_normal((len(trial.query), len(trial.gallery)))
        sides = (trial.query, trial.gallery)
        found = LLCM().score(d, *(s.identity for s in sides), *(s.images.camera for s in sides))
        assert 0 < found.n_valid < found.n_query


@pytest.mark.parametrize(
    "text", ["test_vis/cam10", "test_nir/cam3", "test_nir/camera", "test_vis/cam1/people"]
)
def test_unknown_folders_are_left_out_with_a_warning(root: Path, text: str) -> None:
    before = [trial.gallery.images.paths for trial in LLCM().trials(root, 0, allow_partial=True)]
    (root / text / "0003").mkdir(parents=True)
    (root / text / "0003" / "0003_c03_s1_f1_nir.jpg").touch()
    with pytest.warns(DataWarning, match=f"{text} is no "):
        after = LLCM().trials(root, 0, allow_partial=True)
    assert [trial.gallery.images.paths for trial in after] == before


@quiet
def test_images_of_the_infrared_camera_3_do_not_pass_the_check(root: Path) -> None:
    (root / "test_nir" / "cam3" / "0003").mkdir()
    (root / "test_nir" / "cam3" / "0003" / "0003_c03_s1_f1_nir.jpg").touch()
    (row,) = [row for row in check(root, LLCMData(), images=False).rows if "cam3" in row.what]
    assert (row.expected, row.found, row.ok) == ("0", "1", False)


def test_an_absent_or_empty_infrared_camera_3_is_nothing_to_warn_of(tiny_llcm: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llcm, tmp_path / "twin")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path / "twin", allow_partial=False)
        (tmp_path / "twin" / "test_nir" / "cam3").rmdir()
        read(tmp_path / "twin", allow_partial=False)


@quiet
def test_foreign_files_are_left_out_with_a_warning_and_any_case_is_read(root: Path) -> None:
    before = [trial.query.images.paths for trial in LLCM().trials(root, 0, allow_partial=True)]
    image = next(first_folder(root).iterdir())
    image.rename(image.with_suffix(".JPG"))
    (image.parent / "notes.txt").touch()
    with pytest.warns(DataWarning, match=r"notes.txt is not a .jpg file"):
        after = [trial.query.images.paths for trial in LLCM().trials(root, 0, allow_partial=True)]
    assert [{path.lower() for path in paths} for paths in after] == [set(map(str.lower, p)) for p in before]


# -- the twin --------------------------------------------------------------------------------------------------


def test_twin_has_what_the_real_data_have(tiny_llcm: Path) -> None:
    assert recognise(tiny_llcm).name == "llcm"
    assert list((tiny_llcm / "test_nir" / "cam3").iterdir()) == []
    assert check(tiny_llcm, LLCMData()).ok
    training = LLCMData().training(tiny_llcm, 0).images
    both = [set(training.camera[training.modality == m].tolist()) for m in Modality]
    assert both[0] & both[1]
    seen = {
        top: {(p.name, p.parent.name) for p in (tiny_llcm / top).glob("cam*/*")}
        for top in ("test_vis", "test_nir")
    }
    cameras = pd.Series([person for person, _ in seen["test_vis"]]).value_counts()
    assert set(cameras) == {1, 2}
    assert seen["test_vis"] & seen["test_nir"]
    alone = [p for p in cameras.index if len({c for top in seen.values() for q, c in top if q == p}) == 1]
    assert alone, "somebody's matches are all of the query's own camera"


@pytest.mark.parametrize(
    ("people", "images", "seed"), [(4, 1, 0), (5, 1, 3), (12, 2, 1), (90, 5, 0), (300, 1, 2)]
)
def test_every_twin_can_be_scored(people: int, images: int, seed: int) -> None:
    plan = plan_twin(people, images, seed)
    places = {shot.path.rsplit("/", 1)[0] for shot in plan.shots if shot.path.startswith("test_")}
    seen = {(top, int(person), camera) for top, camera, person in (place.split("/") for place in places)}
    visible, infrared = ({(i, c) for top, i, c in seen if top == name} for name in ("test_vis", "test_nir"))
    assert any(i == j and a != b for i, a in visible for j, b in infrared)
    assert {i for i, _ in visible} == {i for i, _ in infrared}
    assert len({shot.path for shot in plan.shots}) == len(plan.shots)


def test_default_twin_has_people_enough_for_public_code() -> None:
    assert len(plan_twin(LLCMData.twin.people, 1, 0).texts["idx/test_id.txt"].split(",")) >= 22


def test_full_size_plan_has_the_known_counts() -> None:
    plan = plan_full_size(0)
    lines = {name: text.splitlines() for name, text in plan.texts.items()}
    assert (len(lines["idx/train_vis.txt"]), len(lines["idx/train_nir.txt"])) == (16_946, 13_975)
    assert len({line.split()[1] for line in lines["idx/train_vis.txt"]}) == 713
    assert len(lines["idx/test_id.txt"][0].split(",")) == 351
    tops = pd.Series([shot.path.split("/")[0] for shot in plan.shots]).value_counts()
    assert (tops["test_vis"], tops["test_nir"], tops["vis"], tops["nir"]) == (8_680, 7_166, 25_626, 21_141)
    gallery = {shot.path.rsplit("/", 1)[0] for shot in plan.shots if shot.path.startswith("test_vis")}
    assert len(gallery) == 484
    assert not any("test_nir/cam3/" in shot.path for shot in plan.shots)


# -- the command -----------------------------------------------------------------------------------------------


def test_commands_of_data_know_it(reidbench: Command, tmp_path: Path) -> None:
    made = reidbench("data", "synth", "cam9x7777/twin", "--like", "llcm", "--identities", 12, "--images", 2)
    assert made.returncode == 0, made.stderr
    assert "synthetic twin of llcm, medium, seed 0" in made.stdout
    checked = reidbench("data", "check", "cam9x7777/twin")
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "the data may be used")
    assert re.fullmatch(r"[0-9a-f]{64}\n", reidbench("data", "fingerprint", "cam9x7777/twin").stdout)
    for protocol, folders in (
        ("llcm", ("lists", "lists/visible-to-infrared")),
        ("llcm-script21", ("lists",)),
    ):
        shutil.rmtree(tmp_path / "lists", ignore_errors=True)
        done = reidbench(
            "data", "export", "--protocol", protocol, "--data", "cam9x7777/twin", "--out", "lists"
        )
        assert done.stdout.splitlines() == [f"{f}: 20 query and gallery lists" for f in folders], done.stderr
    unknown = reidbench("score", "x.npz", "--protocol", "llcm-script12")
    assert (unknown.returncode, "did you mean 'llcm-script21'?" in unknown.stderr) == (2, True)


def test_scores_of_a_file_say_valid_and_all_queries(reidbench: Command, tmp_path: Path) -> None:
    case = np.load(DATA / "llcm_same_camera.npz", allow_pickle=False)
    names = [f"{side}_{what}" for side in ("query", "gallery") for what in ("ids", "cams", "features")]
    np.savez(tmp_path / "mine.npz", **{name: case[name] for name in names})
    done = reidbench("score", "mine.npz", "--protocol", "llcm")
    assert done.returncode == 0, done.stderr
    assert "185 queries, 101 valid queries" in done.stderr
    assert f"mAP       {100 * float(case['mAP']):.2f} %" in done.stdout


@pytest.fixture(scope="module")
def runs(tiny_llcm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of one run."""
    from harness.cli.app import main

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(tmp_path_factory.mktemp("run"))
        patch.setenv("COLUMNS", "200")
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as end:
            main(["run", "source-only", "--protocol", "llcm", "--data", str(tiny_llcm), *tiny_settings()])
        assert not end.value.code
        yield Path("runs").resolve()


def test_one_run_is_scored_both_ways_and_the_script_apart(runs: Path) -> None:
    (run,) = find_runs([runs]).runs
    places = run.metrics.groupby("protocol")["setting"].unique().map(sorted).to_dict()
    assert places == {"llcm": ["infrared-to-visible", "visible-to-infrared"], "llcm-script21": ["script 2-1"]}
    assert set(run.metrics["headline"]) == {"llcm visible-to-infrared"}
    assert set(table_of([run]).about["protocol"]) == {"llcm"}
    assert set(table_of([run], "llcm-script21").about["protocol"]) == {"llcm-script21"}


def test_captions_count_valid_queries_and_explain_the_script(runs: Path) -> None:
    (run,) = find_runs([runs]).runs
    direct, script = (" ".join(table_of([run], name).caption) for name in ("llcm", "llcm-script21"))
    assert re.search(
        r"llcm, infrared-to-visible: .*gallery seeded, trials 0-9, \d+ valid of \d+ queries", direct
    )
    assert "not comparable with visible-to-infrared of llcm" in script


def test_it_is_no_default_protocol() -> None:
    assert [entry.name for entry in registry.protocols().values() if entry.extra] == ["llcm-script21"]


def test_report_leaves_the_script_out(runs: Path, reidbench: Command, tmp_path: Path) -> None:
    assert reidbench("report", runs, "--out", "report.html").returncode == 0
    text = (tmp_path / "report.html").read_text()
    assert "visible-to-infrared" in text
    assert "script 2-1" not in text


def test_draws_are_those_of_every_python_3(tiny_llcm: Path) -> None:
    """One stream for a list, one choice for a folder."""
    trial = LLCM().trials(tiny_llcm, 0)[7]
    stream = random.Random(7)
    folders: dict[str, list[str]] = {}
    everything = LLCM().trials(tiny_llcm, 0)[10].query.images.paths
    for path in everything:
        folders.setdefault(path.rsplit("/", 1)[0], []).append(path)
    assert list(trial.gallery.images.paths) == [stream.choice(paths) for paths in folders.values()]


def test_gallery_rules_are_told(tiny_llcm: Path) -> None:
    assert {trial.gallery_rule for trial in LLCM().trials(tiny_llcm, 0)} == {"seeded"}
    (rule,) = {trial.gallery_rule for trial in LLCMScript21().trials(tiny_llcm, 0)}
    assert "not comparable" in rule


def test_published_figures_of_the_script_stand_under_its_own_protocol() -> None:
    """Of all images against draws, mAP is above rank-1; of draws against all images, far below."""
    figures = published_figures()
    gap = figures["mAP"] - figures["rank1"]
    direct, script = (figures["protocol"] == protocol for protocol in ("llcm", "llcm-script21"))
    assert set(figures[direct]["setting"]) == {"infrared-to-visible", "visible-to-infrared"}
    assert gap[direct].min() > 0
    assert set(figures[script]["setting"]) == {"script 2-1"}
    assert gap[script].max() < -10
    deen = figures[figures["method"].str.startswith("DEEN")].set_index("setting")
    assert deen.loc["visible-to-infrared", ["rank1", "mAP"]].tolist() == [62.5, 65.8]
    assert deen.loc["script 2-1", ["rank1", "mAP"]].tolist() == [69.21, 55.52]
