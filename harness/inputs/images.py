"""Images from disk, resized and kept in memory. Paths end here: what goes on to a method is tensors and row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness.errors import HarnessError
from protocols.files import odd_image

UInt8Array = npt.NDArray[np.uint8]


def refuse_odd(image: Image.Image) -> None:
    """Raise for an image whose pixels would not be what they are taken for."""
    if odd := odd_image(image):
        raise ValueError(odd)


def read_image(path: Path, height: int, width: int, resample: Image.Resampling) -> UInt8Array:
    """Open an image as three-channel RGB and resize it; (height, width, 3).

    Raises
    ------
    HarnessError
        If the file cannot be read as an image; names the path.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError("there is no such file, or it is no regular one")
        with Image.open(path) as image:
            refuse_odd(image)
            return np.asarray(image.convert("RGB").resize((width, height), resample))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise HarnessError(
            f"cannot read the image {path}: {error}; `reidbench data check` lists all such files"
        ) from error


class ImageStore:
    """Resized images by row number; kept in memory while they fit into `budget_mib`, else read at each use.

    Parameters
    ----------
    root : Path
    paths : sequence of str
        Relative to `root`.
    height, width : int
    resample : PIL resampling
        Bicubic for training and clustering, Lanczos at test, as the public code does (quirk Q13).
    budget_mib : int
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        height: int,
        width: int,
        resample: Image.Resampling,
        budget_mib: int,
    ) -> None:
        self._files = [root / path for path in paths]
        self._size = (height, width, resample)
        fits = len(paths) * height * width * 3 <= budget_mib * 2**20
        self._array = self._read(range(len(paths))) if fits and len(paths) else None

    def __len__(self) -> int:
        return len(self._files)

    def _read(self, rows: Sequence[int]) -> UInt8Array:
        height, width, _ = self._size
        images = np.empty((len(rows), height, width, 3), np.uint8)

        def fill(place: int) -> None:
            images[place] = read_image(self._files[rows[place]], *self._size)

        # decoding releases the interpreter lock, so threads help
        with ThreadPoolExecutor(max_workers=8) as pool:
            for _ in pool.map(fill, range(len(rows))):
                pass  # raises what a thread has raised
        return images

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> UInt8Array:
        """Return images (b, height, width, 3)."""
        return self._array[rows] if self._array is not None else self._read(rows.tolist())
