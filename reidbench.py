"""The public face: what one wants of reidbench in a notebook, under one name.

Nothing is defined here. Each name is imported from its package when it is first used, so that importing this module,
or loading runs with it, imports no torch. The packages' own ``__all__`` have everything else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.tools.arrays import cluster, score
    from methods.base import Method
    from methods.clustering import nearest_neighbours
    from protocols import Dataset, Protocol
    from results import compare, comparison, load, load_histories, load_runs, to_markdown

__all__ = [
    "Dataset",
    "Method",
    "Protocol",
    "cluster",
    "compare",
    "comparison",
    "load",
    "load_histories",
    "load_runs",
    "nearest_neighbours",
    "score",
    "to_markdown",
]

HOME = {
    "Dataset": "protocols",
    "Method": "methods.base",
    "Protocol": "protocols",
    "cluster": "harness.tools.arrays",
    "compare": "results",
    "comparison": "results",
    "load": "results",
    "load_histories": "results",
    "load_runs": "results",
    "nearest_neighbours": "methods.clustering",
    "score": "harness.tools.arrays",
    "to_markdown": "results",
}
"""Where each name comes from."""


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module 'reidbench' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
