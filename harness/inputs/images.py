"""Image files decoded and resized. Paths end here: what goes on to a method is tensors and row numbers."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness.errors import HarnessError
from protocols.files import odd_image, open_image

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

BLOCK = 256
"""Images decoded at a time."""


@dataclass(frozen=True)
class ImageFiles:
    """Files in order, and the size at which they are wanted.

    Attributes
    ----------
    root : Path
    paths : tuple of str
        Relative to `root`.
    height, width : int
    resample : PIL resampling
        Bicubic for training and clustering, Lanczos at test, as the public code does (quirk Q13).
    """

    root: Path
    paths: tuple[str, ...]
    height: int
    width: int
    resample: Image.Resampling

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all images together: (n, 3, height, width)."""
        return len(self.paths), 3, self.height, self.width

    @property
    def mib(self) -> float:
        """What they take when decoded, in MiB."""
        return float(np.prod(self.shape)) / 2**20

    def file(self, row: int) -> Path:
        """Return the file of a row."""
        return self.root / self.paths[row]

    def decode(self, rows: Sequence[int]) -> tuple[UInt8Array, UInt8Array]:
        """Read some files; return their images (b, 3, height, width) and the SHA-256 of their contents (b, 32).

        Raises
        ------
        HarnessError
            If a file cannot be read as an image; names the path.
        """
        images = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        contents = np.empty((len(rows), 32), dtype=np.uint8)

        def fill(place: int) -> None:
            path = self.file(rows[place])
            with naming(path):
                data = read_file(path)
                contents[place] = np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)
                images[place] = decode_image(data, self.height, self.width, self.resample)

        # decoding releases the interpreter lock, so threads help
        with ThreadPoolExecutor(max_workers=8) as pool:
            for _ in pool.map(fill, range(len(rows))):
                pass  # raises what a thread has raised
        return images, contents

    def blocks(self) -> Iterator[range]:
        """Yield all rows, some at a time."""
        for start in range(0, len(self), BLOCK):
            yield range(start, min(start + BLOCK, len(self)))


def read_file(path: Path) -> bytes:
    """Read a regular file's bytes."""
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError("there is no such file, or it is no regular one")
    return path.read_bytes()


def decode_image(data: bytes, height: int, width: int, resample: Image.Resampling) -> UInt8Array:
    """Decode an image as RGB and resize it; (3, height, width)."""
    with open_image(io.BytesIO(data)) as image:
        if odd := odd_image(image):  # its pixels would not be what they are taken for
            raise ValueError(odd)
        pixels = np.asarray(image.convert("RGB").resize((width, height), resample))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file that cannot be read as an image.

    Raises
    ------
    HarnessError
        In place of what a file system or a decoder raises, which may be anything; memory that is full is no fault of
        the file.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise HarnessError(
            f"cannot read the image {path}: {error}; `reidbench data check` lists all such files"
        ) from error


def read_image(path: Path, height: int, width: int, resample: Image.Resampling) -> UInt8Array:
    """Open an image as RGB and resize it; (3, height, width). HarnessError, if it cannot be read, names the path."""
    with naming(path):
        return decode_image(read_file(path), height, width, resample)
