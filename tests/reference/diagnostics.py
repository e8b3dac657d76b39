"""Quality of pseudo-labels from the definitions, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb


def same(labels: Sequence[int], i: int, j: int) -> bool:
    """Noise is with nobody, not even with noise."""
    return labels[i] >= 0 and labels[i] == labels[j]


def pair_scores(labels: Sequence[int], identity: Sequence[int]) -> tuple[float, float, float]:
    """Precision, recall and F1 of "these two show one person"."""
    pairs = list(combinations(range(len(labels)), 2))
    said = {p for p in pairs if same(labels, *p)}
    true = {p for p in pairs if identity[p[0]] == identity[p[1]]}
    precision = len(said & true) / len(said) if said else 1.0
    recall = len(said & true) / len(true) if true else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return precision, recall, f1


def adjusted_rand(labels: Sequence[int], identity: Sequence[int]) -> float:
    """Hubert and Arabie's index: agreement of pairs, corrected for chance."""
    pairs = list(combinations(range(len(labels)), 2))
    said = sum(same(labels, *p) for p in pairs)
    true = sum(identity[i] == identity[j] for i, j in pairs)
    both = sum(same(labels, i, j) and identity[i] == identity[j] for i, j in pairs)
    total = comb(len(labels), 2)
    expected = said * true / total if total else 0.0
    largest = (said + true) / 2
    return 1.0 if largest == expected else (both - expected) / (largest - expected)


def fragmentation(labels: Sequence[int], groups: Sequence[tuple[int, ...]]) -> float:
    """Mean number of clusters of a group, over the groups that have a clustered sample."""
    found: dict[tuple[int, ...], set[int]] = {}
    for label, group in zip(labels, groups, strict=True):
        if label >= 0:
            found.setdefault(group, set()).add(label)
    return sum(len(s) for s in found.values()) / len(found) if found else 0.0


def purity(labels: Sequence[int], identity: Sequence[int]) -> float:
    """Share of clustered samples that show their cluster's most frequent person."""
    people: dict[int, list[int]] = {}
    for label, person in zip(labels, identity, strict=True):
        if label >= 0:
            people.setdefault(label, []).append(person)
    most = sum(max(map(members.count, members)) for members in people.values())
    return most / sum(map(len, people.values())) if people else float("nan")


def purity_across(labels: Sequence[int], identity: Sequence[int], modality: Sequence[int]) -> float:
    """Share of the pairs of a visible and an infrared sample of one cluster that show one person."""
    pairs = [
        (i, j)
        for i, j in combinations(range(len(labels)), 2)
        if modality[i] != modality[j] and same(labels, i, j)
    ]
    return sum(identity[i] == identity[j] for i, j in pairs) / len(pairs) if pairs else float("nan")
