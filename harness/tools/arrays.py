"""What ``reidbench cluster`` and ``reidbench score`` do to files, done to arrays: two functions for notebooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.registry import load_protocols
from harness.runs.configuration import validated
from harness.tools.cluster import ClusterConfig, Samples, distances, labels_from
from protocols.base import metric_values

Array = npt.NDArray[Any]


def cluster(
    features: Array | Tensor, *, modality: Array | None = None, camera: Array | None = None, **settings: Any
) -> npt.NDArray[np.int64]:
    """Cluster features by Jaccard distances of their neighbours.

    Parameters
    ----------
    features : float array or tensor (n, d)
        Unit rows; a tensor is clustered on the device where it lies.
    modality, camera : int arrays (n,), optional
        For the expansions that need them; modality 0 is visible, 1 infrared.
    **settings
        Keys of :class:`harness.tools.cluster.ClusterConfig`: ``expansion``, ``clusterer``, ``k1``, ``k2``, ``eps``,
        ``min_samples`` ...

    Returns
    -------
    int64 array (n,)
        Labels from 0; -1 is noise.

    Raises
    ------
    HarnessError
        Unknown or impossible setting, or an array that the expansion needs and that is not given.
    MethodError
        Features that are NaN or not of unit length, or k1 > n.

    Examples
    --------
    >>> labels = cluster(features, camera=camera, expansion="camera-aware", eps=0.6)  # doctest: +SKIP
    """
    config = validated(ClusterConfig, settings, "reidbench cluster --help")
    matrix = torch.as_tensor(features, dtype=torch.float32).contiguous()
    given = {"modality": modality, "camera": camera}
    groups = {
        name: torch.as_tensor(values, dtype=torch.int64, device=matrix.device)
        for name, values in given.items()
        if values is not None
    }
    for name, group in groups.items():
        if group.shape != (len(matrix),):
            raise HarnessError(f"{name} has shape {tuple(group.shape)}, features {tuple(matrix.shape)}")
    samples = Samples(matrix, groups, identity=None)
    if absent := samples.missing(config.expansion):
        raise HarnessError(f"expansion={config.expansion} needs {' and '.join(absent)}")
    graph, _ = distances(samples, config, config.radius)
    labels: npt.NDArray[np.int64] = labels_from(graph, config).cpu().numpy().astype(np.int64)
    return labels


def score(
    distance: Array | Tensor,
    protocol: str,
    *,
    query_ids: Array,
    gallery_ids: Array,
    query_cams: Array | None = None,
    gallery_cams: Array | None = None,
) -> dict[str, float]:
    """Score a distance matrix by a protocol's rules.

    Parameters
    ----------
    distance : float array or tensor (q, g)
        Smaller is nearer; a tensor is ranked on the device where it lies.
    protocol : str
        Its id, for example ``regdb`` or ``sysu-all``.
    query_ids, gallery_ids : int arrays (q,), (g,)
    query_cams, gallery_cams : int arrays (q,), (g,), optional
        The data set's camera numbers; RegDB's rules need none.

    Returns
    -------
    dict of str to float
        rank-1, rank-5, rank-10, rank-20, mAP and mINP, in percent.

    Raises
    ------
    HarnessError
        If there is no such protocol, or the name stands for several.
    DataError
        If shapes disagree, a distance is NaN, no query has a match, or cameras are not the protocol's.
    """
    chosen = load_protocols(protocol)
    if len(chosen) != 1:
        raise HarnessError(f"{protocol} stands for several; name one of {', '.join(p.id for p in chosen)}")
    query, gallery = (np.asarray(ids, dtype=np.int64) for ids in (query_ids, gallery_ids))
    cams = [
        np.zeros_like(ids) if given is None else np.asarray(given, dtype=np.int64)
        for ids, given in ((query, query_cams), (gallery, gallery_cams))
    ]
    return metric_values(chosen[0].score(distance, query, gallery, *cams))
