"""CMC, mAP and mINP as public test scripts compute them: sort the whole matrix, then a Python loop over queries.

Our own writing of the algorithm that AGW's evaluation (Ye et al., "Deep learning for person re-identification: a
survey and outlook") and its descendants share, with the same work: each query's list is filtered, its identities
are put in order of first appearance, and the precision is computed at every position of the gallery in turn.
It is what the metrics are timed against. :mod:`tests.reference.metrics` is the one to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tests.reference.metrics import IntArray, Rules

RANKS = 20


@dataclass(frozen=True)
class PublicScores:
    cmc: npt.NDArray[np.float64]
    mAP: float  # noqa: N815
    mINP: float  # noqa: N815


def in_order_of_appearance(identities: IntArray) -> IntArray:
    """Keep the first, best placed image of each identity."""
    first = np.unique(identities, return_index=True)[1]
    return np.array([identities[i] for i in sorted(first)], dtype=np.int64)


def matching_rate(right: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """1 from the first right entry on, for 20 ranks; a shorter list goes on with its last value."""
    reached = np.minimum(right.cumsum(), 1)[:RANKS].astype(np.float64)
    return np.pad(reached, (0, RANKS - len(reached)), mode="edge")


def average_precision(right: npt.NDArray[np.bool_]) -> float:
    """Mean over matches of the precision at them, out of the precision at every position."""
    found = right.cumsum()
    precision = np.array([count / (position + 1.0) for position, count in enumerate(found)])
    return float((precision * right).sum() / right.sum())


def inverse_negative_penalty(right: npt.NDArray[np.bool_]) -> float:
    """Matches up to the hardest one, over its position."""
    hardest = int(np.flatnonzero(right).max())
    return float(right.cumsum()[hardest] / (hardest + 1.0))


def public_scores(
    distance: npt.NDArray[np.float64],
    query_ids: IntArray,
    gallery_ids: IntArray,
    query_cams: IntArray,
    gallery_cams: IntArray,
    rules: Rules,
    sort: Literal["stable", "quicksort"] = "stable",
) -> PublicScores:
    """Score by a data set's rules; public scripts use NumPy's default sort, ``quicksort``."""
    order = np.argsort(distance, axis=1, kind=sort)
    ranked_ids = gallery_ids[order]
    rates, precisions, penalties = [], [], []
    for q in range(len(query_ids)):
        hidden = rules.hides(query_ids[q], query_cams[q], gallery_ids[order[q]], gallery_cams[order[q]])
        ranked = ranked_ids[q][~hidden]
        right = ranked == query_ids[q]
        if not right.any():
            continue
        listed = in_order_of_appearance(ranked) if rules.distinct_identities else ranked
        rates.append(matching_rate(listed == query_ids[q]))
        precisions.append(average_precision(right))
        penalties.append(inverse_negative_penalty(right))
    return PublicScores(np.mean(rates, axis=0), float(np.mean(precisions)), float(np.mean(penalties)))
