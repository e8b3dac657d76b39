"""CMC, mAP and mINP one query at a time, straight from the definitions (docs/protocols.md).

Each row is sorted once and handled with NumPy vectors: a lean loop, not a copy of the steps of public code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class SlowScores:
    cmc: npt.NDArray[np.float64]
    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    average_precision: list[float]
    hits: list[list[int]]
    tied: int
    mAP_pessimistic: float  # noqa: N815


def precision_of(positions: list[int]) -> float:
    return sum(k / p for k, p in enumerate(positions, start=1)) / len(positions)


def slow_scores(
    distance: npt.NDArray[np.float64],
    query_ids: npt.NDArray[np.int64],
    gallery_ids: npt.NDArray[np.int64],
    query_cams: npt.NDArray[np.int64],
    gallery_cams: npt.NDArray[np.int64],
    kind: str,
) -> SlowScores:
    """Score by ``sysu`` (camera 3 does not see camera 2, identities count once) or ``regdb`` rules."""
    cmc = np.zeros(20)
    precisions, pessimistic, inps, hits = [], [], [], []
    tied = 0
    for q in range(len(query_ids)):
        order = np.argsort(distance[q], kind="stable")
        if kind == "sysu" and query_cams[q] == 3:
            order = order[gallery_cams[order] != 2]
        ranked = gallery_ids[order]
        positions = (np.flatnonzero(ranked == query_ids[q]) + 1).tolist()
        hits.append(positions)
        if not positions:
            precisions.append(float("nan"))
            continue
        before = ranked[: positions[0] - 1]
        rank = (len(set(before.tolist())) if kind == "sysu" else len(before)) + 1
        cmc[rank - 1 :] += 1
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
        tied,
        float(np.mean(pessimistic)),
    )
