"""How good pseudo-labels are, against identities that no method sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from methods.clustering.labels import OUTSIDE
from methods.values import MODALITIES
from protocols.base import LabelledImages

IntArray = npt.NDArray[np.int64]


class Contingency(NamedTuple):
    """How often an identity and a label meet: the cells where they do, in the order of both, and all sums.

    Attributes
    ----------
    cells, identity, label : int64 arrays (m,)
        Samples of a cell, and the places of its identity and its label.
    by_identity, by_label : int64 arrays
        Samples of each identity, and of each label.
    """

    cells: IntArray
    identity: IntArray
    label: IntArray
    by_identity: IntArray
    by_label: IntArray


def singletons(labels: IntArray) -> IntArray:
    """Give every noise sample (label < 0) a label of its own."""
    noise = labels < 0
    numbered = labels.copy()
    numbered[noise] = labels.max(initial=-1) + 1 + np.arange(noise.sum())
    return numbered


def pairs(counts: npt.NDArray[np.int64]) -> float:
    """Return the number of pairs within groups of these sizes."""
    return float((counts.astype(np.float64) * (counts - 1) / 2).sum())


def contingency(labels: IntArray, identity: IntArray) -> Contingency:
    """Count the cells of identities and labels."""
    people, by_identity = np.unique(identity, return_inverse=True, return_counts=True)[1:]
    names, by_label = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    cell, cells = np.unique(people * len(by_label) + names, return_counts=True)
    return Contingency(cells, *np.divmod(cell, max(len(by_label), 1)), by_identity, by_label)


def adjusted_rand_index(counts: Contingency) -> float:
    """Return the Rand index, adjusted for chance (Hubert and Arabie 1985).

    It is scikit-learn's to the last bit, as :func:`normalised_mutual_information` is but for the order of a sum,
    without the second that the import takes.
    """
    n = int(counts.cells.sum())
    both, people, labels = (
        int((one**2).sum()) for one in (counts.cells, counts.by_identity, counts.by_label)
    )
    # ordered pairs of two samples: together in both, by identity alone, by label alone, in neither
    same, identity_only, label_only = both - n, people - both, labels - both
    neither = n * n - both - identity_only - label_only
    if not (identity_only or label_only):
        return 1.0
    chance = (same + identity_only) * (identity_only + neither) + (same + label_only) * (label_only + neither)
    return 2.0 * (same * neither - identity_only * label_only) / chance


def normalised_mutual_information(counts: Contingency) -> float:
    """Return the mutual information in units of the mean of both entropies."""
    n, groups = float(counts.cells.sum()), (counts.by_identity, counts.by_label)
    if min(map(len, groups)) < 2:  # one of them says nothing; equal they are only if both do
        return float(max(map(len, groups)) < 2)
    share = counts.cells / n
    expected = counts.by_identity[counts.identity] * counts.by_label[counts.label]
    # in the order that rounds as scikit-learn's does
    by_chance = math.log(n) - np.log(expected) + math.log(n)
    terms = share * (np.log(counts.cells) - math.log(n)) + share * by_chance
    terms[np.abs(terms) < np.finfo(np.float64).eps] = 0
    shared = max(float(terms.sum()), 0.0)
    return shared / float(np.mean([entropy(sizes) for sizes in groups])) if shared else 0.0


def entropy(sizes: IntArray) -> float:
    """Return the entropy of groups of these sizes, in nats."""
    n = float(sizes.sum())
    return float(-np.sum(sizes / n * (np.log(sizes) - math.log(n))))


def fragmentation(labels: IntArray, group: IntArray) -> float:
    """Return the mean number of clusters that a group's clustered samples lie in."""
    kept = labels >= 0
    if not kept.any():
        return 0.0
    cells = np.unique(np.stack([group[kept], labels[kept]]), axis=1)
    return float(cells.shape[1] / len(np.unique(cells[0])))


def purity(labels: IntArray, identity: IntArray) -> float:
    """Return the share of clustered samples that show the most frequent identity of their cluster; NaN of none."""
    kept = labels >= 0
    if not kept.any():
        return float("nan")
    cells, counts = np.unique(np.stack([labels[kept], identity[kept]]), axis=1, return_counts=True)
    _, first = np.unique(cells[0], return_index=True)
    return float(np.maximum.reduceat(counts, first).sum() / kept.sum())


