"""The environment of a run: machine, software and code, as its manifest records them."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES")
"""Variables that change numbers or speed; nothing else of the user's environment is recorded."""
CODE = Path(__file__).parents[2]


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on; absent ones are left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def cpu_model() -> str:
    """Return the CPU's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def git(*arguments: str) -> str | None:
    """Return the output of git in the code's folder; None if it is not a checkout or there is no git.

    The checkout may be of another owner, whose code runs here anyway; its hooks do not.
    """
    settings = [f"safe.directory={CODE}", "core.fsmonitor=false", f"core.hooksPath={os.devnull}"]
    words = ["git", *(word for setting in settings for word in ("-c", setting)), "-C", str(CODE), *arguments]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=30, check=False
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
        "packages": dict(package_versions()),  # a copy of what is kept
        **cuda_state(),
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "determinism": determinism(),
        **code_state(),
    }
