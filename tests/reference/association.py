"""Association by plain loops in float64."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np

Array = np.ndarray


def clusters(labels: Array) -> int:
    return int(labels.max(initial=-1)) + 1


def least_assignment_cost(cost: Array) -> float:
    """Total cost of the best injective map of the shorter side, by trying all."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    small, large = cost.shape
    return min(sum(cost[i, j] for i, j in enumerate(p)) for p in permutations(range(large), small))


def pair_counts(f_v: Array, f_r: Array, y_v: Array, y_r: Array, threshold: float) -> tuple[Array, Array]:
    counts = np.zeros((clusters(y_v), clusters(y_r)), dtype=np.int64)
    best = np.full(counts.shape, -np.inf)
    for f, p in zip(f_v, y_v, strict=True):
        for g, q in zip(f_r, y_r, strict=True):
            if p >= 0 and q >= 0:
                counts[p, q] += float(f @ g) >= threshold
                best[p, q] = max(best[p, q], float(f @ g))
    return counts, best


def aggregate(counts: Array, best: Array) -> list[int]:
    pairs = [(-counts[p, q], -best[p, q], p, q) for p, q in np.ndindex(*counts.shape) if counts[p, q]]
    partner = [-1] * counts.shape[0]
    for _, _, p, q in sorted(pairs):
        if partner[p] < 0 and q not in partner:
            partner[p] = int(q)
    return partner


def nearest(f: Array, keys: Array, k: int, own: int | None = None) -> list[int]:
    scores = [math.inf if j == own else float(f @ g) for j, g in enumerate(keys)]
    return sorted(sorted(range(len(keys)), key=lambda j: (-scores[j], j))[:k])


def vote(labels: list[int], weights: list[float]) -> int:
    totals = {y: math.fsum(w for z, w in zip(labels, weights, strict=True) if z == y) for y in labels}
    return min(totals, key=lambda y: (-totals[y], y), default=-1)


def propagate(f_to: Array, f_from: Array, y_from: Array, k: int) -> list[int]:
    found = []
    for f in f_to:
        scores = [math.exp(float(f @ g)) for g in f_from]
        chosen = nearest(f, f_from, k)
        found.append(vote([int(y_from[j]) for j in chosen], [scores[j] / sum(scores) for j in chosen]))
    return found


def smooth(features: Array, labels: Array, k: int) -> list[int]:
    found = []
    for i, f in enumerate(features):
        chosen = nearest(f, features, k, own=i)
        found.append(vote([int(labels[j]) for j in chosen], [1.0] * len(chosen)))
    return found


def mutual(f_v: Array, f_r: Array, y_v: Array, y_r: Array, k: int) -> list[list[int]]:
    return [
        [i, j]
        for i in range(len(f_v))
        for j in range(len(f_r))
        if y_v[i] == y_r[j] >= 0 and j in nearest(f_v[i], f_r, k) and i in nearest(f_r[j], f_v, k)
    ]


def refine(features: Array, labels: Array, rows: Array, threshold: float, momentum: float) -> Array:
    moved = rows.copy()
    for p in range(clusters(labels)):
        members = features[labels == p]
        if not len(members) or not len(rows):
            continue
        scores = [np.mean([max(0.0, float(f @ row) - threshold) for f in members]) for row in rows]
        q = int(np.argmax(scores))
        if scores[q] > 0:
            close = [f for f in members if float(f @ rows[q]) >= threshold]
            moved[q] = momentum * moved[q] + (1 - momentum) * np.mean(close, axis=0)
    return moved


def sinkhorn(p: Array, power: float, tolerance: float) -> Array:
    """The plan (n, K), scaled entry by entry; for probabilities whose powers do not underflow."""
    n, k = p.shape
    q = (p.astype(np.float64) ** power).T
    beta = np.full(n, 1 / n)
    step = 0
    while True:
        alpha = np.array([1 / k / sum(q[c, i] * beta[i] for i in range(n)) for c in range(k)])
        old = beta
        beta = np.array([1 / n / sum(q[c, i] * alpha[c] for c in range(k)) for i in range(n)])
        if step % 10 == 0 and sum(abs(old / beta - 1)) <= tolerance:
            return (alpha[:, None] * q * beta).T
        step += 1


def sinkhorn_log(p: Array, power: float, tolerance: float) -> Array:
    """Logarithms of the plan (n, K), entry by entry, for probabilities of any size."""
    n, k = p.shape
    q = power * np.log(p.astype(np.float64))
    beta = np.full(n, -np.log(n))
    step = 0
    while True:
        alpha = np.array(
            [-np.log(k) - np.logaddexp.reduce([q[i, c] + beta[i] for i in range(n)]) for c in range(k)]
        )
        old = beta
        beta = np.array(
            [-np.log(n) - np.logaddexp.reduce([q[i, c] + alpha[c] for c in range(k)]) for i in range(n)]
        )
        if step % 10 == 0 and sum(abs(np.exp(old - beta) - 1)) <= tolerance:
            return alpha + q + beta[:, None]
        step += 1


