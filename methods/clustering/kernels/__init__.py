"""The loops of the clustering core: one interface (:class:`Kernels`) and two back ends with equal results.

``numba_kernels`` compiles loops for arrays in main memory; ``torch_kernels`` uses tensor operations of any device.
Everything else of the core is written once, on top of the interface.
"""

from __future__ import annotations

from torch import Tensor

from methods.clustering.kernels import torch_kernels
from methods.clustering.kernels.interface import Kernels, SearchResult

__all__ = ["Kernels", "SearchResult", "kernels_for"]


def kernels_for(features: Tensor) -> Kernels:
    """Return the back end for the device on which features (or what was made of them) lie."""
    if features.device.type != "cpu":
        return torch_kernels
    # numba takes its time, and a look at a method needs none
    from methods.clustering.kernels import numba_kernels

    return numba_kernels
