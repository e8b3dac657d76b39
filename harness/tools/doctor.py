"""``reidbench doctor``: what would stop or spoil a run on this machine, and how to fix it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path

import torch
from rich.console import RenderableType

from harness.inputs.cache import size_mib
from harness.runs.environment import PACKAGES, cpu_model, cuda_state, package_versions
from harness.tools.grid import text_grid
from harness.training.kernels import compile_kernels

OPTIONAL = ("reidbench", "faiss-cpu", "faiss-gpu")
"""Not needed: code may run from a checkout, and faiss is one of two back ends."""
FREE_GIB = 5


@dataclass(frozen=True)
class Check:
    """One finding of the doctor; `fix` is empty if all is well."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def doctor(out: Path, images: Path) -> list[Check]:
    """Look for what would stop or spoil a run.

    Parameters
    ----------
    out : Path
        Folder of all runs; need not exist.
    images : Path
        Folder of decoded images; need not exist.
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
        check_images(images),
        check_data(data),
    ]


def check_packages(versions: dict[str, str]) -> Check:
    """Check that every needed package is installed, and name versions."""
    missing = [name for name in PACKAGES if name not in versions and name not in OPTIONAL]
    detail = ", ".join(f"{name} {number}" for name, number in versions.items())
    fix = f"install {', '.join(missing)}: pip install -c constraints.txt -e '.[dev]'" if missing else ""
    return Check("versions", not missing, f"Python {platform.python_version()}, {detail}", fix)


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
    names = installed_faiss() if installed is None else list(installed)
    if len(names) > 1:
        fix = f"pip uninstall {' '.join(names)}, then install one of them again"
        return Check("faiss", False, f"{' and '.join(names)} overwrite each other's files", fix)
    if not names:
        return Check("faiss", True, "not installed; neighbours are searched by torch")
    if importlib.util.find_spec("faiss") is None:
        return Check(
            "faiss", False, f"{names[0]} is installed, but cannot be found", f"install {names[0]} again"
        )
    return Check("faiss", True, f"{names[0]} {version(names[0])}")


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above `path` (or itself) that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def check_disk(out: Path) -> Check:
    """Check the free space where runs are written."""
    where = existing_parent(out)
    free = shutil.disk_usage(where).free / 2**30
    fix = "" if free >= FREE_GIB else f"free {FREE_GIB} GiB, or choose another folder with --out"
    return Check("disk", not fix, f"{free:.1f} GiB free at {where}", fix)


def check_writable(out: Path) -> Check:
    """Check that a file can be made where runs are written."""
    where = existing_parent(out)
    try:
        with tempfile.TemporaryFile(dir=where):
            return Check("output", True, f"{where} is writable")
    except OSError as error:
        return Check("output", False, f"{where}: {error.strerror}", "choose a writable folder with --out")


def check_images(folder: Path) -> Check:
    """Say how large the decoded images are that runs share; there is nothing wrong with any size."""
    if not folder.is_dir():
        return Check("images", True, f"none decoded yet; runs share them in {folder}")
    return Check(
        "images", True, f"{size_mib(folder):.0f} MiB decoded in {folder}; may be deleted at any time"
    )


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


def doctor_page(checks: Sequence[Check], title: str = "reidbench doctor") -> tuple[RenderableType, bool]:
    """Return findings as a page, and whether all is well."""
    rows = [(check.name, "ok" if check.ok else "WRONG", check.detail, check.fix) for check in checks]
    return text_grid(title, ("check", "", "found", "what to do"), rows), all(c.ok for c in checks)
