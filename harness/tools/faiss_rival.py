"""faiss as a rival in timings: its exact search in a process of its own, by the BLAS kernel that is fastest here.

The wheel faiss-cpu brings an OpenBLAS of its own, which chooses its kernels by the processor. One that it does not know
gets kernels of twenty years ago, six times slower than need be. The variable OPENBLAS_CORETYPE tells it better; it is
set in the rival's process alone, and the rival's neighbours are compared with ours. Run as a module, this is that
process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

VARIABLE = "OPENBLAS_CORETYPE"
KERNELS = {"avx512f": ("SkylakeX", "Cooperlake"), "avx2": ("Haswell", "Zen")}
"""By what a processor can do: kernels that it may be told."""
TRIED = 2000
"""Rows on which kernels are tried."""


@dataclass(frozen=True)
class Search:
    """What the rival did.

    Attributes
    ----------
    rows : int64 array (n, k)
        Its neighbours.
    wall_s : tuple of float
        Of every repetition.
    peak_mib : float
        Largest memory above that with the features loaded.
    kernel : str
        Name of the BLAS kernel that it ran; ``unknown`` where the library does not say.
    """

    rows: npt.NDArray[np.int64]
    wall_s: tuple[float, ...]
    peak_mib: float
    kernel: str


def best_kernel(features: npt.NDArray[np.float32], k: int) -> str:
    """Return what to set the variable to, by trying; empty for the library's own choice, and for few rows."""
    if len(features) < 2 * TRIED:
        return ""
    few = features[:TRIED]
    times = {name: min(search(few, k, 2, name).wall_s) for name in ("", *candidates())}
    return min(times, key=lambda name: times[name])


def candidates() -> Sequence[str]:
    """Name the kernels that this processor could run."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ()
    return next((names for flag, names in KERNELS.items() if f" {flag}" in flags), ())


def search(features: npt.NDArray[np.float32], k: int, repeat: int, kernel: str) -> Search:
    """Let the rival search in a child process.

    Raises
    ------
    RuntimeError
        If the child fails, as where faiss is not installed; with its last line.
    """
    environment = os.environ | ({VARIABLE: kernel} if kernel else {})
    with tempfile.TemporaryDirectory(prefix="reidbench-faiss-") as folder:
        np.save(Path(folder) / "features.npy", features)
        done = subprocess.run(
            [sys.executable, "-m", "harness.tools.faiss_rival", folder, str(k), str(repeat)],
            env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
        said = json.loads(done.stdout)
        rows = np.load(Path(folder) / "rows.npy", allow_pickle=False)
    return Search(rows, tuple(said["wall_s"]), said["peak_mib"], said["kernel"])


def main(folder: str, k: str, repeat: str) -> None:
    """Search, and print what was measured: the child's side."""
    import faiss
    import psutil

    features = np.load(Path(folder) / "features.npy", allow_pickle=False)
    process, before = psutil.Process(), psutil.Process().memory_info().rss
    walls = []
    for _ in range(int(repeat)):
        start = time.perf_counter()
        index = faiss.IndexFlatIP(features.shape[1])
        index.add(features)
        _, rows = index.search(features, int(k))
        walls.append(time.perf_counter() - start)
    peak = (process.memory_info().rss - before) / 2**20
    np.save(Path(folder) / "rows.npy", rows)
    sys.stdout.write(json.dumps({"wall_s": walls, "peak_mib": max(peak, 0.0), "kernel": kernel_of_blas()}))


def kernel_of_blas() -> str:
    """Name the kernel of the OpenBLAS that faiss has loaded."""
    from threadpoolctl import threadpool_info

    found = [one for one in threadpool_info() if one.get("internal_api") == "openblas"]
    own = [one for one in found if "faiss" in one.get("filepath", "")] or found
    return str(own[0].get("architecture", "unknown")) if own else "unknown"


if __name__ == "__main__":
    main(*sys.argv[1:])
