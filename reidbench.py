"""The public face: what one wants of reidbench in a notebook, under one name, and the start of the command.

Nothing is computed here. Each name is imported from its package when it is first used, so that importing this module,
or loading runs with it, imports no torch. The packages' own ``__all__`` have everything else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
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


PACKAGES = ("harness", "methods", "protocols", "results")
"""Ours, by names that others may have too."""


def shadowed() -> str:
    """Say which of our packages another one of its name hides, and where that is; empty if none is hidden."""
    here = Path(__file__).resolve().parent
    for name in PACKAGES:
        spec = find_spec(name)
        places = [Path(one).resolve() for one in (spec.submodule_search_locations or ())] if spec else []
        if places != [here / name]:
            found = spec.origin if spec and spec.origin else ", ".join(map(str, places)) or "nowhere"
            return (
                f"the package {name!r} is found at {found}, before reidbench's own at {here / name}; rename that one, "
                "start in another folder, or take its folder off PYTHONPATH"
            )
    return ""


def main() -> None:
    """Run the command ``reidbench``."""
    if said := shadowed():
        sys.stderr.write(f"error: {said}\n")
        raise SystemExit(2)
    import_module("harness.cli.app").main()


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module 'reidbench' has no attribute {name!r}; it has {', '.join(__all__)}")
    if said := shadowed():
        raise ImportError(said)
    return getattr(import_module(HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
