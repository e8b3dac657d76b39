"""Infomap on a list of links; runs as a program too, in a process that has loaded nothing else.

infomap and faiss are both wrapped by SWIG, whose iterator type the library loaded last takes over for all: infomap's
result, read after faiss was loaded, crashes the process. Where faiss is loaded, Infomap therefore runs in a child.
"""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def modules(
    source: IntArray, target: IntArray, weight: npt.NDArray[np.floating], directed: bool, seed: int
) -> tuple[IntArray, IntArray]:
    """Return the linked nodes and their two-level modules; from a child process where faiss is loaded.

    Parameters
    ----------
    source, target : int arrays (links,)
    weight : float array (links,)

    Raises
    ------
    ImportError
        If infomap is not installed.
    """
    if "faiss" not in sys.modules:
        return modules_here(source, target, weight, directed, seed)
    import infomap  # noqa: F401 - a missing one is told here, not in the child

    given, told = io.BytesIO(), subprocess.PIPE
    np.savez(given, source=source, target=target, weight=weight, directed=directed, seed=seed)
    done = subprocess.run([sys.executable, __file__], input=given.getvalue(), stdout=told, check=True)
    node, module = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    return node, module


def modules_here(
    source: IntArray, target: IntArray, weight: npt.NDArray[np.floating], directed: bool, seed: int
) -> tuple[IntArray, IntArray]:
    """Run Infomap in this process."""
    from infomap import Infomap

    if not len(source):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    network = Infomap(two_level=True, directed=directed, silent=True, seed=seed)
    network.add_links(zip(source.tolist(), target.tolist(), weight.tolist(), strict=True))
    found = network.run().modules()
    return np.array(list(found), dtype=np.int64), np.array(list(found.values()), dtype=np.int64)


if __name__ == "__main__":
    links = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    answer = modules_here(
        links["source"], links["target"], links["weight"], bool(links["directed"]), int(links["seed"])
    )
    np.save(sys.stdout.buffer, np.stack(answer))
