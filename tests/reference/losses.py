"""Losses by plain loops in float64, from their formulas."""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def distance(a: Array, b: Array) -> float:
    return math.sqrt(max(float(((a - b) ** 2).sum()), 1e-12))


def batch_hard_triplet(x: Array, labels: Array, margin: float) -> float:
    terms = []
    for i in range(len(x)):
        positive = max(distance(x[i], x[j]) for j in range(len(x)) if labels[j] == labels[i])
        negative = min(
            (distance(x[i], x[j]) for j in range(len(x)) if labels[j] != labels[i]), default=math.inf
        )
        terms.append(max(0.0, positive - negative + margin))
    return sum(terms) / len(terms)


def weighted(x: Array, labels: Array) -> list[tuple[float, float]]:
    """(D+, D-) of every anchor, with the published shift and epsilon (Q39)."""
    found = []
    for i in range(len(x)):
        sides = []
        for sign, wanted in ((1, True), (-1, False)):
            chosen = [distance(x[i], x[j]) for j in range(len(x)) if (labels[j] == labels[i]) == wanted]
            # entries outside the mask are zeros of the masked matrix
            entries = [sign * d for d in chosen] + [0.0] * (len(x) - len(chosen))
            shift = max(entries)
            raised = [math.exp(sign * d - shift) for d in chosen]
            total = sum(raised) + 1e-6
            sides.append(sum(w / total * d for w, d in zip(raised, chosen, strict=True)))
        found.append((sides[0], sides[1]))
    return found


def weighted_regularized_triplet(x: Array, labels: Array) -> float:
    return float(np.mean([np.logaddexp(0, p - n) for p, n in weighted(x, labels)]))


def enhanced_squared_difference(x: Array, labels: Array) -> float:
    terms = []
    for p, n in weighted(x, labels):
        z = min((p - n) ** 2, 88)
        terms.append(np.logaddexp(0, -z if p <= n else z))
    return float(np.mean(terms))


def softmax(v: Array) -> Array:
    raised = np.exp(v - v.max())
    return raised / raised.sum()


def prediction_alignment(visible: Array, infrared: Array, weights: tuple[float, float]) -> float:
    def mixed(a: Array, b: Array) -> Array:
        rows = []
        for u in a:
            cosines = [float(u @ w) / (np.linalg.norm(u) * np.linalg.norm(w)) for w in b]
            rows.append(softmax(np.array(cosines)) @ b)
        return np.array(rows)

    def divergence(p: Array, q: Array) -> float:
        terms = []
        for u, w in zip(p, q, strict=True):
            s, t = softmax(u), softmax(w)
            terms.append(sum(s[k] * (math.log(s[k]) - math.log(t[k])) for k in range(len(s))))
        return sum(terms) / len(terms)

    return weights[0] * divergence(visible, mixed(visible, infrared)) + weights[1] * divergence(
        mixed(infrared, visible), mixed(infrared, infrared)
    )
