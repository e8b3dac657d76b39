"""Synthetic twins: same seed, same pixels; the real layout, counts and splits; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocols.base import DataError, Dataset, Modality
from protocols.check import check, fingerprint
from protocols.files import MARKER
from protocols.llcm import LLCMData
from protocols.regdb import RegDBData
from protocols.synthetic import twin
from protocols.synthetic.rendering import draw_camera, draw_person, generator, photograph
from protocols.synthetic.source import render_source
from protocols.synthetic.twin import DIFFICULTIES, plan_twin, synthesise
from protocols.sysu_mm01 import TEST_COUNTS, TRAIN_COUNTS, SysuMM01Data

LLCM, REGDB, SYSU = LLCMData(), RegDBData(), SysuMM01Data()
SIZE = (16, 32)
REGDB_PIXELS = "f8f2122f5cd232e7"
SYSU_PIXELS = "ff7fe1ccdc02fe3e"
SOURCE_PIXELS = "50b710cbe5dc7904"


def files_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]


def ids_of(root: Path, part: str) -> list[int]:
    (line,) = (root / f"exp/{part}_id.txt").read_text().splitlines()
    return [int(number) for number in line.split(",")]


def test_regdb_pixels_are_frozen(tmp_path: Path) -> None:
    synthesise(tmp_path / "t", REGDB, identities=4, images=2, seed=5)
    images = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "t").rglob("*.bmp"))]
    assert len(images) == 16
    assert digest(*images) == REGDB_PIXELS


def test_sysu_pixels_before_encoding_are_frozen() -> None:
    # a JPEG's decoded pixels depend on the library, so they cannot be frozen
    cameras = [draw_camera(("twin", 5, c), c in (3, 6), 0.7) for c in range(1, 7)]
    people = [draw_person(("twin", 5, i), 0.6) for i in range(4)]
    images = [
        photograph(p, camera, generator(i, c), (40, 100))
        for i, p in enumerate(people)
        for c, camera in enumerate(cameras)
    ]
    assert digest(*images) == SYSU_PIXELS


@pytest.mark.parametrize("like", [REGDB, SYSU], ids=lambda d: d.name)
def test_same_seed_same_files_other_seed_other_people(tmp_path: Path, like: Dataset) -> None:
    roots = [tmp_path / name for name in "abc"]
    for root, seed in zip(roots, (1, 1, 2), strict=True):
        synthesise(root, like, identities=4, images=1, seed=seed, size=SIZE)
    first, again, other = map(files_of, roots)
    assert first == again
    assert first.keys() == other.keys()
    images = [name for name in first if name.endswith((".bmp", ".jpg"))]
    assert all(first[name] != other[name] for name in images)


def test_an_image_depends_on_its_own_indices_alone(tmp_path: Path) -> None:
    synthesise(tmp_path / "small", SYSU, identities=4, images=1, size=SIZE)
    synthesise(tmp_path / "large", SYSU, identities=6, images=2, size=SIZE)
    small, large = files_of(tmp_path / "small"), files_of(tmp_path / "large")
    for name in (name for name in small if name.startswith("cam")):
        assert small[name] == large[name]


def test_sysu_layout_counts_and_modes(tmp_path: Path) -> None:
    report = synthesise(tmp_path / "t", SYSU, identities=20, images=2, seed=1)
    files = files_of(tmp_path / "t")
    images = {f"cam{c}/{i:04d}/{k:04d}.jpg" for c in range(1, 7) for i in range(1, 21) for k in (1, 2)}
    assert files.keys() == images | {f"exp/{part}_id.txt" for part in ("train", "val", "test")} | {MARKER}
    parts = {part: ids_of(tmp_path / "t", part) for part in ("train", "val", "test")}
    assert {part: len(ids) for part, ids in parts.items()} == {"train": 10, "val": 2, "test": 8}
    assert sorted(i for ids in parts.values() for i in ids) == list(range(1, 21))
    folders = [f"cam{c}" for c in range(1, 7)]
    assert report.marker["people"] == 20
    assert report.marker["counts"] == dict.fromkeys(folders, 40)
    assert report.marker["identities"] == dict.fromkeys(folders, 20)
    assert json.loads(files[MARKER]) == report.marker
    sizes = set()
    for name in images:
        with Image.open(tmp_path / "t" / name) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
            grey = name.startswith(("cam3", "cam6"))
            assert (np.ptp(np.asarray(image).astype(int), axis=2).max() == 0) == grey
    assert len(sizes) > 100
    assert all(120 <= height <= 300 and 0.3 < width / height < 0.55 for width, height in sizes)


def test_regdb_layout_and_halves(tmp_path: Path) -> None:
    root = tmp_path / "t"
    synthesise(root, REGDB, identities=6, images=2)
    files = files_of(root)
    assert len([name for name in files if name.endswith(".bmp")]) == 24
    assert "Visible/1/male_front_v_00001_2.bmp" in files
    assert "Thermal/6/female_front_t_00006_1.bmp" in files
    for name in (name for name in files if name.endswith(".bmp")):
        with Image.open(root / name) as image:
            assert (image.format, image.mode, image.size) == ("BMP", "RGB", (64, 128))
            grey = name.startswith("Thermal")
            assert (np.ptp(np.asarray(image).astype(int), axis=2).max() == 0) == grey
    halves = set()
    for split in range(1, 11):
        people: dict[str, set[str]] = {}
        for part in ("train", "test"):
            for modality in ("visible", "thermal"):
                lines = files[f"idx/{part}_{modality}_{split}.txt"].decode().splitlines()
                rows = [line.split(" ") for line in lines]
                assert all((root / path).is_file() and path.startswith(modality.title()) for path, _ in rows)
                assert [int(label) for _, label in rows] == [0, 0, 1, 1, 2, 2]
                people[part + modality] = {path.split("/")[1] for path, _ in rows}
        assert people["trainvisible"] == people["trainthermal"]
        assert people["testvisible"] == people["testthermal"]
        assert people["trainvisible"] | people["testvisible"] == set("123456")
        assert len(people["trainvisible"]) == len(people["testvisible"]) == 3
        halves.add(frozenset(people["trainvisible"]))
    assert len(halves) > 1


def test_protocol_reads_a_twin(tmp_path: Path) -> None:
    synthesise(tmp_path / "t", REGDB, identities=4, images=3, size=SIZE)
    training = REGDB.training(tmp_path / "t", 1)
    assert np.bincount(training.images.modality).tolist() == [6, 6]
    assert set(training.images.modality) == {Modality.VISIBLE, Modality.INFRARED}


def test_full_size_plans_have_the_known_counts() -> None:
    sysu = plan_twin(SYSU.twin, None, None, 0, full_size=True)
    parts = {p: set(map(int, sysu.texts[f"exp/{p}_id.txt"].split(","))) for p in ("train", "val", "test")}
    assert {p: len(ids) for p, ids in parts.items()} == {"train": 296, "val": 99, "test": 96}
    for ids, counts in ((parts["train"] | parts["val"], TRAIN_COUNTS), (parts["test"], TEST_COUNTS)):
        cameras = [shot.camera for shot in sysu.shots if shot.person in ids]
        assert {c: cameras.count(c) for c in counts} == counts
    galleries = {(s.camera, s.person) for s in sysu.shots if s.person in parts["test"]}
    assert [sum(c == camera for c, _ in galleries) for camera in (1, 2, 4, 5)] == [56, 56, 94, 95]
    assert len({s.path for s in sysu.shots}) == len(sysu.shots)
    regdb = plan_twin(REGDB.twin, None, None, 0, full_size=True)
    assert twin.count_shots(regdb.shots)["counts"] == {"Visible": 4120, "Thermal": 4120}
    assert all(text.count("\n") == 2060 for text in regdb.texts.values())


@pytest.mark.parametrize("like", [REGDB, SYSU, LLCM], ids=["bmp", "jpg", "jpg of LLCM"])
def test_a_twin_with_the_counts_of_real_data_is_known_by_its_images_too(
    like: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = like.twin.plan(6, 1, 0)
    monkeypatch.setattr(like, "twin", replace(like.twin, full_size=lambda _: small))
    synthesise(tmp_path / "small", like, identities=6, images=1, size=SIZE)
    synthesise(tmp_path / "t", like, full_size=True)
    for shot in small.shots:  # nothing that is read differs
        with (
            Image.open(tmp_path / "small" / shot.path) as one,
            Image.open(tmp_path / "t" / shot.path) as other,
        ):
            assert one.tobytes() == other.tobytes()
    assert fingerprint(tmp_path / "t", like)
    assert check(tmp_path / "t", like).ok
    (tmp_path / "t" / MARKER).unlink()
    with pytest.raises(DataError, match=f"is of a synthetic twin, but {MARKER} is missing"):
        fingerprint(tmp_path / "t", like)
    assert any("is of a synthetic twin" in line for line in check(tmp_path / "t", like).problems)


@pytest.mark.parametrize(
    ("like", "options", "message"),
    [
        (REGDB, {"difficulty": "brutal"}, "easy, medium, hard"),
        (REGDB, {"identities": 7}, "even"),
        (REGDB, {"identities": 0}, "from 4"),
        (SYSU, {"images": 0}, "from 1"),
        (SYSU, {"size": (0, 8)}, "at least 1 pixel"),
        (SYSU, {"full_size": True, "images": 2}, "real counts"),
    ],
)
def test_impossible_twins_are_refused(tmp_path: Path, like: Dataset, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        synthesise(tmp_path / "t", like, **options)
    assert not list(tmp_path.iterdir())


def test_a_used_folder_is_left_alone_and_an_empty_one_taken(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        synthesise(tmp_path / "precious", REGDB, identities=4, images=1, size=SIZE)
    assert files_of(tmp_path) == {"precious/file": b"mine"}
    (tmp_path / "empty").mkdir()
    synthesise(tmp_path / "empty", REGDB, identities=4, images=1, size=SIZE)
    assert (tmp_path / "empty" / MARKER).is_file()


def test_nothing_stays_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(twin, "encode", full)
    with pytest.raises(OSError, match="No space"):
        synthesise(tmp_path / "t", REGDB, identities=4, images=1, size=SIZE)
    assert not list(tmp_path.iterdir())


def test_infrared_keeps_rho_of_the_luminance() -> None:
    all_of_it, none, half = (draw_person("someone", rho) for rho in (1.0, 0.0, 0.5))
    luminance = all_of_it.top.visible @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(all_of_it.top.infrared, luminance)
    np.testing.assert_allclose(half.top.infrared, (luminance + none.top.infrared) / 2)
    np.testing.assert_array_equal(none.top.visible, all_of_it.top.visible)


def test_source_people_are_others_than_a_twins() -> None:
    images, labels = render_source(3, 2, seed=5, size=SIZE)
    assert (images.shape, images.dtype, labels.tolist()) == ((6, 32, 16, 3), np.uint8, [0, 0, 1, 1, 2, 2])
    assert digest(images) == SOURCE_PIXELS
    assert np.ptp(images.astype(int), axis=3).max() > 0
    rho = DIFFICULTIES["easy"].rho
    colours = {draw_person(("twin", 5, i), rho).top.visible.tobytes() for i in range(50)}
    assert not colours & {draw_person(("source", 5, i), rho).top.visible.tobytes() for i in range(50)}


def test_what_a_killed_process_left_goes_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    left, kept = tmp_path / ".out.999999999-abcdefgh", tmp_path / f".out.{os.getpid()}-abcdefgh"
    for folder in (left, kept):
        folder.mkdir()
        (folder / "half.bmp").write_bytes(b"BM")
    with twin.whole_folder(tmp_path / "out") as temporary:
        assert temporary.name.startswith(f".out.{os.getpid()}-")
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept.name, "out"]
