"""What a run keeps of every query's ranked list, and every metric computed anew from it.

``ranks.npz`` holds, for each checkpoint rule, protocol, setting and trial, the arrays of :data:`KEPT` under
``checkpoint/protocol/setting/trial/``. Average precision is the mean of k / rank over the matches, so that it too
follows from ``hits``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.schema import METRIC_NAMES, ResultsError

FloatArray = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]

AGREEMENT = 1e-9
"""Percent by which a stored value may differ from the one computed anew: rounding errors of sums."""
KEPT = ("query_identity", "query_camera", "average_precision", "hits", "hit_offsets", "first_rank")
PLACE = ("checkpoint", "protocol", "setting", "trial")


def check_metric(metric: str) -> None:
    """Refuse a metric that ranks do not give."""
    if metric not in ("mAP", "mINP") and not re.fullmatch(r"rank-[1-9]\d*", metric):
        raise ResultsError(f"no metric {metric!r}: expected mAP, mINP or rank-K, as rank-1")


def query_scores(ranks: Arrays, metric: str) -> FloatArray:
    """Return the score of each query in percent, NaN where it has no match.

    Parameters
    ----------
    ranks : mapping of str to array
        What is kept of one trial: average_precision, hits, hit_offsets, first_rank.
    metric : str
        ``mAP``, ``mINP`` or ``rank-K``.
    """
    check_metric(metric)
    if metric == "mAP":
        return np.asarray(100 * ranks["average_precision"], dtype=np.float64)
    if metric == "mINP":
        offsets = ranks["hit_offsets"]
        count = np.diff(offsets)
        scores = np.full(len(count), np.nan)
        found = count > 0
        scores[found] = 100 * count[found] / ranks["hits"][offsets[1:][found] - 1]
        return scores
    first = ranks["first_rank"]
    reached = 100.0 * (first <= int(metric.removeprefix("rank-")))
    return np.asarray(np.where(first > 0, reached, np.nan), dtype=np.float64)


def precision_of(hits: npt.NDArray[Any], offsets: npt.NDArray[Any]) -> FloatArray:
    """Return each query's average precision from the ranks of its matches, NaN without a match."""
    count = np.diff(offsets)
    place = np.arange(len(hits)) - np.repeat(offsets[:-1], count) + 1
    precision = np.full(len(count), np.nan)
    found = count > 0
    precision[found] = np.add.reduceat(place / hits, offsets[:-1][found]) / count[found] if len(hits) else 0
    return precision


def fault_of_lists(ranks: Arrays, n_gallery: int) -> str:
    """Say why the arrays of one trial cannot be ranked lists of a gallery; empty if they can."""
    hits, offsets, first = (ranks[name] for name in ("hits", "hit_offsets", "first_rank"))
    if any(array.ndim != 1 for array in ranks.values()):
        return "an array is not one-dimensional"
    queries = {len(ranks[name]) for name in KEPT if name not in ("hits", "hit_offsets")} | {len(offsets) - 1}
    if len(queries) > 1:
        return f"its arrays are of {' and '.join(map(str, sorted(queries)))} queries"
    if any(array.dtype.kind not in "iu" for array in (hits, offsets, first)):
        return "ranks are not integers"
    if offsets[0] != 0 or offsets[-1] != len(hits) or (np.diff(offsets) < 0).any():
        return "hit_offsets do not cut up hits"
    later = np.ones(len(hits), dtype=bool)
    later[offsets[:-1][np.diff(offsets) > 0]] = False  # a query's first match follows nothing
    if len(hits) and (
        hits.min() < 1 or hits.max() > n_gallery or (np.diff(hits, prepend=0) <= 0)[later].any()
    ):
        return f"hits are not ascending ranks from 1 to {n_gallery}"
    found = np.diff(offsets) > 0
    if ((first > 0) != found).any() or (first[found] > hits[offsets[:-1][found]]).any():
        return "first_rank does not fit the first match in hits"
    given, computed = ranks["average_precision"], precision_of(hits, offsets)
    wrong = ~np.isclose(given, computed, rtol=0, atol=AGREEMENT / 100, equal_nan=True)
    if wrong.any():
        query = int(wrong.argmax())
        return (
            f"average_precision of query {query} is {given[query]:.6g}, its hits give {computed[query]:.6g}"
        )
    return ""


def false_rows(rows: pd.DataFrame, ranks: Arrays) -> Iterator[str]:
    """Yield where metric rows are not what the ranked lists give, in the order of the rows.

    Parameters
    ----------
    rows : DataFrame
        Those of one run; see :class:`results.schema.MetricRow`.
    ranks : mapping of str to array
        The arrays of its ``ranks.npz``.
    """
    places = dict.fromkeys(name.rsplit("/", 1)[0] for name in ranks)
    for place, part in rows.groupby(list(PLACE), sort=False):
        where = "/".join(map(str, place))
        places.pop(where, None)
        yield from (f"{where}: {fault}" for fault in faults_of_trial(part, ranks, where))
    yield from (f"{where}: ranks.npz has it, metrics.csv has no rows of it" for where in places)


def faults_of_trial(rows: pd.DataFrame, ranks: Arrays, where: str) -> Iterator[str]:
    """Yield what is wrong with the rows of one checkpoint rule, protocol, setting and trial."""
    if lacking := [name for name in KEPT if f"{where}/{name}" not in ranks]:
        yield f"ranks.npz has no {', '.join(lacking)}"
        return
    kept = {name: ranks[f"{where}/{name}"] for name in KEPT}
    first = rows.iloc[0]
    if fault := fault_of_lists(kept, int(first["n_gallery"])):
        yield f"ranks.npz: {fault}"
        return
    counted = {"n_query": len(kept["first_rank"]), "n_valid": int((kept["first_rank"] > 0).sum())}
    for column, count in counted.items():
        if (rows[column] != count).any():
            yield f"{column} is {', '.join(map(str, sorted(set(rows[column]))))}, ranks.npz gives {count}"
    if absent := [name for name in METRIC_NAMES if name not in set(rows["metric"])]:
        yield f"metrics.csv has no {', '.join(absent)}"
    for metric, value in zip(rows["metric"], rows["value"].tolist(), strict=True):
        scores = query_scores(kept, metric)
        mean = float(np.nanmean(scores)) if np.isfinite(scores).any() else np.nan
        if not abs(mean - value) <= AGREEMENT:
            yield f"metrics.csv says {metric} {value!r}, ranks.npz gives {mean!r}"
