"""SYSU-MM01's files: what is refused, where, and what is drawn."""

from __future__ import annotations

import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from protocols.base import DataError
from protocols.files import DataWarning, PartialDataWarning
from protocols.sysu_mm01 import SysuAll, SysuAllOfficial, SysuMM01Data, read_ids, read_splits

quiet = pytest.mark.filterwarnings("ignore")
IMAGES = 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "exp").mkdir()
    for name, ids in (("train", "1,2"), ("val", "3"), ("test", "5, 4\n")):
        (tmp_path / "exp" / f"{name}_id.txt").write_text(ids)
    for camera in range(1, 7):
        for identity in range(1, 6):
            folder = tmp_path / f"cam{camera}" / f"{identity:04d}"
            folder.mkdir(parents=True)
            for k in range(IMAGES):
                (folder / f"{k + 1:04d}.jpg").touch()
    return tmp_path


def test_draws_are_those_of_every_python_3() -> None:
    stream = random.Random(0)
    assert [stream.choice(range(20)) for _ in range(8)] == [12, 13, 1, 8, 16, 15, 12, 9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,", "line 1, column 5: ''"),
        ("\n1,2", "line 1: empty"),
        ("", "line 1: empty"),
        ("1,two", "line 1, column 3: 'two'"),
        ("1,2\n3", "line 2: unexpected second line"),
        ("1,10000", "line 1, column 3: identity 10000 is above 9999"),
        ("1,2,1", "line 1, column 5: identity 1 stands twice"),
        ("1,-2", "line 1, column 3: '-2'"),
    ],
)
def test_malformed_id_file(root: Path, text: str, message: str) -> None:
    (root / "exp" / "val_id.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_ids(root, "val")
    assert str(root / "exp" / "val_id.txt") in str(caught.value)


def test_id_file_that_is_not_text(root: Path) -> None:
    (root / "exp" / "val_id.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"val_id.txt is not UTF-8"):
        read_ids(root, "val")


@pytest.mark.parametrize(("one", "other"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_identity_in_two_files(root: Path, one: str, other: str) -> None:
    for name in ("train", "val", "test"):
        (root / "exp" / f"{name}_id.txt").write_text("9" if name in (one, other) else "8")
    with pytest.raises(DataError, match=f"identity 9 stands in {one}_id.txt and in {other}_id.txt"):
        read_splits(root)


def test_missing_id_file_shows_the_tree(root: Path) -> None:
    (root / "exp" / "test_id.txt").unlink()
    with pytest.raises(DataError, match=r"exp/test_id.txt not found. Expected tree:\n<root>/cam1"):
        read_splits(root)


def test_wrong_counts_are_refused_or_a_warning(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"3 identities \(expected 395\).*1: 30.*expected \{1: 4721.*--allow-partial"
    ):
        SysuMM01Data().training(root, 0)
    with pytest.raises(DataError, match=r"2 identities \(expected 96\)"):
        SysuAll().trials(root, 0)
    with pytest.warns(PartialDataWarning, match="not the known ones of sysu-mm01; "):
        training = SysuMM01Data().training(root, 0, allow_partial=True)
    assert training.images.paths[0] == "cam1/0001/0001.jpg"
    assert training.images.paths[-1] == "cam6/0003/0010.jpg"
    assert np.bincount(training.images.modality).tolist() == [120, 60]
    assert np.unique(training.identity).tolist() == [1, 2, 3]


def test_a_twin_has_other_counts_and_needs_no_warning(tiny_sysu: Path) -> None:
    """Its folders hold three images, too few for multi shot."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SysuMM01Data().training(tiny_sysu, 0)
        assert {t.setting for t in SysuAll().trials(tiny_sysu, 0)} == {"single-shot"}


@quiet
def test_queries_and_shots(root: Path) -> None:
    trials = SysuAll().trials(root, 0, allow_partial=True)
    assert [(t.setting, t.number) for t in trials] == [
        (s, t) for s in ("single-shot", "multi-shot") for t in range(10)
    ]
    assert {t.gallery_rule for t in trials} == {"seeded"}
    assert [len(t.gallery) for t in trials] == [8] * 10 + [80] * 10
    expected = [f"cam{c}/{i:04d}" for i in (4, 5) for c in (3, 6) for _ in range(IMAGES)]
    assert [p.rsplit("/", 1)[0] for p in trials[0].query.images.paths] == expected


def test_multi_shot_with_a_short_folder(root: Path) -> None:
    (root / "cam2" / "0004" / "0007.jpg").unlink()
    with pytest.warns(PartialDataWarning, match="cam2/0004 has 9 images, multi shot draws 10"):
        trials = SysuAll().trials(root, 0, allow_partial=True)
    assert {t.setting for t in trials} == {"single-shot"}


def test_multi_shot_with_a_short_folder_is_an_error_on_whole_data(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "cam2" / "0004" / "0007.jpg").unlink()
    counts = {1: 20, 2: 19, 3: 20, 4: 20, 5: 20, 6: 20}
    monkeypatch.setattr("protocols.sysu_mm01.TEST_COUNTS", counts)
    monkeypatch.setattr("protocols.sysu_mm01.TEST_IDENTITIES", 2)
    with pytest.raises(DataError, match="cam2/0004 has 9 images"):
        SysuAll().trials(root, 0)


@quiet
def test_empty_folder_and_folder_among_images(root: Path) -> None:
    shutil.rmtree(root / "cam1" / "0004")
    (root / "cam1" / "0004").mkdir()
    with pytest.raises(DataError, match=r"cam1/0004 holds no .jpg image"):
        SysuAll().trials(root, 0, allow_partial=True)
    (root / "cam1" / "0004" / "more").mkdir()
    with pytest.raises(DataError, match="more is a folder"):
        SysuAll().trials(root, 0, allow_partial=True)


def test_odd_files(root: Path) -> None:
    folder = root / "cam4" / "0005"
    (folder / "notes.txt").touch()
    (folder / "0001.jpg").rename(folder / "0001.JPG")
    (folder / "0002.jpg").rename(folder / "00002.jpg")
    with pytest.warns(DataWarning) as caught:
        trials = SysuAll().trials(root, 0, allow_partial=True)
    text = "\n".join(str(w.message) for w in caught)
    assert "notes.txt is not a .jpg file" in text
    assert "00002.jpg: the name is not four digits" in text
    drawn = {p for t in trials if t.setting == "multi-shot" for p in t.gallery.images.paths}
    assert {"cam4/0005/0001.JPG", "cam4/0005/00002.jpg"} <= drawn
    assert not any("notes" in p for p in drawn)


@quiet
def test_absent_folder_is_skipped(root: Path) -> None:
    shutil.rmtree(root / "cam2" / "0004")
    trial = SysuAll().trials(root, 0, allow_partial=True)[0]
    assert [p[:9] for p in trial.gallery.images.paths][:3] == ["cam1/0004", "cam4/0004", "cam5/0004"]


def test_test_identity_without_any_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.sysu_mm01.TEST_COUNTS", dict.fromkeys(range(1, 7), 2 * IMAGES))
    monkeypatch.setattr("protocols.sysu_mm01.TEST_IDENTITIES", 2)
    assert SysuAll().trials(root, 0)
    for camera in range(1, 7):
        shutil.rmtree(root / f"cam{camera}" / "0004")
    with pytest.raises(DataError, match=r"1: 10, .*expected \{1: 20"):
        SysuAll().trials(root, 0)
    with pytest.warns(PartialDataWarning, match="not the known ones"):
        assert len(SysuAll().trials(root, 0, allow_partial=True)[0].gallery) == 4


def write_permutations(root: Path, images: int, identities: int = 5, first: int = 1) -> None:
    cells = np.empty((6, 1), dtype=object)
    for camera in range(6):
        known = np.empty((identities, 1), dtype=object)
        for i in range(identities):
            known[i, 0] = np.stack([np.roll(np.arange(images) + first, t) for t in range(10)]).astype(
                np.uint8
            )
        cells[camera, 0] = known
    savemat(root / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": cells})


@quiet
def test_official_file_makes_multi_shot_and_the_official_protocol(root: Path) -> None:
    write_permutations(root, IMAGES)
    rules = {(t.setting, t.gallery_rule) for t in SysuAll().trials(root, 0, allow_partial=True)}
    assert rules == {("single-shot", "seeded"), ("multi-shot", "official")}
    trials = SysuAllOfficial().trials(root, 0, allow_partial=True)
    assert {t.gallery_rule for t in trials} == {"official"}
    assert trials[1].gallery.images.paths[:3] == (
        "cam1/0004/0010.jpg",
        "cam1/0005/0010.jpg",
        "cam2/0004/0010.jpg",
    )


@quiet
def test_official_file_that_does_not_fit(root: Path) -> None:
    with pytest.raises(DataError, match=r"rand_perm_cam.mat not found"):
        SysuAllOfficial().trials(root, 0, allow_partial=True)
    write_permutations(root, 12)
    with pytest.raises(DataError, match="has 12 images of identity 4 in camera 1, the folder 10"):
        SysuAllOfficial().trials(root, 0, allow_partial=True)
    write_permutations(root, IMAGES, identities=4)
    with pytest.raises(DataError, match="has 0 images of identity 5 in camera 1, the folder 10"):
        SysuAllOfficial().trials(root, 0, allow_partial=True)
    write_permutations(root, IMAGES, first=0)
    with pytest.raises(DataError, match=r"camera 1, identity 4: row 1 is .*not a permutation of 1..10"):
        SysuAllOfficial().trials(root, 0, allow_partial=True)
    savemat(root / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": np.eye(6)})
    with pytest.raises(DataError, match="expected a cell of 6 x 1 cells"):
        SysuAllOfficial().trials(root, 0, allow_partial=True)
    (root / "exp" / "rand_perm_cam.mat").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="is not the official permutation file"):
        SysuAllOfficial().trials(root, 0, allow_partial=True)
