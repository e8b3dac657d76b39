"""CMC, mAP and mINP, exact: the rank of every match without sorting a gallery (docs/protocols.md).

The rank of a match is one plus the number of kept images with a smaller (distance, index). One pass over a
gallery counts that for all matches of a query at once, by binary searches among the query's sorted matches.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from protocols.base import DataError, Distance, IntArray, Scores

if TYPE_CHECKING:
    from protocols.device_metrics import Ranks

LENGTH = 20
"""Ranks of a CMC vector."""
SHOWN = 10
"""Gallery images that are kept of each query's ranked list."""

FloatArray = npt.NDArray[np.float64]


class ShortGalleryWarning(UserWarning):
    """Fewer identities (or images) than ranks of a CMC vector; it is continued with its last value."""


class TieWarning(UserWarning):
    """Images of different identities are equally far from a query; gallery order decides."""


def distances(
    query_features: npt.NDArray[np.floating], gallery_features: npt.NDArray[np.floating]
) -> FloatArray:
    """Return -(Q Gᵀ) in float64, as public test scripts do (docs/protocols.md).

    Parameters
    ----------
    query_features, gallery_features : float arrays (q, d), (g, d), L2-normalised

    Raises
    ------
    DataError
        NaN, infinite or zero rows, or different widths.
    """
    for name, features in (("query", query_features), ("gallery", gallery_features)):
        if features.ndim != 2:
            raise DataError(f"{name}_features has shape {features.shape}; expected (images, dimensions)")
        refuse_rows(~np.isfinite(features).all(axis=1), f"{name}_features", "NaN or infinite values")
        refuse_rows(~features.any(axis=1), f"{name}_features", "zero norm")
    if query_features.shape[1] != gallery_features.shape[1]:
        raise DataError(
            f"query_features {query_features.shape} and gallery_features "
            f"{gallery_features.shape} differ in width; extract both with one network"
        )
    return -(query_features.astype(np.float64) @ gallery_features.astype(np.float64).T)


def refuse_rows(bad: npt.NDArray[np.bool_] | np.bool_, name: str, what: str) -> None:
    """Raise if any row is bad; say how many and which is the first."""
    rows = np.flatnonzero(bad)
    if rows.size:
        raise DataError(
            f"{name}: {rows.size} of {np.size(bad)} rows have {what}, the first is row {rows[0]}; "
            "compute these features again, no number can be trusted with them"
        )


def evaluate(
    distance: Distance,
    query_ids: IntArray,
    gallery_ids: IntArray,
    skip: npt.NDArray[np.bool_],
    skip_group: IntArray,
    distinct_identities: bool,
) -> Scores:
    """Compute all metrics of one trial.

    Parameters
    ----------
    distance : float array or tensor (q, g)
        Smaller is nearer; ties are ordered by gallery index. A tensor is ranked on its own device.
    query_ids, gallery_ids : int64 arrays (q,), (g,)
    skip : bool array (groups, g)
        Gallery images that a group of queries does not see.
    skip_group : int64 array (q,)
        Group of each query.
    distinct_identities : bool
        CMC over identities, each at its best place, instead of images.

    Raises
    ------
    DataError
        Shapes that disagree, NaN or infinite distances, or no query with a match.
    """
    check_inputs(distance, query_ids, gallery_ids, skip, skip_group)
    names, gallery_code = np.unique(gallery_ids, return_inverse=True)
    place = np.searchsorted(names, query_ids).clip(max=len(names) - 1)
    query_code = np.where(names[place] == query_ids, place, -1)
    seen = np.stack([np.bincount(gallery_code[~row], minlength=len(names)) for row in skip])
    matches = np.where(query_code >= 0, seen[skip_group, query_code], 0)
    if not matches.any():
        raise DataError(
            f"none of the {len(query_ids)} queries has a match among the {len(gallery_ids)} gallery images "
            "they see; "
            "number the ids of both sides alike"
        )
    candidates = len(names) if distinct_identities else len(gallery_ids)
    if candidates < LENGTH:
        text = f"the gallery has {candidates} candidates; ranks beyond repeat the last CMC value"
        warnings.warn(text, ShortGalleryWarning, stacklevel=3)
    offsets = np.concatenate([[0], np.cumsum(matches)])
    hits, worst, ahead, tied = rank(distance, query_code, gallery_code, skip, skip_group, offsets, len(names))
    nearest_images = first_images(distance, skip, skip_group, min(SHOWN, len(gallery_ids)))
    ranked = RankedLists(hits, worst, ahead if distinct_identities else None, tied, *nearest_images)
    return summarise(ranked, offsets, len(gallery_ids))


