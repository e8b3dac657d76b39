"""Matching of clusters by memories, confidence, discrepancy and prototypes (MMM) by plain loops in float64."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np

Array = np.ndarray


def inertia(rows: Array, centres: Array) -> float:
    return sum(min(float(((x - c) ** 2).sum()) for c in centres) for x in rows)


def least_inertia(rows: Array, k: int) -> float:
    """Of the best split into at most k parts, by trying all."""
    best = math.inf
    for labels in product(range(k), repeat=len(rows)):
        parts = [rows[np.array(labels) == i] for i in set(labels)]
        best = min(best, sum(float(((part - part.mean(0)) ** 2).sum()) for part in parts))
    return best


def set_distance(visible: list[Array], infrared: list[Array], memories: int) -> Array:
    """Distance of each visible set of centres from each infrared one; the mean stands for centres that are missing."""
    found = np.empty((len(visible), len(infrared)))
    for p, q in np.ndindex(*found.shape):
        least = [min(float(np.linalg.norm(m - c)) for c in visible[p]) for m in infrared[q]]
        found[p, q] = memories * sum(least) / len(least)
    return found


def nearest(distance: Array) -> list[int]:
    return [min(range(len(row)), key=lambda q: (row[q], q)) for row in distance]


def assigned(distance: Array) -> float:
    """Least total distance of a one-to-one map of the shorter side."""
    small = distance if distance.shape[0] <= distance.shape[1] else distance.T
    return min(
        sum(small[i, j] for i, j in enumerate(chosen))
        for chosen in permutations(range(small.shape[1]), small.shape[0])
    )


def published_labels(visible: list[int], infrared: list[int], distance: Array) -> tuple[list[int], list[int]]:
    """Labels when the last cluster of either side is left out; -1 where an image leaves training."""
    k_v, k_r = distance.shape
    partner = [*nearest(distance[:-1, :-1]), k_v - 1]
    renamed = [partner[y] if y >= 0 else -1 for y in visible]
    limit = max(len(set(renamed)), len(set(infrared)))

    def kept(labels: list[int]) -> list[int]:
        return [y if 0 <= y <= limit and y < k_r else -1 for y in labels]

    return kept(renamed), kept(infrared)


def spread(values: list[float], split: float) -> float:
    """Sum of squared distances to the means of the numbers up to `split` and of those above."""
    total = 0.0
    for part in ([x for x in values if x <= split], [x for x in values if x > split]):
        mean = sum(part) / len(part)
        total += sum((x - mean) ** 2 for x in part)
    return total


def least_spread(values: list[float]) -> float:
    """Least spread over all splits into two parts."""
    return min(spread(values, split) for split in set(values) - {max(values)})


def lower_component(values: list[float], start: float) -> tuple[list[float], int]:
    """Posteriors of the lower of two Gaussian components, and the steps of expectation maximisation."""
    shares = [[float(x <= start) for x in values], [float(x > start) for x in values]]
    before, steps, stopped = -math.inf, 0, False
    while True:
        fits = []
        for share in shares:
            size = sum(share) + 10 * np.finfo(float).eps
            mean = sum(s * x for s, x in zip(share, values, strict=True)) / size
            spread = sum(s * (x - mean) ** 2 for s, x in zip(share, values, strict=True)) / size + 5e-4
            fits.append((size, mean, spread))
        whole = sum(size for size, _, _ in fits)
        joint = [
            [
                size / whole * math.exp(-((x - mean) ** 2) / (2 * spread)) / math.sqrt(2 * math.pi * spread)
                for size, mean, spread in fits
            ]
            for x in values
        ]
        shares = [[pair[i] / sum(pair) for pair in joint] for i in range(2)]
        if stopped:  # the posteriors that count come after the step that ended it
            return shares[min(range(2), key=lambda i: fits[i][1])], steps
        after = sum(math.log(sum(pair)) for pair in joint) / len(values)
        steps += 1
        stopped = abs(after - before) < 1e-2 or steps == 100
        before = after


def discrepancy(x: Array, y: Array, labels: list[int]) -> float:
    """Maximum mean discrepancy of every label, summed."""
    total = 0.0
    for label in sorted(set(labels)):
        chosen = [i for i, each in enumerate(labels) if each == label]
        a, b = x[chosen].astype(np.float64), y[chosen].astype(np.float64)
        z = np.concatenate([a, b])
        width = sum(float(((p - q) ** 2).sum()) for p in z for q in z) / (len(z) ** 2 - len(z))

        def kernel(p: Array, q: Array, width: float = width) -> float:
            return sum(math.exp(-float(((p - q) ** 2).sum()) / (width * 2.0**k)) for k in range(-2, 3))

        if width:
            n = len(chosen)
            inner = sum(kernel(p, q) for s in (a, b) for p in s for q in s)
            outer = sum(kernel(p, q) for p in a for q in b)
            total += (inner - 2 * outer) / n**2
    return total
