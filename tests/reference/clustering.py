"""The clustering core pair by pair, from the definitions.

Encodings are dictionaries {sample: weight} in float64; distances are rounded to float32 at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Row = dict[int, float]


def similarities(features: Floats) -> Floats:
    """Inner products summed in float64, rounded once."""
    wide = features.astype(np.float64)
    return np.array([[(x * y).sum() for y in wide] for x in wide], np.float64).astype(np.float32)


def ranked(similarity: Floats, i: int, among: Sequence[int], k: int) -> list[int]:
    """The k most similar samples; of equals, those with the smaller index."""
    return sorted(among, key=lambda j: (-similarity[i, j], j))[:k]


def nearest(similarity: Floats, k: int) -> list[list[int]]:
    everybody = range(len(similarity))
    return [ranked(similarity, i, everybody, k) for i in everybody]


def reciprocal(lists: Sequence[Sequence[int]]) -> list[set[int]]:
    return [{j for j in mine if i in lists[j]} for i, mine in enumerate(lists)]


def expanded(lists: Sequence[Sequence[int]]) -> list[set[int]]:
    """R(i) with every half set of which more than two thirds lie in R(i)."""
    k1 = len(lists[0])
    whole = reciprocal(lists)
    half = reciprocal([mine[: round(k1 / 2) + 1] for mine in lists])
    return [
        mine.union(*(half[j] for j in mine if 3 * len(half[j] & mine) > 2 * len(half[j]))) for mine in whole
    ]


def encoding(similarity: Floats, sets: Sequence[set[int]]) -> list[Row]:
    rows = []
    for i, members in enumerate(sets):
        weight = {j: exp(-(2 - 2 * float(similarity[i, j]))) for j in members}
        rows.append({j: w / sum(weight.values()) for j, w in weight.items()})
    return rows


def mean(rows: Sequence[Row]) -> Row:
    total: Row = {}
    for row in rows:
        for j, w in row.items():
            total[j] = total.get(j, 0.0) + w / len(rows)
    return total


def plain(rows: Sequence[Row], lists: Sequence[Sequence[int]], k2: int) -> list[Row]:
    return [mean([rows[j] for j in mine[:k2]]) for mine in lists]


def mie(
    rows: Sequence[Row],
    lists: Sequence[Sequence[int]],
    k2: int,
    modality: Sequence[int],
    camera: Sequence[int],
    cap: int | None = None,
) -> list[Row]:
    """Mean over modalities of the mean over their cameras of the mean over neighbours, at most `cap` of a camera."""
    found = []
    for mine in lists:
        groups: dict[int, dict[int, list[Row]]] = {}
        for j in mine[:k2]:
            group = groups.setdefault(modality[j], {}).setdefault(camera[j], [])
            if rows[j] and (cap is None or len(group) < cap):
                group.append(rows[j])
        by_modality = [[mean(group) for group in cameras.values() if group] for cameras in groups.values()]
        found.append(mean([mean(cameras) for cameras in by_modality if cameras]))
    return found


def jaccard(rows: Sequence[Row]) -> Floats:
    n = len(rows)
    distance = np.ones((n, n))
    for i in range(n):
        for j in range(n):
            shared = sum(min(w, rows[j].get(m, 0.0)) for m, w in rows[i].items())
            distance[i, j] = max(0.0, 1 - shared / (2 - shared))
    return distance.astype(np.float32)


def camera_aware(
    features: Floats,
    camera: Sequence[int],
    k1: tuple[int, int],
    k2: tuple[int, int],
    fill_lists: bool = False,
) -> tuple[Floats, list[list[int]], list[list[int]]]:
    """CA-Jaccard distances and the (intra, inter) lists; k1 and k2 are (intra, inter)."""
    n = len(features)
    s = similarities(features)

    def side(i: int, same: bool) -> list[int]:
        return ranked(s, i, [j for j in range(n) if (camera[i] == camera[j]) == same], n)

    intra, inter = (
        [(side(i, same) + (side(i, not same) if fill_lists else []))[: k + 1] for i in range(n)]
        for same, k in ((True, k1[0]), (False, k1[1]))
    )
    sets = [a | e for a, e in zip(reciprocal(intra), reciprocal(inter), strict=True)]
    rows = encoding(s, sets)
    near = [a[: k2[0]] + e[: k2[1]] for a, e in zip(intra, inter, strict=True)]
    return jaccard([mean([rows[j] for j in mine]) for mine in near]), intra, inter


def density(distance: Floats, eps: float, min_samples: int) -> list[int]:
    """DBSCAN: clusters by their first core point; a border point joins the first cluster that reaches it."""
    n = len(distance)
    near = [[j for j in range(n) if distance[i, j] <= np.float32(eps)] for i in range(n)]
    core = [len(row) >= min_samples for row in near]
    labels = [-1] * n
    found = 0
    for seed in range(n):
        if not core[seed] or labels[seed] >= 0:
            continue
        todo = [seed]
        labels[seed] = found
        while todo:
            i = todo.pop()
            for j in near[i] if core[i] else []:
                if labels[j] < 0:
                    labels[j] = found
                    todo.append(j)
        found += 1
    return labels
