"""Images decoded once a machine: what is kept, what is noticed, and what is made again."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import HarnessError
from harness.inputs import cache
from harness.inputs.cache import CachedImages, name_of, open_cache, size_mib
from harness.inputs.images import ImageFiles, read_image

BICUBIC, LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS
NAMES = ("a/one.png", "two.png", "three.png")


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        paint(root / name, seed)
    return ImageFiles(root, NAMES, 12, 6, BICUBIC)


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


def paint(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def opened(files: ImageFiles, caches: Path) -> CachedImages:
    found = open_cache(files, caches, print)
    assert found is not None
    return found


def everything(images: CachedImages) -> np.ndarray:
    return images.take(np.arange(len(NAMES))).numpy()


def expected(files: ImageFiles) -> np.ndarray:
    return np.stack([read_image(files.root / name, 12, 6, files.resample) for name in files.paths])


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that were decoded, in order."""
    rows: list[int] = []
    decode = ImageFiles.decode
    monkeypatch.setattr(ImageFiles, "decode", lambda self, some: (rows.extend(some), decode(self, some))[1])
    return rows


def test_images_are_decoded_once(files: ImageFiles, caches: Path, decodings: list[int]) -> None:
    first, second = (everything(opened(files, caches)) for _ in range(2))
    np.testing.assert_array_equal(first, expected(files))
    np.testing.assert_array_equal(second, first)
    assert decodings == [0, 1, 2]
    assert size_mib(caches) > 3 * 3 * 12 * 6 / 2**20


def test_rows_may_come_in_any_order_and_repeat(files: ImageFiles, caches: Path) -> None:
    found = opened(files, caches).take(np.array([2, 0, 2]))
    np.testing.assert_array_equal(found, expected(files)[[2, 0, 2]])


def test_size_filter_list_and_place_have_caches_of_their_own(files: ImageFiles, tmp_path: Path) -> None:
    others = [
        ImageFiles(files.root, NAMES, 12, 6, LANCZOS),
        ImageFiles(files.root, NAMES, 12, 8, BICUBIC),
        ImageFiles(files.root, NAMES[::-1], 12, 6, BICUBIC),
        ImageFiles(tmp_path, NAMES, 12, 6, BICUBIC),
    ]
    assert len({name_of(one) for one in (files, *others)}) == 5


def test_other_contents_are_decoded_again(files: ImageFiles, caches: Path, decodings: list[int]) -> None:
    everything(opened(files, caches))
    paint(files.root / "two.png", 9)
    np.testing.assert_array_equal(everything(opened(files, caches)), expected(files))
    assert decodings == [0, 1, 2] * 2
    assert len(list(caches.glob("12x6*/"))) == 1


def test_a_touched_file_is_read_but_not_decoded(
    files: ImageFiles, caches: Path, decodings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(files, caches)
    read: list[Path] = []
    content_of = cache.content_of
    monkeypatch.setattr(cache, "content_of", lambda path: (read.append(path), content_of(path))[1])
    os.utime(files.root / "two.png", (1, 1))
    np.testing.assert_array_equal(everything(opened(files, caches)), expected(files))
    opened(files, caches)
    assert read == [files.root / "two.png"]
    assert decodings == [0, 1, 2]


def test_a_file_put_in_its_place_with_the_same_times_is_noticed(files: ImageFiles, caches: Path) -> None:
    opened(files, caches)
    path = files.root / "two.png"
    state = path.stat()
    paint(path.with_name("new.png"), 9)
    path.with_name("new.png").replace(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    np.testing.assert_array_equal(everything(opened(files, caches)), expected(files))


def test_a_missing_file_is_named_though_it_was_decoded(files: ImageFiles, caches: Path) -> None:
    opened(files, caches)
    (files.root / "two.png").unlink()
    with pytest.raises(HarnessError, match=r"two\.png"):
        open_cache(files, caches, print)


def test_a_damaged_row_is_refused_when_it_is_read(files: ImageFiles, caches: Path) -> None:
    opened(files, caches)
    (images,) = caches.glob("*/images.npy")
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(bytes(content))
    found = opened(files, caches)
    found.take(np.array([0, 1]))
    with pytest.raises(HarnessError, match=r"image 2 is not what was written; delete"):
        found.take(np.array([1, 2]))


@pytest.mark.parametrize("name", ["images.npy", "index.npz"])
@pytest.mark.parametrize("kept", [0, 40, 130])
def test_what_is_not_whole_is_made_again(files: ImageFiles, caches: Path, name: str, kept: int) -> None:
    opened(files, caches)
    (path,) = caches.glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:kept])
    np.testing.assert_array_equal(everything(opened(files, caches)), expected(files))


def test_nothing_is_left_of_what_could_not_be_made(files: ImageFiles, caches: Path) -> None:
    (files.root / "three.png").write_bytes(b"no image")
    with pytest.raises(HarnessError, match=r"three\.png"):
        open_cache(files, caches, print)
    assert not [path for path in caches.iterdir() if path.is_dir()]


def test_what_a_killed_process_left_is_cleared_away(files: ImageFiles, caches: Path) -> None:
    left = caches / f".{name_of(files)}.killed"
    left.mkdir(parents=True)
    opened(files, caches)
    assert not left.exists()


def test_a_folder_that_cannot_be_written_is_a_warning(files: ImageFiles, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="decoded images could not be kept"):
        assert open_cache(files, tmp_path / "file" / "caches", print) is None


def test_of_many_at_once_one_decodes(files: ImageFiles, caches: Path, decodings: list[int]) -> None:
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(everything(opened(files, caches)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((one == found[0]).all() for one in found)
    assert decodings == [0, 1, 2]


def test_a_deleted_cache_does_not_disturb_who_has_it_open(files: ImageFiles, caches: Path) -> None:
    import shutil

    found = opened(files, caches)
    shutil.rmtree(caches)
    np.testing.assert_array_equal(everything(found), expected(files))
    assert found.take(np.array([0])).dtype == torch.uint8
