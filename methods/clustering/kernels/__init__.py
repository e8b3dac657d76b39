"""The loops of the clustering core, by numba and by torch."""
