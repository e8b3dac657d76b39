"""CMC, mAP and mINP one query at a time, straight from the definitions (docs/protocols.md).

Each row is sorted once and handled with NumPy vectors: a lean loop, not a copy of the steps of public code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """What a data set's metrics differ in.

    `hides` takes a query's identity and camera and the gallery's identities and cameras, and says which images the
    query does not see; ranks of the CMC count identities, each at its best place, or images.
    """

    hides: Callable[[int, int, IntArray, IntArray], npt.NDArray[np.bool_]]
    distinct_identities: bool


SYSU = Rules(lambda _identity, camera, _ids, cams: (camera == 3) & (cams == 2), distinct_identities=True)
REGDB = Rules(
    lambda _identity, _camera, ids, _cams: np.zeros(len(ids), dtype=bool), distinct_identities=False
)
RULES = {"sysu": SYSU, "regdb": REGDB}


@dataclass(frozen=True)
class SlowScores:
    cmc: npt.NDArray[np.float64]
    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    average_precision: list[float]
    hits: list[list[int]]
    first_rank: list[int]
    first_rows: list[list[int]]
    tied: int
    mAP_pessimistic: float  # noqa: N815


def precision_of(positions: list[int]) -> float:
    return sum(k / p for k, p in enumerate(positions, start=1)) / len(positions)


def slow_scores(
    distance: npt.NDArray[np.float64],
    query_ids: IntArray,
    gallery_ids: IntArray,
    query_cams: IntArray,
    gallery_cams: IntArray,
    rules: Rules,
) -> SlowScores:
    """Score by a data set's rules."""
    cmc = np.zeros(20)
    precisions, pessimistic, inps, hits = [], [], [], []
    first_rank, first_rows = [], []
    tied = 0
    for q in range(len(query_ids)):
        order = np.argsort(distance[q], kind="stable")
        hidden = rules.hides(query_ids[q], query_cams[q], gallery_ids, gallery_cams)
        order = order[~hidden[order]]
        ranked = gallery_ids[order]
        first_rows.append(order[:10].tolist())
        positions = (np.flatnonzero(ranked == query_ids[q]) + 1).tolist()
        hits.append(positions)
        if not positions:
            precisions.append(float("nan"))
            first_rank.append(0)
            continue
        before = ranked[: positions[0] - 1]
        rank = (len(set(before.tolist())) if rules.distinct_identities else len(before)) + 1
        cmc[rank - 1 :] += 1
        first_rank.append(rank)
        precisions.append(precision_of(positions))
        inps.append(len(positions) / positions[-1])
        near = distance[q][order]
        right = ranked == query_ids[q]
        tied += bool(np.isin(near[~right], near[right]).any())
        last = np.lexsort((right, near))
        pessimistic.append(precision_of((np.flatnonzero(right[last]) + 1).tolist()))
    valid = [p for p in precisions if p == p]
    return SlowScores(
        cmc / len(valid),
        float(np.mean(valid)),
        float(np.mean(inps)),
        precisions,
        hits,
        first_rank,
        first_rows,
        tied,
        float(np.mean(pessimistic)),
    )
