"""Compiled kernel of the density clustering."""

from __future__ import annotations

import numpy as np
from numba import njit

from methods.clustering.kernels.numba_arrays import Bools, Ints, Longs


@njit(cache=True, nogil=True)
def density_labels(indptr: Longs, indices: Ints, core: Bools) -> Longs:
    """Number the components of core points by their first member; border points join the lowest number."""
    n = len(core)
    label = np.full(n, -1, np.int64)
    stack = np.empty(n, np.int64)
    n_clusters = 0
    for seed in range(n):
        if label[seed] >= 0 or not core[seed]:
            continue
        label[seed] = n_clusters
        stack[0] = seed
        height = 1
        while height:
            height -= 1
            i = stack[height]
            for t in range(indptr[i], indptr[i + 1]):
                j = indices[t]
                if label[j] < 0:
                    label[j] = n_clusters
                    # a border point gets a label and passes it to nobody
                    if core[j]:
                        stack[height] = j
                        height += 1
        n_clusters += 1
    return label
