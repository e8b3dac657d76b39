"""Where images are held is said, and decides no number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from harness.inputs import store as stores
from harness.inputs.batches import EpochBatches
from harness.inputs.store import ImageOpener, ImageStore, Place
from methods.base import INFRARED, VISIBLE, Part, Stream
from tests.harness.inputs.cases import CPU

BICUBIC = Image.Resampling.BICUBIC
NAMES = tuple(f"{i}.png" for i in range(6))


@pytest.fixture
def opener(tmp_path: Path) -> ImageOpener:
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return ImageOpener(32, 16, CPU, tmp_path / "caches", 1, lambda text: None)


def in_place(opener: ImageOpener, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    """Open images so that they are held at a place."""
    if place == "files":
        opener = replace(opener, cache_mib=0)
    if place == "disk":
        monkeypatch.setattr(stores, "MEMORY_SHARE", 0.0)
    if place == "device":
        opener = replace(opener, device=torch.device("meta"))
        monkeypatch.setattr(stores, "moved", lambda source, files, device: source.take(np.arange(len(files))))
    found = opener.open(root, NAMES, BICUBIC)
    assert found.place == place
    return found


def batches(store: ImageStore) -> EpochBatches:
    modality = np.array([VISIBLE, INFRARED] * 3)
    stream = Stream(
        "s",
        "s",
        torch.arange(6),
        torch.arange(6) // 2,
        3,
        4,
        visible_views=("plain", "jitter-exchange"),
        infrared_views=("channel-adapt-gray",),
        repeat_singletons=True,
    )
    return EpochBatches(store, modality, np.arange(6), [stream], 3, (0, "batches", 4, "train"))


def same(one: Part, other: Part) -> bool:
    tensors = [field.name for field in fields(Part) if field.name not in ("label_space", "on_host")]
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


@pytest.mark.parametrize("place", ["memory", "disk", "files", "device"])
@pytest.mark.parametrize("workers", [0, 2])
def test_place_and_workers_decide_no_number(
    place: Place, workers: int, opener: ImageOpener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = list(batches(in_place(opener, tmp_path, "memory", monkeypatch)).parts(0, CPU))
    found = list(batches(in_place(opener, tmp_path, place, monkeypatch)).parts(workers, CPU))
    assert len(found) == 3
    for expected, part in zip(in_memory, found, strict=True):
        assert same(expected["s"], part["s"])


def test_workers_are_started_where_they_are_asked_for_but_not_for_what_a_device_holds(
    opener: ImageOpener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def prepared(items: Dataset[object], workers: int) -> Iterator[object]:
        asked.append(workers)
        yield from (items[i] for i in range(3))

    monkeypatch.setattr("harness.inputs.batches.ahead", prepared)
    for place in ("memory", "disk", "files", "device"):
        assert len(list(batches(in_place(opener, tmp_path, place, monkeypatch)).parts(2, CPU))) == 3
    assert asked == [2, 2, 2]


def test_images_are_ordered_by_view_then_by_sample(opener: ImageOpener, tmp_path: Path) -> None:
    drawn = batches(opener.open(tmp_path, NAMES, BICUBIC))[0]["s"]
    first = drawn.view == 0
    assert sorted(drawn.view) == list(drawn.view)
    assert (drawn.modality[~first] == VISIBLE).all()
    np.testing.assert_array_equal(drawn.rows[~first], drawn.rows[first][drawn.modality[first] == VISIBLE])
    np.testing.assert_array_equal(drawn.pseudo_label, drawn.rows // 2)
    np.testing.assert_array_equal(drawn.camera, drawn.rows)
    assert (drawn.draws.order[~first] >= 0).all()
    assert (drawn.draws.order[first] < 0).all()


def test_the_place_is_said(opener: ImageOpener, tmp_path: Path) -> None:
    said: list[str] = []
    store = replace(opener, say=said.append).open(tmp_path, NAMES, BICUBIC)
    assert said == [str(store)] == ["6 images of 32 x 16, held in memory"]
    assert not store.on_device
    assert store.opened_s > 0


def test_no_images_are_no_error(opener: ImageOpener, tmp_path: Path) -> None:
    store = opener.open(tmp_path, (), BICUBIC)
    assert len(store) == 0
    assert store.take(np.arange(0), CPU).shape == (0, 3, 32, 16)


def test_images_stay_in_memory_where_no_folder_can_be_written(opener: ImageOpener, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="could not be kept"):
        store = replace(opener, caches=tmp_path / "file").open(tmp_path, NAMES, BICUBIC)
    expected = opener.open(tmp_path, NAMES, BICUBIC)
    rows = np.array([3, 1, 1])
    assert torch.equal(store.take(rows, CPU), expected.take(rows, CPU))
