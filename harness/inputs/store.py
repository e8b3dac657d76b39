"""Decoded images by row number, and where they are held: on the device, in memory, or nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from harness.inputs.cache import open_cache
from harness.inputs.images import ImageFiles, IntArray
from methods.parts.host import to_device

Place = Literal["device", "memory", "disk", "files"]
PLACES: dict[Place, str] = {
    "device": "held on the device",
    "memory": "held in memory",
    "disk": "read by rows, too many for the free memory",
    "files": "decoded at each use, too many for cache_mib",
}
DEVICE_SHARE = 0.25
"""Of a device's free memory, for decoded images: networks and gradients need the rest."""
MEMORY_SHARE = 0.5


class Source(Protocol):
    """What images are taken from."""

    def take(self, rows: IntArray) -> Tensor:
        """Return images (b, 3, h, w), uint8."""


@dataclass(frozen=True)
class Held:
    """All images in one tensor."""

    pixels: Tensor

    def take(self, rows: IntArray) -> Tensor:
        """Return images by row, on the device of the tensor."""
        return self.pixels.index_select(0, to_device(torch.from_numpy(rows), self.pixels.device))


@dataclass(frozen=True)
class Decoded:
    """Files that are decoded whenever they are asked for."""

    files: ImageFiles

    def take(self, rows: IntArray) -> Tensor:
        """Return images by row; each file is decoded once, however often it occurs."""
        different, places = np.unique(rows, return_inverse=True)
        return torch.from_numpy(self.files.decode(different.tolist())[0][places])


@dataclass(frozen=True)
class ImageStore:
    """Images by row number.

    Attributes
    ----------
    files : ImageFiles
    place : str
        Where they are held, one of :data:`PLACES`; no number depends on it.
    source : Source
    opened_s : float
        Seconds that it took to open them.
    """

    files: ImageFiles
    place: Place
    source: Source
    opened_s: float = 0.0

    def __len__(self) -> int:
        return len(self.files)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.files.height, self.files.width

    @property
    def on_device(self) -> bool:
        """Whether other processes cannot take images beforehand, and need not."""
        return self.place == "device"

    def take(self, rows: IntArray, device: torch.device) -> Tensor:
        """Return images (b, 3, h, w), uint8, on a device."""
        return to_device(self.source.take(rows), device)

    def __str__(self) -> str:
        return f"{len(self)} images of {self.size[0]} x {self.size[1]}, {PLACES[self.place]}"


@dataclass(frozen=True)
class ImageOpener:
    """Opens image files at the size of a run.

    Attributes
    ----------
    height, width : int
    device : torch.device
        Where images are wanted.
    caches : Path
        Folder of decoded images, shared by all runs.
    cache_mib : int
        Files that take more when decoded are not kept.
    say : callable
        Told where the images are held.
    """

    height: int
    width: int
    device: torch.device
    caches: Path
    cache_mib: int
    say: Callable[[str], None]

    def open(self, root: Path, paths: Sequence[str], resample: Image.Resampling) -> ImageStore:
        """Open files; what was decoded on this machine before is not decoded again.

        Raises
        ------
        HarnessError
            If an image cannot be read, or a cache is damaged.
        """
        start = time.perf_counter()
        files = ImageFiles(root, tuple(paths), self.height, self.width, resample)
        place, source = self._source(files)
        store = ImageStore(files, place, source, time.perf_counter() - start)
        self.say(str(store))
        return store

    def _source(self, files: ImageFiles) -> tuple[Place, Source]:
        if not len(files):
            return "memory", Held(torch.empty(files.shape, dtype=torch.uint8))
        if files.mib > self.cache_mib:
            return "files", Decoded(files)
        cached = open_cache(files, self.caches, self.say)
        source: Source = cached or Held(decode_all(files))
        if self.device.type != "cpu" and files.mib <= DEVICE_SHARE * free_mib(self.device):
            return "device", Held(moved(source, files, self.device))
        fits = cached is None or files.mib <= MEMORY_SHARE * psutil.virtual_memory().available / 2**20
        return "memory" if fits else "disk", source


def decode_all(files: ImageFiles) -> Tensor:
    """Decode all files into memory."""
    return torch.from_numpy(files.decode(range(len(files)))[0])


def moved(source: Source, files: ImageFiles, device: torch.device) -> Tensor:
    """Return all images on a device."""
    pixels = torch.empty(files.shape, dtype=torch.uint8, device=device)
    for rows in files.blocks():
        pixels[rows.start : rows.stop] = source.take(np.arange(rows.start, rows.stop)).to(device)
    return pixels


def free_mib(device: torch.device) -> float:
    """Return the free memory of a device; endless where torch cannot tell."""
    return torch.cuda.mem_get_info(device)[0] / 2**20 if device.type == "cuda" else float("inf")
