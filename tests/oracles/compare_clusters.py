"""Clusters of PCA, MPJL and DMIC beside those of the public functions, and rows at the start of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from methods.clustering import (
    MIE,
    Capped,
    Expansion,
    MeanExpansion,
    ModalityMean,
    jaccard_clusters,
    jaccard_graph,
)
from methods.clustering.pipeline import LARGEST_RADIUS, density_clusters
from methods.parts.memories import compute_centroids, random_members
from tests.methods.clustering.cases import dense
from tests.oracles.cases import Arrays, Comparison, Differences, Kind, cases_of, load
from tests.oracles.trajectories import SPACES, tensor, under

MIN_SAMPLES = 4


def expansion_of(kind: str, side: str, k1: int, k2: int, modality: Tensor, camera: Tensor) -> Expansion:
    """Return an expansion by the name that recordings give it; ``capped`` looks further over both modalities."""
    pool = k1 if side == "joint" else min(2 * k2, k1)
    return {
        "plain": lambda: MeanExpansion(k2),
        "modality_mean": lambda: ModalityMean(k2, modality),
        "mie": lambda: MIE(k2, modality, camera),
        "capped": lambda: Capped(pool, k2, modality, camera),
    }[kind]()


def clusters(arrays: Arrays) -> dict[str, float]:
    """Jaccard distances of every pair, and labels at several eps."""
    seen = Differences()
    for key in cases_of(arrays, ".distance"):
        case, kind, side, k1, k2 = key.split(".")
        modality, camera = (tensor(arrays[f"{case}.{name}"], torch.int64) for name in ("modality", "camera"))
        chosen = torch.ones_like(modality, dtype=torch.bool)
        if side != "joint":
            chosen = modality == SPACES.index(side)
        features = tensor(arrays[f"{case}.features"])[chosen]
        expansion = expansion_of(kind, side, int(k1), int(k2), modality[chosen], camera[chosen])
        unit = bool((features.norm(dim=1) > 1 - 1e-4).all())
        graph, _ = jaccard_graph(features, k1=int(k1), radius=LARGEST_RADIUS, expansion=expansion, unit=unit)
        lower = dense(graph)[np.tril_indices(len(features))]
        seen.close("distances", lower, arrays[f"{key}.distance"], 1e-5, where=key)
        for eps, labels in zip(arrays["eps"], arrays.get(f"{key}.labels", []), strict=False):
            seen.equal("labels", density_clusters(graph, float(eps), MIN_SAMPLES), labels, f"{key} eps {eps}")
    return seen.largest


def memory_starts(arrays: Arrays) -> dict[str, float]:
    """Means, modality-balanced means, and random members: real ones, drawn evenly."""
    seen = Differences()
    for case in cases_of(arrays, ".features"):
        recorded = under(arrays, f"{case}.")
        features, labels = tensor(recorded["features"]), tensor(recorded["labels"], torch.int64)
        modality = (torch.arange(len(features)) >= int(recorded["n_visible"])).long()
        seen.close("means", compute_centroids(features, labels), recorded["means"], 1e-6, where=case)
        balanced = compute_centroids(features, labels, modality)
        seen.close("balanced means", balanced, recorded["balanced"], 1e-6, where=case)
        draws = [random_members(features, labels, torch.Generator().manual_seed(seed)) for seed in range(400)]
        who = torch.einsum("tcd,nd->tcn", torch.stack(draws), features).argmax(2)
        counts = torch.stack([column.bincount(minlength=len(features)) for column in who.T])
        member = labels[None] == torch.arange(len(counts))[:, None]
        assert not bool((counts * ~member).any()), f"{case}: a drawn row is of no member"
        often = tensor(recorded["random_counts"]) > 8
        assert bool((counts[often] > 0).all()), f"{case}: a member is never drawn"
        share = counts.max(1).values / counts.sum(1) * member.sum(1)
        assert float(share.max()) < 4, f"{case}: a member is drawn {float(share.max()):.1f} times too often"
    return seen.largest


def core(path: Path) -> dict[str, float]:
    """The clustering core: distances of every pair, and labels, by every expansion that a file recorded."""
    arrays, seen = load(path), Differences()
    k1, least = int(arrays["k1"]), int(arrays["min_samples"])
    modality, camera = (tensor(arrays[name], torch.int64) for name in ("modality", "camera"))
    for key in (key for key in arrays if key.split("_")[0] in ("labels", "jaccard")):
        what, _, tag = key.partition("_")
        kind, side = side_of(tag)
        chosen = torch.ones_like(modality, dtype=torch.bool)
        if side != "joint":
            chosen = modality == SPACES.index(side)
        k2 = int(arrays[{"plain": "k2", "capped": "cap", "mie_wide": "k2_mie_wide"}.get(kind, "k2_mie")])
        expansion = expansion_of(kind.removesuffix("_wide"), side, k1, k2, modality[chosen], camera[chosen])
        features = tensor(arrays["features"])[chosen]
        if what == "labels":
            found = jaccard_clusters(
                features, k1=k1, eps=float(arrays["eps"]), min_samples=least, expansion=expansion
            )
            seen.equal("labels", found.labels, arrays[key], key)
            continue
        distance = dense(jaccard_graph(features, k1=k1, radius=LARGEST_RADIUS, expansion=expansion)[0])
        seen.equal("distances both ways", distance, distance.T, key)
        # shipped files keep the upper triangle alone
        upper = distance if arrays[key].ndim == 2 else distance[np.triu_indices(len(distance))]
        seen.close("distances", upper, arrays[key], 1e-5, where=key)
    return seen.largest


def side_of(tag: str) -> tuple[str, str]:
    """Split the end of a key, as ``mie_wide_visible``, into an expansion and a space; nothing is plain, joint."""
    kind, _, side = tag.rpartition("_")
    if tag in ("visible", "infrared") or side in ("visible", "infrared"):
        return kind or "plain", side
    return tag or "plain", "joint"


COMPARISONS: dict[str, Comparison] = {r"(pca|mpjl|dmic)_clusters": clusters, "dmic_memory": memory_starts}
FILES = (Kind(".npz", ("features", "modality", "camera", "k1", "k2", "eps", "min_samples", "labels"), core),)
