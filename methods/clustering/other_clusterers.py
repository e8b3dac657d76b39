"""Other ways to cluster: HDBSCAN, average linkage and Infomap on the Jaccard graph; Infomap on neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from methods.clustering.checks import check_min_samples
from methods.clustering.infomap_modules import modules
from methods.clustering.labels import NOISE
from methods.clustering.values import Neighbours, SparseDistances
from methods.errors import MethodError

LARGEST_COMPONENT = 16_384
"""Samples of one connected piece up to which average linkage is computed (2 GB of float64 distances)."""


def hdbscan(graph: SparseDistances, min_samples: int) -> Tensor:
    """Cluster by HDBSCAN (scikit-learn), `min_samples` being the smallest cluster too.

    Pairs that the graph does not hold count as distance 1, the largest there is, so a graph with a radius near 1
    loses nothing. A sample with fewer than `min_samples` in its row, itself counted, is noise: its distance 1 to
    all would otherwise put it wherever a tie falls.

    Returns
    -------
    int64 tensor (n,)
        Numbered by first member; -1 is noise.
    """
    check_min_samples(min_samples)
    smallest = max(2, min_samples)
    if len(graph) < smallest:
        return torch.full((len(graph),), NOISE, device=graph.indptr.device)
    from sklearn.cluster import HDBSCAN  # half as large as torch, and nothing else here needs it

    model = HDBSCAN(
        min_cluster_size=smallest,
        min_samples=min_samples,
        metric="precomputed",
        metric_params={"max_distance": 1.0},
        copy=False,
    )
    labels = model.fit(_completed(graph, min_samples)).labels_
    sparse_rows = graph.sizes.cpu().numpy() < min_samples
    return _numbered(np.where(sparse_rows, NOISE, labels), 1, graph.indptr.device)


def agglomerative(graph: SparseDistances, eps: float, min_samples: int) -> Tensor:
    """Cluster by average linkage (scikit-learn), merging while the mean distance is below `eps`.

    Only pieces that are connected at `eps` can hold a cluster, so linkage runs on each of them alone. Pairs that
    the graph does not hold count as distance 1: give it a radius near 1 for exact means. Clusters of fewer than
    `min_samples` are noise.

    Returns
    -------
    int64 tensor (n,)
        Numbered by first member; -1 is noise.

    Raises
    ------
    MethodError
        If a connected piece is too large for a dense matrix.
    """
    check_min_samples(min_samples)
    whole = sparse.csr_array(graph.matrix())
    pieces, piece = connected_components(_linked(graph.below(eps)), directed=False)
    members = np.split(np.argsort(piece, kind="stable"), np.cumsum(np.bincount(piece, minlength=pieces))[:-1])
    labels = np.empty(len(graph), np.int64)
    n_clusters = 0
    for piece_members in members:
        if len(piece_members) > LARGEST_COMPONENT:
            raise MethodError(
                f"{len(piece_members)} samples are connected at eps = {eps:g}, more than the {LARGEST_COMPONENT} that "
                "average linkage can take; choose a smaller eps, or dbscan"
            )
        labels[piece_members] = n_clusters + _linkage(whole, piece_members, eps)
        n_clusters = labels[piece_members].max() + 1
    return _numbered(labels, min_samples, graph.indptr.device)


def infomap(graph: SparseDistances, eps: float, min_samples: int, *, seed: int = 1) -> Tensor:
    """Cluster by two-level Infomap; pairs at or below `eps` are linked with weight 1 - distance.

    Parameters
    ----------
    min_samples : int
        Modules of fewer samples are noise.
    seed : int
        Of Infomap's own generator.

    Returns
    -------
    int64 tensor (n,)
        Numbered by first member; -1 is noise.

    Raises
    ------
    MethodError
        If the extra ``infomap`` is not installed.
    """
    check_min_samples(min_samples)
    upper = sparse.triu(graph.below(eps).matrix(), 1).tocoo()
    links = (*upper.coords, 1 - upper.data)
    return _numbered(_modules(len(graph), links, False, seed), min_samples, graph.indptr.device)


def neighbour_infomap(
    neighbours: Neighbours, *, min_similarity: float = 0.5, min_size: int = 5, seed: int = 1
) -> Tensor:
    """Cluster by two-level directed Infomap on the neighbour graph (the Infomap variant of cluster contrast).

    Parameters
    ----------
    neighbours : Neighbours
        Lists of 15, the sample itself included, are the published setting; itself is skipped. Links weigh their
        similarity.
    min_similarity : float
        Weaker links are left out.
    min_size : int
        Modules of fewer samples are noise.
    seed : int
        Of Infomap's own generator.

    Returns
    -------
    int64 tensor (n,)
        Numbered by first member; -1 is noise.

    Raises
    ------
    MethodError
        If the extra ``infomap`` is not installed.
    """
    n = len(neighbours.index)
    index, similarity = neighbours.index.cpu().numpy(), neighbours.similarity.cpu().numpy()
    source, place = np.nonzero(
        (similarity >= min_similarity) & (index >= 0) & (index != np.arange(n)[:, None])
    )
    links = (source, index[source, place], similarity[source, place])
    return _numbered(_modules(n, links, True, seed), min_size, neighbours.index.device)


def _modules(
    n: int, links: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], directed: bool, seed: int
) -> NDArray[np.int64]:
    """Return the module of every sample from (source, target, weight); an unlinked sample is alone."""
    try:
        node, module = modules(*links, directed, seed)
    except ImportError as error:
        raise MethodError("infomap is not installed; install reidbench with the extra infomap") from error
    labels = np.arange(n, dtype=np.int64) + n
    labels[node] = module
    return labels


def _linked(graph: SparseDistances) -> sparse.csr_array:
    """Return the graph with every distance as 1: SciPy's graph routines take a stored 0 for no link."""
    matrix = sparse.csr_array(graph.matrix())
    matrix.data = np.ones_like(matrix.data)
    return matrix


