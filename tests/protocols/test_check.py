"""The data check, fingerprint and recognition, on twins and on damaged copies of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from protocols.base import DataError
from protocols.check import check, dataset_at, fingerprint
from protocols.files import ForeignFileWarning, is_synthetic
from protocols.regdb import RegDBData
from protocols.sysu_mm01 import SysuMM01Data

REGDB, SYSU = RegDBData(), SysuMM01Data()
KNOWN = (SYSU, REGDB)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def regdb(tiny_regdb: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_regdb, tmp_path / "regdb"))


@pytest.fixture
def sysu(tiny_sysu: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_sysu, tmp_path / "sysu"))


def test_recognition(tiny_regdb: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    assert dataset_at(tiny_regdb, KNOWN) is REGDB
    assert dataset_at(tiny_sysu, KNOWN) is SYSU
    assert is_synthetic(tiny_regdb)
    assert not is_synthetic(tmp_path)
    with pytest.raises(DataError, match=r"(?s)looked for cam1 .. cam6 and exp.*<root>/cam1.*<root>/Visible"):
        dataset_at(tmp_path, KNOWN)
    with pytest.raises(DataError, match="does not exist"):
        dataset_at(tmp_path / "nowhere", KNOWN)


@pytest.mark.parametrize("name", ["regdb", "sysu"])
def test_a_twin_keeps_its_promise(name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(name)
    report = check(root, dataset_at(root, KNOWN))
    assert report.rows
    assert report.ok, [report.problems, [r for r in report.rows if not r.ok]]


def test_a_missing_image_breaks_the_promise(sysu: Path) -> None:
    next(sysu.rglob("cam4/*/*.jpg")).unlink()
    wrong = [row for row in check(sysu, SYSU).rows if not row.ok]
    assert [(r.what, int(r.expected) - int(r.found)) for r in wrong] == [("images below cam4", 1)]


@pytest.mark.parametrize("name", ["regdb", "sysu"])
def test_without_the_marker_counts_are_the_real_ones(name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(name)
    (root / "SYNTHETIC.json").unlink()
    report = check(root, dataset_at(root, KNOWN), images=False)
    assert not report.counts_ok
    with pytest.raises(DataError, match=r"expected (206|395), found \d+.*--allow-partial-data"):
        report.refuse()


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"counts": 3})])
def test_damaged_marker(regdb: Path, text: str) -> None:
    (regdb / "SYNTHETIC.json").write_text(text)
    with pytest.raises(DataError, match=r"SYNTHETIC.json is damaged"):
        check(regdb, REGDB)


def test_a_count_that_differs_in_one_split_is_named_with_it(
    regdb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.regdb.IMAGES", 24)
    monkeypatch.setattr("protocols.regdb.IDENTITIES", 6)
    (regdb / "SYNTHETIC.json").unlink()
    assert check(regdb, REGDB, images=False).ok
    index = regdb / "idx" / "test_thermal_4.txt"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
    report = check(regdb, REGDB, images=False)
    assert len(report.rows) == 10
    assert [(row.what, row.found) for row in report.rows if not row.ok] == [
        ("test thermal images, each split", "23 in split 4")
    ]
    with pytest.raises(DataError, match="expected 24, found 23 in split 4"):
        report.refuse()


def test_labels_that_one_modality_alone_has(regdb: Path) -> None:
    (regdb / "SYNTHETIC.json").unlink()
    index = regdb / "idx" / "test_thermal_4.txt"
    index.write_text(index.read_text().replace(" 5\n", " 9\n"))
    (row,) = (row for row in check(regdb, REGDB, images=False).rows if row.what.startswith("test labels"))
    assert (row.expected, row.found, row.ok) == ("0", "2 in split 4", False)


def test_galleries_hold_the_known_identities(sysu: Path) -> None:
    """A test identity may lack a camera; how many do is known."""
    (sysu / "SYNTHETIC.json").unlink()
    tested = (sysu / "exp" / "test_id.txt").read_text().split(",")
    shutil.rmtree(sysu / "cam4" / f"{int(tested[0]):04d}")
    rows = {row.what: row for row in check(sysu, SYSU, images=False).rows}
    counts = {
        c: (int(r.expected), int(r.found))
        for c in range(1, 7)
        if (r := rows.get(f"test identities, camera {c}"))
    }
    n = len(tested)
    assert counts == {1: (56, n), 2: (56, n), 4: (94, n - 1), 5: (95, n)}


def test_problems_are_named(regdb: Path) -> None:
    first, second, third = sorted((regdb / "Visible").rglob("*.bmp"))[:3]
    first.write_bytes(first.read_bytes()[:200])
    shutil.copy(third, second)
    (regdb / "Thermal" / "notes.txt").touch()
    with pytest.warns(ForeignFileWarning, match=f"foreign file {regdb / 'Thermal' / 'notes.txt'} is ignored"):
        problems = check(regdb, REGDB).problems
    assert any(p.startswith(f"unreadable image {first}") for p in problems)
    assert f"{third} has the same bytes as {second}" in problems
    assert len(problems) == 2


def test_leak_between_training_and_test(regdb: Path) -> None:
    for side in ("visible", "thermal"):
        shutil.copy(regdb / "idx" / f"train_{side}_4.txt", regdb / "idx" / f"test_{side}_4.txt")
    with pytest.raises(DataError, match=r"split 4: identity folder .* is in training and in test"):
        check(regdb, REGDB)


def test_fingerprint_follows_content_names_and_lists(regdb: Path) -> None:
    before = fingerprint(regdb, REGDB)
    assert fingerprint(regdb, REGDB) == before
    image = next(iter(sorted((regdb / "Visible").rglob("*.bmp"))))
    original = image.read_bytes()
    image.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    changed = fingerprint(regdb, REGDB)
    image.write_bytes(original)
    assert fingerprint(regdb, REGDB) == before
    image.rename(image.with_name("other.bmp"))
    renamed = fingerprint(regdb, REGDB)
    image.with_name("other.bmp").rename(image)
    with (regdb / "idx" / "test_visible_1.txt").open("a") as file:
        file.write("\n")
    assert len({before, changed, renamed, fingerprint(regdb, REGDB)}) == 4


def test_fingerprint_does_not_depend_on_where(regdb: Path, tiny_regdb: Path) -> None:
    assert fingerprint(regdb, REGDB) == fingerprint(tiny_regdb, REGDB)
