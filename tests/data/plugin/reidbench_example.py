"""A method in a package of its own: cluster contrast with a tighter radius."""

from __future__ import annotations

from methods.base import Reference, value
from methods.cluster_contrast import ClusterContrast, ClusterContrastConfig


class TightContrastConfig(ClusterContrastConfig):
    """Cluster contrast's values, with a smaller radius."""

    eps: float = value(0.4, "reconstructed", "DBSCAN radius on the Jaccard distance", gt=0, le=1)


class TightContrast(ClusterContrast):
    """Cluster contrast with a tighter radius."""

    name = "tight-contrast"
    summary = "cluster contrast with a tighter radius (an example plug-in)"
    Config = TightContrastConfig
    reference = Reference("An example", "", 2026, parts={"radius": ("reconstructed", "an example")})
