"""Images that tests hold in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from harness.inputs.images import ImageFiles
from harness.inputs.store import Held, ImageStore

CPU = torch.device("cpu")


def store_of(pixels: Tensor) -> ImageStore:
    """Return a store of uint8 images (n, 3, h, w) that belong to no files."""
    names = tuple(map(str, range(len(pixels))))
    files = ImageFiles(Path(), names, *pixels.shape[2:], Image.Resampling.BICUBIC)
    return ImageStore(files, "memory", Held(pixels))
