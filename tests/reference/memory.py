"""Memories by plain loops in float64, from their formulas."""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def unit(v: Array) -> Array:
    return v / np.linalg.norm(v)


def cluster_loss(rows: Array, features: Array, labels: Array, temperature: float) -> float:
    terms = []
    for f, y in zip(features, labels, strict=True):
        scores = [math.exp(float(f @ row) / temperature) for row in rows]
        terms.append(-math.log(scores[y] / sum(scores)))
    return sum(terms) / len(terms)


def cluster_gradient(rows: Array, features: Array, labels: Array, temperature: float) -> Array:
    """d loss / d features: (softmax - one hot) times rows / temperature / batch."""
    gradient = np.zeros_like(features)
    for i, y in enumerate(labels):
        scores = np.exp(rows @ features[i] / temperature)
        p = scores / scores.sum()
        p[y] -= 1
        gradient[i] = p @ rows / temperature / len(labels)
    return gradient


def sequential(rows: Array, features: Array, labels: Array, momentum: float) -> Array:
    rows = rows.copy()
    for f, y in zip(features, labels, strict=True):
        rows[y] = unit(momentum * rows[y] + (1 - momentum) * f)
    return rows


def hardest(rows: Array, features: Array, labels: Array, momentum: float) -> Array:
    moved = rows.copy()
    for y in dict.fromkeys(labels.tolist()):
        best, chosen = math.inf, None
        for f, label in zip(features, labels, strict=True):
            if label == y and float(f @ rows[y]) < best:
                best, chosen = float(f @ rows[y]), f
        moved[y] = unit(momentum * rows[y] + (1 - momentum) * chosen)
    return moved


def mean(rows: Array, features: Array, labels: Array, momentum: float) -> Array:
    moved = rows.copy()
    for y in set(labels.tolist()):
        members = [f for f, label in zip(features, labels, strict=True) if label == y]
        moved[y] = unit(momentum * rows[y] + (1 - momentum) * np.mean(members, axis=0))
    return moved


def instance_loss(
    rows: Array, labels: Array, features: Array, index: Array, temperature: float, reduce: str
) -> float:
    own = labels.copy()
    following = labels.max(initial=-1) + 1
    for j, y in enumerate(labels):
        if y < 0:
            own[j], following = following, following + 1
    terms = []
    for f, i in zip(features, index, strict=True):
        p = {}
        for k in set(own.tolist()):
            similarities = [float(f @ rows[j]) / temperature for j in range(len(rows)) if own[j] == k]
            if reduce == "sum":
                p[k] = sum(math.exp(s) for s in similarities)
            else:
                p[k] = math.exp(sum(similarities) / len(similarities))
        terms.append(-math.log(p[own[i]] / (sum(p.values()) + 1e-6) + 1e-6))
    return sum(terms) / len(terms)


def compute_centroids(features: Array, labels: Array, modality: Array | None = None) -> Array:
    rows = []
    for y in range(labels.max() + 1):
        groups = [0] * len(labels) if modality is None else modality.tolist()
        means = []
        for m in sorted(set(groups)):
            members = [features[i] for i in range(len(labels)) if labels[i] == y and groups[i] == m]
            if members:
                means.append(np.mean(members, axis=0))
        rows.append(unit(np.mean(means, axis=0)))
    return np.array(rows)
