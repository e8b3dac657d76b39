"""The contracts of data sets and of protocols, and the values that pass between them and the harness.

Identities live in :class:`LabelledImages` only. What training code is given, :class:`Images`, has no field
that carries them; paths (which spell identities on disk) stay with the harness's loader.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeAlias, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.synthetic.plan import Twin

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]
Distance: TypeAlias = Union[npt.NDArray[np.floating], "Tensor"]
"""Distances (q, g): an array, or a tensor on any device."""


class DataError(ValueError):
    """Data or arrays to score are not what a protocol needs; the message says where and how to fix it."""


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


def one_modality(
    root: Path, paths: Sequence[str], modality: Modality, cameras: Sequence[int], identities: Sequence[int]
) -> LabelledImages:
    """Make a list of images of one modality."""
    constant = np.full(len(paths), modality, dtype=np.int64)
    images = Images(root, tuple(paths), constant, np.array(cameras, dtype=np.int64))
    return LabelledImages(images, np.array(identities, dtype=np.int64))


def joined(parts: Sequence[LabelledImages]) -> LabelledImages:
    """Put lists of one root behind each other."""
    images = [part.images for part in parts]
    return LabelledImages(
        Images(
            images[0].root,
            tuple(path for one in images for path in one.paths),
            np.concatenate([one.modality for one in images]),
            np.concatenate([one.camera for one in images]),
        ),
        np.concatenate([part.identity for part in parts]),
    )


@dataclass(frozen=True)
class Trial:
    """One query/gallery pair that gives one metric triple.

    Attributes
    ----------
    setting : str
        Column of a table, as ``single-shot`` or ``visible-to-thermal``.
    number : int
        Of the gallery's draw, or of the split where the split is the trial.
    gallery_rule : str
        How the gallery came about: ``seeded``, ``official`` or ``whole split``; captions print it, and with it what a
        reader must know of a gallery that is another's by name.
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
    first_rank : int64 array (q,)
        Rank from 1 at which the protocol's own CMC finds the first match; 0 for a query without one.
    first_rows : int64 array (q, n), first_distances : float64 array (q, n)
        The n = 10 nearest gallery images that each query sees (fewer in a smaller gallery), ordered by (distance,
        index); -1 and infinity where it sees fewer.
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
    first_rank: IntArray
    first_rows: IntArray
    first_distances: npt.NDArray[np.float64]
    n_query: int
    n_valid: int
    n_gallery: int
    tied_queries: int
    mAP_pessimistic: float  # noqa: N815


RANKS = (1, 5, 10, 20)
"""Of the matching rates that tables show."""


def metric_values(scores: Scores) -> dict[str, float]:
    """Return the metrics that tables show, in percent."""
    values = {f"rank-{rank}": 100 * float(scores.cmc[rank - 1]) for rank in RANKS}
    return values | {"mAP": 100 * scores.mAP, "mINP": 100 * scores.mINP}


class Headline(NamedTuple):
    """The protocol and setting whose test mAP picks the best epochs."""

    protocol: str
    setting: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.setting}"


@dataclass(frozen=True)
class Count:
    """One number of a data set: what was counted, the known value, and the one on disk."""

    what: str
    expected: str
    found: str
    ok: bool


def count(what: str, expected: object, found: object) -> Count:
    """Compare a number with the known one."""
    return Count(what, str(expected), str(found), expected == found)


def differences(counts: Iterable[Count]) -> list[str]:
    """Say what is not as expected, a text for each count."""
    return [f"{one.what}: expected {one.expected}, found {one.found}" for one in counts if not one.ok]


class Dataset(ABC):
    """A data set: how it lies on disk, what is known of it, its training splits, and how a twin of it is made.

    A subclass has no state and stands in one file of :mod:`protocols` with the protocols that measure on it, or in
    another package behind the entry point group ``reidbench.datasets``. Methods that read the disk raise
    :class:`DataError` with path, line and how to fix it.
    """

    name: ClassVar[str]
    """Name in run directories, presets of methods and rows."""
    summary: ClassVar[str]
    """One line on what it is."""
    alias: ClassVar[str] = ""
    """Shorter name that ``reidbench data synth --like`` takes and twins bear; empty for none."""
    landmarks: ClassVar[str]
    """What a root is recognised by, for the message that there is none."""
    tree: ClassVar[str]
    """Drawing of the folders below ``<root>``, for error messages."""
    image_folders: ClassVar[tuple[str, ...]]
    """Top folders that hold images."""
    list_folders: ClassVar[tuple[str, ...]]
    """Top folders that hold the split files; with the images, they are what a fingerprint digests."""
    suffix: ClassVar[str]
    """Of image files, in lower case; other files among images are foreign."""
    other_suffixes: ClassVar[tuple[str, ...]] = ()
    """Of images that the data set's lists may name as well, where copies of it in other formats are about."""
    splits: ClassVar[tuple[int, ...]] = (0,)
    """Numbers of the training splits; ``(0,)`` where there is one."""
    split_is_trial: ClassVar[bool] = False
    """Whether trial t may be scored with weights of split t alone, since others have seen its test identities."""
    n_trials: ClassVar[int] = 0
    """Trials of a complete result in each setting, over all splits; 0 if that is not known."""
    headline: ClassVar[Headline]
    """What selects epochs, the same for every method."""
    unions: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Names on the command line that stand for several of its protocols."""
    twin: ClassVar[Twin]
    """How :mod:`protocols.synthetic` makes a folder of this layout."""

    @abstractmethod
    def recognises(self, root: Path) -> bool:
        """Say whether a folder is a root of this data set, by names alone."""

    @abstractmethod
    def counts(self, root: Path) -> list[Count]:
        """Compare every number that the field knows with the files; split files that leak are an error."""

    @abstractmethod
    def training(self, root: Path, split: int, *, allow_partial: bool = False) -> LabelledImages:
        """Training images of one split in public order, visible first, then infrared.

        Counts that are not the known ones are refused, unless `allow_partial` or the root is a twin.
        """

    def duplicate_groups(self) -> tuple[tuple[str, ...], ...]:
        """Groups of image folders within which no two files may be equal; more than one if images lie there twice."""
        return (self.image_folders,)


class Protocol(ABC):
    """A data set, its trials in one or several settings, and their way of scoring.

    Every method that reads the disk raises :class:`DataError` with path, line and how to fix it. Protocols of one
    `dataset` share its training splits, so one training run serves them all.
    """

    id: ClassVar[str]
    """Name on the command line, for example ``sysu-all``."""
    version: ClassVar[str]
    """Raised whenever a number could change."""
    dataset: ClassVar[Dataset]
    """What it measures on: an instance, so that its name can be read off the file without importing it."""
    summary: ClassVar[str]
    """One line for ``reidbench list``."""
    extra: ClassVar[bool] = False
    """Whether runs are scored under it as under any other, but tables and reports have it only on request."""
    from_features: ClassVar[bool] = False
    """Whether distances are its own, made by :meth:`distances` from features, as of a protocol that re-ranks."""
    division: ClassVar[Literal["closed", "open"]] = "closed"
    """``open`` if it does at test what the closed division excludes; every row of it then says so."""

    def lacks(self, root: Path) -> str | None:
        """Name the file, relative to `root`, without which nothing can be scored; None if it is there or not needed."""
        return None

    def distances(self, query: FloatArray, gallery: FloatArray) -> FloatArray:
        """Return distances (q, g) of unit features (q, d) and (g, d), float32; called if `from_features` is set."""
        raise DataError(f"the protocol {self.id} says from_features, and has no method `distances`")

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
