"""The clustering core as public code computes it: dense N x N matrices and Python loops.

Written from the mathematics, as plainly as the public programs work, so that ``reidbench time`` can compare the
core with what it replaces on the same machine. It needs 12 N^2 bytes at its peak.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

from methods.timing import timed

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
SEARCH_ROWS = 2048
"""Rows searched at once."""


def reference_clusters(features: Floats, *, k1: int, k2: int, eps: float, min_samples: int) -> Longs:
    """Cluster unit rows by DBSCAN on their dense Jaccard distances.

    Returns
    -------
    int64 array (n,)
        -1 is noise.
    """
    with timed("neighbours"):
        near = search(features, k1)
    with timed("reciprocal"):
        sets = expanded_sets(near)
    with timed("encode"):
        encoding = encode(features, sets)
    with timed("expand"):
        if k2 > 1:
            encoding = expand(encoding, near[:, :k2])
    with timed("jaccard"):
        distance = jaccard(encoding)
    with timed("cluster"):
        model = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
        labels = model.fit(distance).labels_
    return np.asarray(labels, np.int64)


def search(features: Floats, k: int) -> Longs:
    """Return the k nearest rows of every row, by float32 products of every row with all."""
    rows = torch.from_numpy(features)
    parts = [torch.topk(part @ rows.T, k, dim=1).indices for part in rows.split(SEARCH_ROWS)]
    return torch.cat(parts).numpy()


def reciprocal_sets(near: Longs) -> list[set[int]]:
    """Return, for every sample, who is in its list and has it in theirs."""
    members = [set(row) for row in near.tolist()]
    return [{j for j in listed if i in members[j]} for i, listed in enumerate(members)]


def expanded_sets(near: Longs) -> list[Longs]:
    """Add the half sets of which more than two thirds lie in the original set."""
    k1 = near.shape[1]
    whole = reciprocal_sets(near)
    half = reciprocal_sets(near[:, : round(k1 / 2) + 1])
    sets = []
    for reciprocal in whole:
        expanded = set(reciprocal)
        for j in reciprocal:
            if 3 * len(half[j] & reciprocal) > 2 * len(half[j]):
                expanded |= half[j]
        sets.append(np.sort(np.fromiter(expanded, np.int64, len(expanded))))
    return sets


def encode(features: Floats, sets: list[Longs]) -> Floats:
    """Fill the dense matrix of softmax weights of -(2 - 2 f_i.f_j)."""
    encoding = np.zeros((len(features), len(features)), np.float32)
    for i, members in enumerate(sets):
        weight = np.exp(2 * (features[members] @ features[i]) - 2)
        encoding[i, members] = weight / weight.sum()
    return encoding


def expand(encoding: Floats, near: Longs) -> Floats:
    """Average the rows of the first neighbours."""
    mean = np.empty_like(encoding)
    for i, row in enumerate(near):
        mean[i] = encoding[row].mean(axis=0)
    return mean


def jaccard(encoding: Floats) -> Floats:
    """Fill the dense matrix of distances 1 - s / (2 - s)."""
    n = len(encoding)
    holders = [np.flatnonzero(encoding[:, column]) for column in range(n)]
    distance = np.empty((n, n), np.float32)
    for i in range(n):
        shared = np.zeros(n, np.float32)
        for column in np.flatnonzero(encoding[i]):
            rows = holders[column]
            shared[rows] += np.minimum(encoding[i, column], encoding[rows, column])
        distance[i] = 1 - shared / (2 - shared)
    return np.maximum(distance, 0, out=distance)