def own_camera(
    query_ids: IntArray, gallery_ids: IntArray, query_cams: IntArray, gallery_cams: IntArray
) -> tuple[npt.NDArray[np.bool_], IntArray]:
    """Return `skip` and `skip_group` of :func:`evaluate` where a query does not see its identity in its own camera.

    Raises
    ------
    DataError
        Cameras that are not one an image, or that leave no query a match.
    """
    for name, cams, ids in (("query", query_cams, query_ids), ("gallery", gallery_cams, gallery_ids)):
        if cams.shape != ids.shape:
            raise DataError(
                f"{name}_cams has shape {cams.shape}, the ids of that side have shape {ids.shape}; give one a sample"
            )
        if (cams < 0).any():  # of one unknown camera, images would hide each other
            raise DataError(
                f"{name}_cams has {int((cams < 0).sum())} negative numbers; a camera that is not known hides no image "
                "and is hidden by none, so nobody can say what is a match: leave these images out"
            )
    pairs, group = np.unique(np.stack([query_ids, query_cams], axis=1), axis=0, return_inverse=True)
    same = pairs[:, :1] == gallery_ids
    skip = same & (pairs[:, 1:] == gallery_cams)
    if same.any() and not (same & ~skip).any():
        raise DataError(
            f"every match of the {len(query_ids)} queries is left out, because it is of the query's own camera; "
            "give the cameras of both sides"
        )
    return skip, group.reshape(-1)


def rank(
    distance: Distance,
    query_code: IntArray,
    gallery_code: IntArray,
    skip: npt.NDArray[np.bool_],
    skip_group: IntArray,
    offsets: IntArray,
    identities: int,
) -> Ranks:
    """Rank the matches where the distances are: compiled loops for an array, sorts on its device for a tensor."""
    about = (query_code, gallery_code, skip, skip_group)
    if isinstance(distance, np.ndarray):
        from protocols import ranking  # numba, which reading lists and rules goes without

        whole = np.ascontiguousarray(distance, dtype=np.float64)
        ranks: Ranks = ranking.rank_matches(whole, *about, offsets, identities)
        return ranks
    from protocols import device_metrics

    return device_metrics.rank_matches(distance, *about, identities)


def first_images(
    distance: Distance, skip: npt.NDArray[np.bool_], skip_group: IntArray, count: int
) -> tuple[IntArray, FloatArray]:
    """Return rows and distances (q, count) of the nearest gallery images that each query sees."""
    if isinstance(distance, np.ndarray):
        from protocols import ranking  # as above

        whole = np.ascontiguousarray(distance, dtype=np.float64)
        rows, values = ranking.nearest_rows(whole, skip, skip_group, count)
        return rows, values
    from protocols import device_metrics

    return device_metrics.nearest_rows(distance, skip, skip_group, count)


def finite_rows(distance: Distance) -> npt.NDArray[np.bool_]:
    """Say for each row whether all its distances are finite."""
    if isinstance(distance, np.ndarray):
        return np.asarray(np.isfinite(distance).all(axis=1))
    from protocols import device_metrics

    return device_metrics.finite_rows(distance)


