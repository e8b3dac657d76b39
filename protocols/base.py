"""The contract between a protocol and the harness.

Identities live in :class:`LabelledImages` only. What training code is given, :class:`Images`, has no field
that carries them; paths (which spell identities on disk) stay with the harness's loader.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

IntArray = npt.NDArray[np.int64]
Distance: TypeAlias = Union[npt.NDArray[np.floating], "Tensor"]
"""Distances (q, g): an array, or a tensor on any device."""


class DataError(ValueError):
    """Data or arrays to score are not what a protocol needs; the message says where and how to fix it."""


def read_lines(path: Path) -> list[str]:
    """Return a text file's lines; a file that is not UTF-8 is a :class:`DataError` naming it."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); get the original file") from error


class Modality(IntEnum):
    """The two modalities; the numbers are used in every array of the project."""

    VISIBLE = 0
    INFRARED = 1


@dataclass(frozen=True)
class Images:
    """An ordered list of images without identities.

    Attributes
    ----------
    root : Path
        Data root.
    paths : tuple of str, length n
        POSIX paths relative to `root`, in protocol order.
    modality, camera : int64 arrays (n,)
        :class:`Modality` and the data set's camera number of each image.
    """

    root: Path
    paths: tuple[str, ...]
    modality: IntArray
    camera: IntArray

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class LabelledImages:
    """Images with their identities: for evaluation, diagnostics and declared-supervised methods alone."""

    images: Images
    identity: IntArray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Trial:
    """One query/gallery pair that gives one metric triple.

    Attributes
    ----------
    setting : str
        Column of a table: ``single-shot``, ``multi-shot``, ``visible-to-thermal``, ``thermal-to-visible``.
    number : int
        0..9 for SYSU-MM01 galleries, 1..10 for RegDB splits.
    gallery_rule : str
        How the gallery came about: ``seeded``, ``official`` or ``whole split``.
    """

    setting: str
    number: int
    query: LabelledImages
    gallery: LabelledImages
    gallery_rule: str


@dataclass(frozen=True)
class Scores:
    """Metrics of one trial, fractions in [0, 1], and what is needed to compute others later.

    Attributes
    ----------
    cmc : float64 array (20,)
        Matching rate at ranks 1..20.
    mAP, mINP : float
        Means over valid queries.
    average_precision : float64 array (q,)
        NaN for a query without a match.
    hits : int64 array (total,) and hit_offsets : int64 array (q + 1,)
        Ranks (from 1, among the images kept for that query) of the matches of query i:
        ``hits[hit_offsets[i]:hit_offsets[i + 1]]``, ascending.
    n_query, n_valid, n_gallery : int
    tied_queries : int
        Valid queries for which images of different identities tie with a match.
    mAP_pessimistic : float
        mAP when, among equal distances, wrong images come first.
    """

    cmc: npt.NDArray[np.float64]
    mAP: float  # noqa: N815 - the field's own name
    mINP: float  # noqa: N815
    average_precision: npt.NDArray[np.float64]
    hits: IntArray
    hit_offsets: IntArray
    n_query: int
    n_valid: int
    n_gallery: int
    tied_queries: int
    mAP_pessimistic: float  # noqa: N815


class Protocol(ABC):
    """A data set's training splits, its trials and its way of scoring.

    Every method that reads the disk raises :class:`DataError` with path, line and cure. Protocols of one
    `dataset` share its training splits, so one training run serves them all.
    """

    id: ClassVar[str]
    """Name on the command line, for example ``sysu-all``."""
    version: ClassVar[str]
    """Raised whenever a number could change."""
    dataset: ClassVar[str]
    """``sysu-mm01`` or ``regdb``."""
    summary: ClassVar[str]
    """One line for ``reidbench list``."""
    splits: ClassVar[tuple[int, ...]]
    """Training splits: ``(0,)`` for SYSU-MM01, ``1..10`` for RegDB."""

    def lacks(self, root: Path) -> str | None:
        """Name the file, relative to `root`, without which nothing can be scored; None if it is there or not needed."""
        del root
        return None

    @abstractmethod
    def training(self, root: Path, split: int, *, allow_partial: bool = False) -> LabelledImages:
        """Training images of one split in protocol order, visible first, then infrared."""

    @abstractmethod
    def trials(self, root: Path, split: int, *, allow_partial: bool = False) -> Sequence[Trial]:
        """All trials that a model trained on `split` may be scored on."""

    @abstractmethod
    def score(
        self,
        distance: Distance,
        query_ids: IntArray,
        gallery_ids: IntArray,
        query_cams: IntArray,
        gallery_cams: IntArray,
    ) -> Scores:
        """Score a distance matrix (q, g), smaller is nearer, by this protocol's rules.

        An array is scored by compiled loops on the CPU, a tensor on the device it lies on; results are equal.
        """
