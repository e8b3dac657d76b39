"""What features say of people: distances of pairs, points on a page, and people that fall apart over clusters.

Arrays in, arrays out; identities are for diagnostics alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.errors import ResultsError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BINS = 200
"""Of distances from 0 to 2, those of unit rows by 1 - cosine."""
BLOCK = 1024
WAYS = ("pca", "tsne")


@dataclass(frozen=True)
class PairDistances:
    """How far images are apart, as counts of pairs.

    Attributes
    ----------
    same, different : int64 arrays (2, b)
        Pairs of one identity and of two, within a modality (row 0) and across modalities (row 1), by distance.
    edges : float64 array (b + 1,)
    """

    same: IntArray
    different: IntArray
    edges: FloatArray

    def nearer(self, row: int) -> float:
        """Return how often a pair of one identity is nearer than a pair of two; half of what ties; NaN of none."""
        same, different = self.same[row].astype(float), self.different[row].astype(float)
        whole = same.sum() * different.sum()
        beyond = different[::-1].cumsum()[::-1] - different
        return float(same @ (beyond + different / 2) / whole) if whole else float("nan")


def pair_distances(
    features: npt.NDArray[np.floating], identity: IntArray, modality: IntArray
) -> PairDistances:
    """Count the pairs of images by their distance (1 - cosine), block by block; each pair once, no image with itself.

    Parameters
    ----------
    features : float array (n, d), unit rows
    identity, modality : int64 arrays (n,)
    """
    edges = np.linspace(0, 2, BINS + 1)
    counts = np.zeros((2, 2, BINS), dtype=np.int64)  # other identity, other modality, bin
    for start in range(0, len(features), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(features)))
        later = rows[:, None] < np.arange(len(features))
        distance = 1 - features[rows].astype(np.float64) @ features.T.astype(np.float64)
        bins = np.clip((distance * (BINS / 2)).astype(np.int64), 0, BINS - 1)
        other = identity[rows][:, None] != identity
        across = modality[rows][:, None] != modality
        flat = ((2 * other + across) * BINS + bins)[later]
        counts += np.bincount(flat, minlength=4 * BINS).reshape(2, 2, BINS)
    return PairDistances(counts[0], counts[1], edges)


def project(features: npt.NDArray[np.floating], way: str, seed: int) -> FloatArray:
    """Return points (n, 2) of features (n, d): their principal components, or t-SNE started from these.

    Raises
    ------
    ResultsError
        If there is no such way, or too few images for it.
    """
    if way not in WAYS:
        raise ResultsError(f"--by {way}: expected {' or '.join(WAYS)}")
    if len(features) < 4:
        raise ResultsError(
            f"{len(features)} images are too few for a picture of their features; 4 are needed"
        )
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    first = axes[:2]
    first *= np.sign(first[np.arange(len(first)), np.abs(first).argmax(axis=1)])[:, None]
    points = centred @ first.T
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    if way == "pca":
        return np.asarray(points)
    from sklearn.manifold import TSNE

    start = points / (points[:, 0].std() or 1.0) * 1e-4
    perplexity = min(30.0, (len(features) - 1) / 3)
    found = TSNE(init=start, perplexity=perplexity, random_state=seed, metric="cosine").fit_transform(
        features
    )
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True)
class Fragments:
    """How identities fall apart over clusters.

    Attributes
    ----------
    cameras : tuple of int
    together : float64 array (c, c)
        Of the pairs of images of one identity, in these cameras, the share that lies in one cluster; NaN without
        pairs.
    clusters : int64 array (i,)
        Clusters in which each identity has images.
    noise : float
        Share of images in no cluster.
    """

    cameras: tuple[int, ...]
    together: FloatArray
    clusters: IntArray
    noise: float


def fragments(labels: IntArray, identity: IntArray, camera: IntArray) -> Fragments:
    """Compare clusters with identities, by camera.

    Parameters
    ----------
    labels : int64 array (n,)
        Below 0: in no cluster.
    """
    cameras, column = np.unique(camera, return_inverse=True)
    people, person = np.unique(identity, return_inverse=True)
    whole = counted(person, column, len(cameras))
    inside = labels >= 0
    cells = np.unique(np.stack([person[inside], labels[inside]]), axis=1, return_inverse=True)
    groups = counted(cells[1].ravel(), column[inside], len(cameras))
    pairs = pairs_of(whole)
    with np.errstate(invalid="ignore", divide="ignore"):
        together = pairs_of(groups) / np.where(pairs > 0, pairs, np.nan)
    clusters = np.bincount(cells[0][0], minlength=len(people)) if inside.any() else np.zeros(len(people), int)
    noise = float(1 - inside.mean()) if len(labels) else float("nan")
    return Fragments(tuple(cameras.tolist()), together, clusters.astype(np.int64), noise)


def counted(group: IntArray, column: IntArray, columns: int) -> FloatArray:
    """Return how many members each group (rows) has in each column."""
    table = np.zeros((int(group.max(initial=-1)) + 1, columns))
    np.add.at(table, (group, column), 1)
    return table


def pairs_of(table: FloatArray) -> FloatArray:
    """Return the ordered pairs of different members of a group, by their columns, over all groups."""
    return np.asarray(table.T @ table - np.diag(table.sum(axis=0)))


def some_identities(identity: IntArray, modality: IntArray, count: int, seed: int) -> Iterator[int]:
    """Yield the rows of so many identities drawn by a seed, first of those that both modalities have."""
    people = np.unique(identity)
    both = np.array([len(np.unique(modality[identity == one])) > 1 for one in people])
    rng = np.random.default_rng(seed)
    order = [*rng.permutation(people[both]), *rng.permutation(people[~both])]
    chosen = order[:count]
    yield from np.flatnonzero(np.isin(identity, chosen)).tolist()
