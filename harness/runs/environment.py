"""The environment of a run: what its manifest records, and what `reidbench doctor` finds wrong."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

PACKAGES = (
    "reidbench",
    "torch",
    "torchvision",
    "lightning-fabric",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "numba",
    "pillow",
    "faiss-cpu",
    "faiss-gpu",
)
OPTIONAL = ("reidbench", "faiss-cpu", "faiss-gpu")
"""Not needed: code may run from a checkout, and faiss is one of two back ends."""
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES")
"""Variables that change numbers or speed; nothing else of the user's environment is recorded."""
CODE = Path(__file__).parents[2]
FREE_GIB = 5


@dataclass(frozen=True)
class Check:
    """One finding of the doctor; `cure` is empty if all is well."""

    name: str
    ok: bool
    detail: str
    cure: str = ""


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """Return the CPU's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def git(*arguments: str) -> str | None:
    """Return the output of git in the code's folder; None if it is not a checkout or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(CODE), *arguments], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_state() -> dict[str, Any]:
    """Return commit and whether tracked files differ from it; both None for an installed package."""
    if git("ls-files", "--error-unmatch", "harness/runs/environment.py") is None:
        return {"commit": None, "dirty": None}
    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def cuda_state() -> dict[str, Any]:
    """Return CUDA and cuDNN versions and the devices."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if devices else None,
        "gpus": [torch.cuda.get_device_name(i) for i in devices],
    }


def determinism() -> dict[str, Any]:
    """Return the switches that decide whether equal runs give equal bytes."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def manifest_environment() -> dict[str, Any]:
    """Return what a manifest records of machine, software and code; JSON values only, nothing private.

    Returns
    -------
    dict
        python, platform, cpu, cores, memory_gib, packages, cuda, cudnn, gpus, threads, variables,
        determinism, commit and dirty.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "packages": package_versions(),
        **cuda_state(),
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "determinism": determinism(),
        **code_state(),
    }


def doctor(out: Path) -> list[Check]:
    """Look for what would stop or spoil a run.

    Parameters
    ----------
    out : Path
        Folder of all runs; need not exist.
    """
    data = os.environ.get("REIDBENCH_DATA", "")
    return [
        check_packages(package_versions()),
        check_torchvision(),
        check_device(),
        check_faiss(),
        check_kernels(),
        check_disk(out),
        check_writable(out),
        check_data(data),
    ]


def check_packages(found: dict[str, str]) -> Check:
    """Check that every needed package is installed, and name versions."""
    missing = [name for name in PACKAGES if name not in found and name not in OPTIONAL]
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    cure = f"install {', '.join(missing)}: pip install -c constraints.txt -e '.[dev]'" if missing else ""
    return Check("versions", not missing, f"Python {platform.python_version()}, {detail}", cure)


def check_torchvision() -> Check:
    """Check that torchvision loads; a build for another torch fails here."""
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        return Check(
            "torchvision", False, str(error), "install the torchvision release that belongs to this torch"
        )
    return Check("torchvision", True, f"{torchvision.__version__} loads")


def check_device() -> Check:
    """Name the devices; a CUDA build without a device is worth a look, not an error."""
    state = cuda_state()
    if state["gpus"]:
        return Check(
            "devices", True, f"{', '.join(state['gpus'])}; CUDA {state['cuda']}, cuDNN {state['cudnn']}"
        )
    return Check("devices", True, f"CPU only: {cpu_model()}, {torch.get_num_threads()} threads")


def compile_kernels() -> float:
    """Compile the kernels of clustering and evaluation, or load compiled ones; return the seconds it took."""
    from methods.clustering import ModalityCamera, jaccard_clusters, nearest_neighbours
    from protocols.metrics import distances, evaluate

    start = time.perf_counter()
    # many rows in few directions: without bfloat16 units, the search goes by projections
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1024, 8, generator=generator) @ torch.randn(8, 128, generator=generator)
    rows = torch.nn.functional.normalize(rows)
    half, quarter = torch.arange(1024) // 512, torch.arange(1024) // 256
    jaccard_clusters(rows, k1=8, eps=0.6, min_samples=4, expansion=ModalityCamera(4, half, quarter))
    nearest_neighbours(rows, 8, backend="float32")  # what a search falls back on
    some, ids = rows[::16].numpy(), half[::16].numpy()
    with warnings.catch_warnings(action="ignore"):  # two people are a short gallery
        evaluate(
            distances(some, some),
            ids,
            ids,
            np.zeros((1, 64), dtype=bool),
            np.zeros(64, dtype=np.int64),
            False,
        )
    return time.perf_counter() - start


def check_kernels() -> Check:
    """Check that the kernels compile, and leave them compiled for the next command."""
    try:
        return Check("kernels", True, f"compiled kernels answer in {compile_kernels():.1f} s")
    except Exception as error:  # whatever a compiler raises
        return Check("kernels", False, f"{type(error).__name__}: {error}", "install numba and llvmlite again")


def installed_faiss() -> list[str]:
    """Return the installed distributions of faiss."""
    names = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in distributions()}
    return sorted(name for name in names if name == "faiss" or name.startswith(("faiss-cpu", "faiss-gpu")))


def check_faiss(installed: Iterable[str] | None = None) -> Check:
    """Check the optional neighbour back end: two distributions overwrite each other's files."""
    found = installed_faiss() if installed is None else list(installed)
    if len(found) > 1:
        cure = f"pip uninstall {' '.join(found)}, then install one of them again"
        return Check("faiss", False, f"{' and '.join(found)} overwrite each other's files", cure)
    if not found:
        return Check("faiss", True, "not installed; neighbours are searched by torch")
    if importlib.util.find_spec("faiss") is None:
        return Check(
            "faiss", False, f"{found[0]} is installed, but cannot be found", f"install {found[0]} again"
        )
    return Check("faiss", True, f"{found[0]} {version(found[0])}")


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above `path` (or itself) that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def check_disk(out: Path) -> Check:
    """Check the free space where runs are written."""
    where = existing_parent(out)
    free = shutil.disk_usage(where).free / 2**30
    cure = "" if free >= FREE_GIB else f"free {FREE_GIB} GiB, or choose another folder with --out"
    return Check("disk", not cure, f"{free:.1f} GiB free at {where}", cure)


def check_writable(out: Path) -> Check:
    """Check that a file can be made where runs are written."""
    where = existing_parent(out)
    try:
        with tempfile.TemporaryFile(dir=where):
            return Check("output", True, f"{where} is writable")
    except OSError as error:
        return Check("output", False, f"{where}: {error.strerror}", "choose a writable folder with --out")


def check_data(root: str) -> Check:
    """Check that ``REIDBENCH_DATA`` names a data set that is recognised."""
    if not root:
        return Check("data", True, "REIDBENCH_DATA is not set; give --data PATH or --data synthetic")
    if root == "synthetic":
        return Check("data", True, "REIDBENCH_DATA is 'synthetic': twins are made on demand")
    from harness.runs.data import recognise
    from protocols.base import DataError

    try:
        return Check("data", True, f"{root} holds {recognise(Path(root).expanduser()).name}")
    except (DataError, OSError) as error:
        return Check("data", False, str(error), "set REIDBENCH_DATA to the root of a data set")