def own_labels(labels: Array) -> list[int]:
    following, own = clusters(labels), []
    for y in labels.tolist():
        own.append(y if y >= 0 else following)
        following += y < 0
    return own


def set_distance(first: list[int], second: list[int]) -> list[float]:
    found = []
    for a, b in zip(first, second, strict=True):
        one = {j for j, y in enumerate(first) if y == a}
        two = {j for j, y in enumerate(second) if y == b}
        found.append(1 - len(one & two) / len(one | two))
    return found


def self_paced(labels: Array, tight: Array, loose: Array, threshold: float | None) -> tuple[float, list[int]]:
    """Threshold (computed if None is given) and the new labels."""
    y, t, o = own_labels(labels), own_labels(tight), own_labels(loose)
    compact, independent = set_distance(y, t), set_distance(y, o)
    rc = {c: min(compact[i] for i in range(len(y)) if y[i] == c) for c in set(y)}
    ri = {c: min(independent[i] for i in range(len(y)) if y[i] == c) for c in set(y)}
    if threshold is None:
        values = sorted(ri[c] for c in set(y) if y.count(c) > 1)
        threshold = values[min(len(values) - 1, round(0.9 * len(values)))] if values else 0.0
    following, new = max(y, default=-1) + 1, []
    for i, c in enumerate(y):
        keep = ri[c] <= threshold and compact[i] <= rc[c]
        new.append(c if keep else following)
        following += not keep
    return threshold, new


def embedding(features: Array, banks: list[Array], scale: float) -> Array:
    rows = []
    for f in features:
        row: list[float] = []
        for bank in banks:
            scores = [math.exp(scale * float(f @ g)) for g in bank]
            row += [s / sum(scores) for s in scores]
        rows.append(row)
    return np.array(rows)


def neighbour_labels(
    queries: Array, candidates: Array, labels: Array, own: Array, m: int, sharpness: float
) -> tuple[Array, list[float]]:
    """Soft labels (n, clusters) and weights, set by set."""
    soft, weights = np.zeros((len(queries), max(1, clusters(labels), *(own + 1)))), []
    members = [{j for j, y in enumerate(labels) if y == k} for k in range(soft.shape[1])]
    for i, f in enumerate(queries):
        near = {*nearest(f, candidates, m)}
        overlap = [len(near & each) / max(1, len(near | each)) for each in members]
        if sum(overlap):
            soft[i] = [value / sum(overlap) for value in overlap]
        agreement = soft[i, own[i]]
        weights.append(math.exp(-sharpness * (1 - agreement) ** 2) if own[i] >= 0 else 0.0)
        if not sum(overlap) and own[i] >= 0:
            soft[i, own[i]] = 1
    return soft, weights


def cosine(f: Array, g: Array) -> float:
    return float(f @ g) / max(1e-12, math.sqrt(f @ f) * math.sqrt(g @ g))


def density_prototypes(features: Array, labels: Array, size: int, cut: float) -> Array:
    found = []
    for k in range(clusters(labels)):
        members = [f for f, y in zip(features, labels, strict=True) if y == k]
        density = [sum(np.sign(cosine(f, g) - cut) for g in members) for f in members]
        order = sorted(range(len(members)), key=lambda i: (-density[i], i))
        found.append(np.mean([members[i] for i in order[:size]], axis=0))
    return np.array(found)


def nearest_prototypes(features: Array, labels: Array, prototypes: Array) -> list[int]:
    found = []
    for f, y in zip(features, labels, strict=True):
        scores = [cosine(f, p) for p in prototypes]
        found.append(scores.index(max(scores)) if y >= 0 else int(y))
    return found


def transport_plan(cost: Array, regularisation: float, tolerance: float) -> tuple[Array, int]:
    rows, columns = cost.shape
    g = [[math.exp(-x / regularisation) for x in row] for row in cost]
    u, v, done = [1 / rows] * rows, [0.0] * columns, 0
    while True:
        v = [1 / columns / math.fsum(g[p][q] * u[p] for p in range(rows)) for q in range(columns)]
        u = [1 / rows / math.fsum(g[p][q] * v[q] for q in range(columns)) for p in range(rows)]
        sums = [v[q] * math.fsum(g[p][q] * u[p] for p in range(rows)) for q in range(columns)]
        done += 1
        if (done - 1) % 10 == 0 and math.dist(sums, [1 / columns] * columns) < tolerance:
            return np.array([[u[p] * g[p][q] * v[q] for q in range(columns)] for p in range(rows)]), done


def relation(x: Array) -> float:
    n, total = len(x), 0.0
    for i in range(n):
        distance = [math.dist(x[i], x[j]) for j in range(n)]
        for j in range(n):
            if i != j and sum(distance):
                s, w = distance[j] / (sum(distance) / n), math.exp(-(distance[j] ** 2))
                total += w * s**2 + (1 - w) * max(0.0, 1 - s) ** 2
    return total / max(1, n * (n - 1))
