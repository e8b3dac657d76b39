"""Files below a data root: links, pipes, leftovers, names and images of other kinds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from harness.errors import HarnessError
from harness.inputs.images import read_image
from harness.runs.data import data_digest, without_identity_order
from harness.runs.exported import export
from protocols.base import DataError
from protocols.check import check, dataset_at, fingerprint, unreadable
from protocols.files import PartialDataWarning, files_in, images_in
from protocols.lists import list_digest
from protocols.llcm import camera_in_name
from protocols.regdb import RegDBData
from protocols.sysu_mm01 import SysuAll, SysuMM01Data, folder_images

quiet = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def sysu(tiny_sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_sysu, tmp_path / "sysu"))


def test_images_behind_a_linked_folder_are_part_of_the_fingerprint(sysu: Path) -> None:
    whole = fingerprint(sysu, SysuMM01Data())
    (sysu / "cam1").rename(sysu.parent / "store")
    (sysu / "cam1").symlink_to(sysu.parent / "store")
    assert fingerprint(sysu, SysuMM01Data()) == whole
    before = data_digest(sysu, SysuMM01Data())
    shutil.copy(sysu / "cam2" / "0001" / "0001.jpg", sysu.parent / "store" / "0001" / "0001.jpg")
    assert data_digest(sysu, SysuMM01Data()) != before


def test_an_image_of_the_same_size_and_time_is_read_again(sysu: Path) -> None:
    image = sysu / "cam1" / "0001" / "0001.jpg"
    before, stat = data_digest(sysu, SysuMM01Data()), image.stat()
    raw = bytearray(image.read_bytes())
    raw[-5] ^= 1
    image.write_bytes(raw)
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert image.stat().st_size == stat.st_size
    assert data_digest(sysu, SysuMM01Data()) != before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"nonsense", b"0" * 64, b"0" * 64 + b" " + b"1" * 16])
def test_a_damaged_remembered_fingerprint_is_made_again(sysu: Path, content: bytes) -> None:
    before = data_digest(sysu, SysuMM01Data())
    (cache,) = Path("data/fingerprints").glob("[0-9a-f]*")
    kept = cache.read_bytes()
    cache.write_bytes(content)
    assert data_digest(sysu, SysuMM01Data()) == before
    assert cache.read_bytes() == kept


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    found = {path.relative_to(tmp_path).as_posix() for path in files_in(tmp_path)}
    assert found == {"a/x.jpg", "b/x.jpg"}


def test_a_name_that_is_not_utf_8_is_part_of_the_fingerprint(sysu: Path) -> None:
    before = fingerprint(sysu, SysuMM01Data())
    with open(os.fsencode(sysu / "cam1" / "0001") + b"/\xba\xb9.txt", "wb"):  # noqa: PTH123 - bytes
        pass
    assert fingerprint(sysu, SysuMM01Data()) != before
    assert data_digest(sysu, SysuMM01Data()) != before


@quiet
def test_what_macos_leaves_is_left_out(sysu: Path) -> None:
    before = fingerprint(sysu, SysuMM01Data())
    for image in list(sysu.rglob("*.jpg")):
        image.with_name(f"._{image.name}").write_bytes(b"Mac OS X")
    assert fingerprint(sysu, SysuMM01Data()) == before
    assert check(sysu, SysuMM01Data()).ok
    assert not any(name.startswith("._") for name in images_in(sysu / "cam1" / "0001", ".jpg"))


@pytest.mark.parametrize("kind", ["no regular file", "a link to nowhere"])
def test_a_pipe_or_a_dead_link_among_images_is_refused(sysu: Path, kind: str) -> None:
    image = sysu / "cam1" / "0001" / "0001.jpg"
    image.unlink()
    os.mkfifo(image) if kind == "no regular file" else image.symlink_to("nowhere")
    with pytest.raises(DataError, match=f"{image} is {kind}"):
        images_in(image.parent, ".jpg")


def test_arrays_of_resized_images_are_no_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "train_rgb_resized_img.npy", np.zeros((2, 8, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"train_rgb_resized_img.npy .* lack cameras(.|\n)*cam1 .. cam6/0001"):
        dataset_at(tmp_path, [SysuMM01Data(), RegDBData()])


def test_sixteen_bits_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 999, np.uint16)).save(tmp_path / "x.png")
    assert "more than 8 bits a pixel (mode I;16)" in unreadable(tmp_path / "x.png")


def test_images_that_pillow_refuses_are_named(tmp_path: Path) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "y" * 2**21, zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "long.png", pnginfo=note)
    header = (154).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    size = (100_000).to_bytes(4, "little")
    bomb = b"BM" + header + size + size + b"\x01\x00\x18\x00" + bytes(140)
    (tmp_path / "bomb.bmp").write_bytes(bomb)
    (tmp_path / "text.bmp").write_bytes(b"P1\n8 i\n" + bytes(40))
    for path in tmp_path.iterdir():
        assert unreadable(path).startswith(f"unreadable image {path}"), path


def test_regdb_as_jpeg_is_checked_as_it_is_trained_on(tiny_regdb: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_regdb, tmp_path / "regdb"))
    for image in list(root.rglob("*.bmp")):
        Image.open(image).save(image.with_suffix(".jpg"))
        image.unlink()
    for file in (root / "idx").iterdir():
        file.write_text(file.read_text().replace(".bmp", ".jpg"))
    assert check(root, RegDBData()).ok
    assert RegDBData().training(root, 1)


@quiet
def test_an_image_whose_name_is_not_utf_8_is_used(sysu: Path) -> None:
    """Its name goes into digests and lists as its bytes."""
    for identity in (sysu / "cam1").iterdir():
        folder = os.fsencode(identity)
        os.rename(folder + b"/0001.jpg", folder + b"/\xba\xb9.jpg")  # noqa: PTH104 - bytes
    training = without_identity_order(SysuMM01Data().training(sysu, 0, allow_partial=True))
    assert any("\udcba" in path for path in training.images.paths)
    assert all(map(list_digest, SysuAll().trials(sysu, 0, allow_partial=True)))
    lists = export(SysuAll(), sysu, Path("lists"), allow_partial=True)
    assert any(b"/\xba\xb9.jpg" in path.read_bytes() for path in lists)


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "._0001.jpg"])
def test_what_systems_leave_does_not_move_the_fingerprint(sysu: Path, name: str) -> None:
    before = fingerprint(sysu, SysuMM01Data())
    (sysu / "cam1" / "0001" / name).write_bytes(b"left")
    assert fingerprint(sysu, SysuMM01Data()) == before
    assert len(images_in(sysu / "cam1" / "0001", ".jpg")) == 3


def test_pictures_that_a_program_would_have_to_draw_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "0001.jpg"
    Image.new("RGB", (8, 16)).save(path, "EPS")
    assert "cannot identify image file" in unreadable(path)
    with pytest.raises(HarnessError, match=r"cannot read the image .*0001\.jpg"):
        read_image(path, 16, 8, Image.Resampling.BICUBIC)


def test_numbers_in_names_are_ascii_digits(sysu: Path) -> None:
    (sysu / "cam1" / "0001" / "0001.jpg").rename(sysu / "cam1" / "0001" / "٠٠٠١.jpg")
    with pytest.warns(PartialDataWarning, match="the name is not four digits"):
        folder_images(sysu, 1, 1)
    with pytest.raises(DataError, match="the name is not <identity>_c<camera>_"):
        camera_in_name(Path("vis/0001/٠٠٠١_c٠١_s1_f1_vis.jpg"))