def _completed(graph: SparseDistances, min_samples: int) -> sparse.csr_array:
    """Return distances, above 0, with the pairs of distance 1 that HDBSCAN needs to see.

    It asks for one connected piece and for `min_samples` entries in every row, the sample itself counted.
    """
    matrix = sparse.csr_array(graph.matrix().astype(np.float64))
    matrix.data = np.maximum(matrix.data, np.finfo(np.float32).tiny)
    pattern = _linked(graph)
    first = np.unique(connected_components(pattern, directed=False)[1], return_index=True)[1]
    short = np.flatnonzero(np.diff(matrix.indptr) < min_samples)
    following = (short[:, None] + np.arange(1, min_samples)) % len(graph)
    source = np.concatenate([first[:-1], np.repeat(short, min_samples - 1)])
    target = np.concatenate([first[1:], following.ravel()])
    far = sparse.coo_array((np.ones(len(source)), (source, target)), shape=matrix.shape).tocsr()
    far = sparse.csr_array(far + far.T)
    far.data[:] = 1
    absent = sparse.csr_array(far - far.multiply(pattern))
    absent.eliminate_zeros()
    whole = sparse.csr_array(matrix + absent)
    if whole.nnz <= np.iinfo(np.int32).max:  # scikit-learn takes no others, and not every SciPy narrows them
        whole.indices, whole.indptr = whole.indices.astype(np.int32), whole.indptr.astype(np.int32)
    return whole


def _linkage(whole: sparse.csr_array, members: NDArray[np.int64], eps: float) -> NDArray[np.int64]:
    """Return the clusters (from 0) of some samples by average linkage."""
    if len(members) == 1:
        return np.zeros(1, np.int64)
    part = sparse.coo_array(whole[members][:, members])
    distance = np.ones(part.shape)
    distance[part.coords] = part.data
    from sklearn.cluster import AgglomerativeClustering  # as above

    model = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=eps
    )
    return np.asarray(model.fit(distance).labels_, np.int64)


def _numbered(labels: NDArray[np.int64], min_size: int, device: torch.device) -> Tensor:
    """Drop clusters of fewer than `min_size` members, and number the rest by their first member."""
    values, first, inverse, size = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    kept = (values != NOISE) & (size >= min_size)
    number = np.full(len(values), NOISE, np.int64)
    number[np.argsort(np.where(kept, first, len(labels)), kind="stable")[: kept.sum()]] = np.arange(
        kept.sum()
    )
    return torch.from_numpy(number[inverse]).to(device)