def purity_across(labels: IntArray, identity: IntArray, modality: IntArray) -> float:
    """Return the share, among pairs of a visible and an infrared sample in one cluster, that show one identity.

    NaN without such pairs: no cluster holds both modalities.
    """
    sides = [(labels >= 0) & (modality == side) for side in MODALITIES.values()]
    together = common_pairs(*(labels[side] for side in sides))
    if not together:
        return float("nan")
    names = np.stack([labels, identity])
    cells = np.unique(names, axis=1, return_inverse=True)[1].reshape(-1)
    return common_pairs(*(cells[side] for side in sides)) / together


def common_pairs(one: IntArray, other: IntArray) -> float:
    """Return the number of pairs, one of each array, that are equal."""
    length = int(max(one.max(initial=-1), other.max(initial=-1))) + 1
    counts = [np.bincount(side, minlength=length).astype(np.float64) for side in (one, other)]
    return float((counts[0] * counts[1]).sum())


def purities(
    labels: IntArray, identity: IntArray, camera: IntArray | None, modality: IntArray | None
) -> dict[str, float]:
    """Return the purity of all clusters, of their part in each camera, and across modalities.

    A camera is a modality and a number where both are known: ``purity_visible_camera_1``.
    """
    found = {"purity": purity(labels, identity)}
    sides = {"": np.ones(len(labels), dtype=np.bool_)}
    if modality is not None:
        found["purity_across_modalities"] = purity_across(labels, identity, modality)
        sides = {f"{name}_": modality == side for name, side in MODALITIES.items()}
    if camera is None:
        return found
    for name, side in sides.items():
        for number in np.unique(camera[side]):
            part = side & (camera == number)
            found[f"purity_{name}camera_{number}"] = purity(labels[part], identity[part])
    return found


def cluster_quality(
    labels: IntArray, identity: IntArray, camera: IntArray | None = None, modality: IntArray | None = None
) -> dict[str, float]:
    """Compare pseudo-labels with identities. Noise samples count as clusters of one, so they cost recall.

    Parameters
    ----------
    labels : int64 array (n,), negative is noise
    identity : int64 array (n,)
    camera, modality : int64 arrays (n,), optional
        Add the fragmentation within a camera (within a modality): below the overall one, clusters break at them. And
        the purity within each camera, and across modalities.

    Returns
    -------
    dict
        clusters, noise, size_min, size_median, size_max, ari, nmi, pair_precision, pair_recall, pair_f1,
        fragmentation (mean number of clusters that an identity lies in), fragmentation_camera,
        fragmentation_modality; purity, purity_across_modalities, and one a camera, as
        purity_visible_camera_1 (NaN where nothing is clustered).
    """
    labels, identity = np.asarray(labels, np.int64), np.asarray(identity, np.int64)
    quality: dict[str, float] = {"clusters": 0.0, "noise": float((labels < 0).sum())}
    sizes = np.bincount(labels[labels >= 0])
    sizes = sizes[sizes > 0]
    quality["clusters"] = float(len(sizes))
    for name, function in (("min", np.min), ("median", np.median), ("max", np.max)):
        quality[f"size_{name}"] = float(function(sizes)) if len(sizes) else 0.0
    counts = contingency(singletons(labels), identity)
    quality["ari"], quality["nmi"] = adjusted_rand_index(counts), normalised_mutual_information(counts)
    together, same_label, same_identity = map(pairs, (counts.cells, counts.by_label, counts.by_identity))
    precision = together / same_label if same_label else 1.0
    recall = together / same_identity if same_identity else 1.0
    quality |= {"pair_precision": precision, "pair_recall": recall}
    quality["pair_f1"] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    quality["fragmentation"] = fragmentation(labels, identity)
    for name, part in (("camera", camera), ("modality", modality)):
        if part is not None:
            group = identity * (int(np.max(part, initial=0)) + 1) + np.asarray(part, np.int64)
            quality[f"fragmentation_{name}"] = fragmentation(labels, group)
    return quality | purities(labels, identity, camera, modality)


def label_quality(labels: Mapping[str, Tensor], training: LabelledImages) -> dict[str, float]:
    """Diagnose an epoch's pseudo-labels; columns of ``history.csv``, each ending in the name of its label space.

    Parameters
    ----------
    labels : mapping of str to int64 tensor (n,)
        Label space -> pseudo-labels of the training images; images outside the space are left out.
    """
    columns: dict[str, float] = {}
    for space, tensor in labels.items():
        values = tensor.cpu().numpy()
        inside = values != OUTSIDE
        quality = cluster_quality(
            values[inside],
            training.identity[inside],
            training.images.camera[inside],
            training.images.modality[inside],
        )
        columns |= {f"{name}_{space}": value for name, value in quality.items()}
    return columns