def check_inputs(
    distance: Distance,
    query_ids: IntArray,
    gallery_ids: IntArray,
    skip: npt.NDArray[np.bool_],
    skip_group: IntArray,
) -> None:
    """Refuse what cannot be scored."""
    if tuple(distance.shape) != (len(query_ids), len(gallery_ids)):
        raise DataError(
            f"distance has shape {tuple(distance.shape)}, but there are {len(query_ids)} query ids "
            f"and {len(gallery_ids)} gallery ids; give one id for each row and each column"
        )
    for name, cameras, ids in (
        ("query_cams", skip_group.shape, query_ids.shape),
        ("gallery_cams", skip.shape[1:], gallery_ids.shape),
    ):
        if cameras != ids:
            raise DataError(
                f"{name} has shape {cameras}, the ids of that side have shape {ids}; give one a sample"
            )
    if not len(query_ids):
        raise DataError("there are zero queries; the query list must not be empty")
    if not len(gallery_ids):
        raise DataError("the gallery is empty; the gallery list must hold at least one image")
    refuse_rows(~finite_rows(distance), "distance", "NaN or infinite values")


def mean_precision(ranks: IntArray, offsets: IntArray) -> FloatArray:
    """Return the average precision of each query with a match: the mean of k / rank of the k-th match."""
    count = np.diff(offsets)
    order = np.arange(len(ranks)) - np.repeat(offsets[:-1], count) + 1
    precision: FloatArray = np.add.reduceat(order / ranks, offsets[:-1][count > 0]) / count[count > 0]
    return precision


class RankedLists(NamedTuple):
    """What ranking the gallery gives: of every match, and of every query.

    Attributes
    ----------
    hits, worst : int64 arrays (total,)
        Ranks of the matches, query by query, and what they are if every tie is lost.
    ahead : int64 array (q,) or None
        Wrong identities before the first match, where CMC counts identities.
    tied : bool array (q,)
    first_rows, first_distances : arrays (q, n)
    """

    hits: IntArray
    worst: IntArray
    ahead: IntArray | None
    tied: npt.NDArray[np.bool_]
    first_rows: IntArray
    first_distances: FloatArray


def summarise(ranked: RankedLists, offsets: IntArray, n_gallery: int) -> Scores:
    """Turn ranks into metrics; means are over queries with a match."""
    count, hits, ahead = np.diff(offsets), ranked.hits, ranked.ahead
    valid = count > 0
    first = np.zeros(len(count), dtype=np.int64)
    first[valid] = hits[offsets[:-1][valid]] if ahead is None else ahead[valid] + 1
    precision = np.full(len(count), np.nan)
    precision[valid] = mean_precision(hits, offsets)
    mean, pessimistic = float(precision[valid].mean()), float(mean_precision(ranked.worst, offsets).mean())
    if ranked.tied.any():
        warnings.warn(
            f"{ranked.tied.sum()} of {valid.sum()} queries have matches that tie with other identities; gallery order "
            f"decides: mAP {100 * mean:.2f}, and {100 * pessimistic:.2f} if wrong ones came first",
            TieWarning,
            stacklevel=3,
        )
    return Scores(
        cmc=cmc_of(first),
        mAP=mean,
        mINP=float((count[valid] / hits[offsets[1:][valid] - 1]).mean()),
        average_precision=precision,
        hits=hits,
        hit_offsets=offsets,
        first_rank=first,
        first_rows=ranked.first_rows,
        first_distances=ranked.first_distances,
        n_query=len(count),
        n_valid=int(valid.sum()),
        n_gallery=n_gallery,
        tied_queries=int(ranked.tied.sum()),
        mAP_pessimistic=pessimistic,
    )


def cmc_of(first_rank: IntArray) -> FloatArray:
    """Return the matching rate at ranks 1 to 20 from each query's first match (0: it has none)."""
    valid = first_rank[first_rank > 0]
    cmc: FloatArray = np.bincount(valid[valid <= LENGTH] - 1, minlength=LENGTH).cumsum() / len(valid)
    return cmc
