"""Times the clustering core stage by stage, beside the public algorithm and faiss (``reidbench time``)."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from harness.errors import HarnessError
from harness.tools.calibration import Calibration, busy
from harness.tools.faiss_rival import VARIABLE, best_kernel, search
from harness.tools.reference_core import reference_clusters
from harness.tools.time_plan import FAISS, OURS, REFERENCE, Plan, parse_rivals, parse_sizes, sweep
from harness.training.kernels import compile_kernels
from harness.training.stage_times import StageTimers
from methods.clustering import MeanExpansion, jaccard_clusters, nearest_neighbours
from methods.timing import recording, timed
from results.figures import scaling, write_figure

__all__ = [
    "FAISS",
    "OURS",
    "REFERENCE",
    "Plan",
    "draw",
    "measure",
    "measure_all",
    "parse_rivals",
    "parse_sizes",
    "sweep",
    "with_ratios",
]
SEARCH, AFTER, WHOLE = "neighbours", "after search", "whole"
STAGES = (SEARCH, "reciprocal", "encode", "expand", "jaccard", "cluster")
MEASURES = ("wall_min_s", "wall_median_s", "peak_mib")
PER_IDENTITY = 20
"""Samples of a synthetic identity."""
LATENT = 64
"""Dimensions in which synthetic identities lie: features of a trained network fill few directions."""

Say = Callable[[str], None]


def measure_all(
    plans: Sequence[Plan], sizes: Sequence[int], rivals: Sequence[str], device: torch.device, say: Say
) -> pd.DataFrame:
    """Time every plan as :func:`measure` does; of several, the settings are columns too."""
    frames = []
    for plan in plans:
        frame = measure(plan, sizes, rivals, device, say)
        about = {"k1": plan.k1, "k2": plan.k2, "eps": plan.eps} if len(plans) > 1 else {}
        frames.append(frame.assign(**about)[[*about, *frame.columns]])
    return pd.concat(frames, ignore_index=True)


def synthetic_features(n: int, dim: int, seed: int) -> Tensor:
    """Make clustered unit rows: n / 20 identities in a space of 64 dimensions, and noise in all directions.

    Returns
    -------
    float32 tensor (n, dim)
    """
    rng = torch.Generator().manual_seed(seed)
    latent = min(dim, LATENT)
    centre = torch.randn(max(1, n // PER_IDENTITY), latent, generator=rng)
    identity = torch.randint(len(centre), (n,), generator=rng)
    place = centre[identity] + 0.8 * torch.randn(n, latent, generator=rng)
    features = place @ torch.randn(latent, dim, generator=rng)
    for rows in features.split(4096):
        rows += 0.25 * latent**0.5 * torch.randn(rows.shape, generator=rng)
        rows /= rows.norm(dim=1, keepdim=True)
    return features


def measure(
    plan: Plan, sizes: Sequence[int], rivals: Sequence[str], device: torch.device, say: Say
) -> pd.DataFrame:
    """Time the core at every size, and what it is compared with.

    Parameters
    ----------
    rivals : sequence of str
        ``reference`` and ``faiss``.
    say : callable
        Gets a line per measurement, and whether labels equal the reference's.

    Returns
    -------
    DataFrame
        n, implementation, stage, wall_min_s, wall_median_s, peak_mib (above the features), share (of the
        whole), vs_reference and vs_faiss (how many times faster than these, by medians), extrapolated.
    """
    if said := busy():
        say(said)
    warm_up(plan, device)
    parts = []
    calibration = Calibration()
    calibration.beat()
    for n in sizes:
        features = synthetic_features(n, plan.dim, plan.seed).to(device)
        labels, frame = time_core(plan, features)
        parts.append(frame.assign(n=n, implementation=OURS))
        say(f"{OURS}, n {n}: {frame['wall_median_s'].iloc[-1]:.3g} s")
        calibration.beat()
        if FAISS in rivals:
            parts.append(time_faiss(plan, features, say).assign(n=n, implementation=FAISS))
            calibration.beat()
        if REFERENCE in rivals and n <= plan.reference_limit:
            theirs, frame = time_reference(plan, features)
            parts.append(frame.assign(n=n, implementation=REFERENCE))
            say(f"{REFERENCE}, n {n}: {frame['wall_median_s'].iloc[-1]:.3g} s; {agreement(labels, theirs)}")
            calibration.beat()
    say(calibration.words())
    frame = pd.concat(parts, ignore_index=True).assign(extrapolated=False)
    if REFERENCE in rivals:
        frame = with_extrapolation(plan, frame, sizes, device, say)
    return with_ratios(frame)


def warm_up(plan: Plan, device: torch.device) -> None:
    """Compile what is compiled at first use, and let the device reach its pace."""
    compile_kernels()
    n = max(256, 2 * plan.k1)
    jaccard_clusters(
        synthetic_features(n, plan.dim, plan.seed).to(device),
        k1=plan.k1,
        eps=plan.eps,
        min_samples=plan.min_samples,
        expansion=MeanExpansion(plan.k2),
    )


def time_core(plan: Plan, features: Tensor) -> tuple[np.ndarray, pd.DataFrame]:
    """Time the stages of the core; return its labels too."""

    def run() -> np.ndarray:
        clustering = jaccard_clusters(
            features,
            k1=plan.k1,
            eps=plan.eps,
            min_samples=plan.min_samples,
            expansion=MeanExpansion(plan.k2),
        )
        return clustering.labels.cpu().numpy()

    return repeated(lambda: run, plan.repeat, features.device)


def time_reference(plan: Plan, features: Tensor) -> tuple[np.ndarray, pd.DataFrame]:
    """Time the stages of the public algorithm, on the CPU; return its labels too."""
    rows = features.cpu().numpy()

    def run() -> np.ndarray:
        return reference_clusters(rows, k1=plan.k1, k2=plan.k2, eps=plan.eps, min_samples=plan.min_samples)

    return repeated(lambda: run, plan.repeat, torch.device("cpu"))


def time_faiss(plan: Plan, features: Tensor, say: Say) -> pd.DataFrame:
    """Time faiss's exact search (``IndexFlatIP``): on a CPU in a process of its own, by its fastest BLAS kernel."""
    if features.device.type == "cpu":
        return time_faiss_on_cpu(plan, features.numpy(), say)

    def run() -> None:
        with timed(SEARCH):
            nearest_neighbours(features, plan.k1, backend="faiss")

    frame = repeated(lambda: run, plan.repeat, features.device)[1]
    return frame[frame["stage"] == SEARCH]


def time_faiss_on_cpu(plan: Plan, features: np.ndarray, say: Say) -> pd.DataFrame:
    """Time faiss in its own process, say which kernel it ran, and compare its neighbours with ours."""
    try:
        kernel = best_kernel(features, plan.k1)
        found = search(features, plan.k1, plan.repeat, kernel)
    except RuntimeError as error:
        raise HarnessError(
            f"--against faiss: its process failed: {error}; install the extra faiss-cpu"
        ) from None
    ours = nearest_neighbours(torch.from_numpy(features), plan.k1).index.numpy()
    equal = float((ours == found.rows).mean())
    told = (
        f" ({VARIABLE}={kernel} in its process, faster than its own choice)"
        if kernel
        else " (its own choice)"
    )
    say(
        f"{FAISS}, n {len(features)}: {np.median(found.wall_s):.3g} s by the BLAS kernel {found.kernel}{told}; "
        f"{equal:.2%} of its neighbours in our places"
    )
    return pd.DataFrame(
        {
            "stage": [SEARCH],
            "wall_min_s": [min(found.wall_s)],
            "wall_median_s": [float(np.median(found.wall_s))],
            "peak_mib": [found.peak_mib],
        }
    )


def repeated(
    make: Callable[[], Callable[[], Any]], repeat: int, device: torch.device
) -> tuple[Any, pd.DataFrame]:
    """Run several times; return the last result, and the shortest and median times and peaks of every stage.

    `make` returns what is run, and is not timed itself.
    """
    release_memory()
    before = footprint_mib(device)
    timers = StageTimers(device)
    for number in range(repeat):
        run = make()
        timers.begin_epoch(number)
        with recording(timers.stage), timed(WHOLE):
            result = run()
    frame = timers.frame()
    wall = frame.pivot(index="epoch", columns="stage", values="wall_s")
    peak = frame.groupby("stage")["peak_memory_mib"].max() - before
    stages = [name for name in STAGES if name in wall]
    later = [name for name in stages if name != SEARCH]
    others = [name for name in frame["stage"].unique() if name not in (*STAGES, WHOLE)]
    wall[AFTER], peak[AFTER] = wall[later].sum(axis=1), peak[later].max() if later else 0.0
    order = [*stages, AFTER, *others, WHOLE]
    return result, pd.DataFrame(
        {
            "stage": order,
            "wall_min_s": wall.min()[order].to_numpy(),
            "wall_median_s": wall.median()[order].to_numpy(),
            "peak_mib": peak[order].clip(lower=0).to_numpy(),
        }
    )


def release_memory() -> None:
    """Hand free memory back to the system, so that what comes next is not measured into old holes."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def footprint_mib(device: torch.device) -> float:
    """Return the memory in use: resident set on the CPU, allocated memory on CUDA."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20


def agreement(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Say whether two clusterings are the same."""
    if np.array_equal(ours, theirs):
        return "labels equal"
    return (
        f"labels differ for {np.mean(ours != theirs):.2%} of the samples (adjusted Rand index "
        f"{adjusted_rand_score(ours, theirs):.6f}): float32 rounding orders near ties differently"
    )


def with_extrapolation(
    plan: Plan, frame: pd.DataFrame, sizes: Sequence[int], device: torch.device, say: Say
) -> pd.DataFrame:
    """Add the reference's rows beyond its limit, by a power law through the sizes at which it ran."""
    beyond = [n for n in sizes if n > plan.reference_limit]
    if not beyond:
        return frame
    base = frame[frame["implementation"] == REFERENCE]
    for n in (plan.reference_limit // 2, plan.reference_limit):
        if base["n"].nunique() < 2 and n not in set(base["n"]) and n >= plan.k1:
            features = synthetic_features(n, plan.dim, plan.seed).to(device)
            added = time_reference(plan, features)[1].assign(n=n, implementation=REFERENCE)
            base = pd.concat([base, added.assign(extrapolated=False)], ignore_index=True)
            say(f"{REFERENCE}, n {n}: {added['wall_median_s'].iloc[-1]:.3g} s")
    if base["n"].nunique() < 2:
        say(f"{REFERENCE} is not extrapolated: a power law needs two sizes up to --reference-limit")
        return frame
    predicted = [power_law(part, n) for n in beyond for _, part in base.groupby("stage", sort=False)]
    say(f"{REFERENCE} beyond {plan.reference_limit}: power law through {sorted(set(base['n']))}")
    return pd.concat([frame, pd.DataFrame(predicted)], ignore_index=True)


def power_law(part: pd.DataFrame, n: int) -> dict[str, Any]:
    """Return a stage's row at n from its rows at other sizes: log-log least squares of every measure."""
    row = {"n": n, "implementation": REFERENCE, "stage": part["stage"].iloc[0], "extrapolated": True}
    size = np.log(part["n"].to_numpy(float))
    for name in MEASURES:
        exponent, intercept = np.polyfit(size, np.log(part[name].to_numpy(float).clip(1e-9)), 1)
        row[name] = float(np.exp(intercept + exponent * np.log(n)))
    return row


def with_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Add each stage's share of the whole, and by medians how many times faster it is than the others' same stage."""
    wall = frame.set_index(["n", "implementation", "stage"])["wall_median_s"]
    keys = list(frame[["n", "implementation", "stage"]].itertuples(index=False, name=None))
    rated = frame.assign(
        share=[wall[key] / wall.get((key[0], key[1], WHOLE), np.nan) for key in keys],
        vs_reference=[
            wall.get((n, REFERENCE, stage), np.nan) / wall[n, who, stage] for n, who, stage in keys
        ],
        vs_faiss=[wall.get((n, FAISS, stage), np.nan) / wall[n, who, stage] for n, who, stage in keys],
    )
    columns = ["n", "implementation", "stage", *MEASURES, "share", "vs_reference", "vs_faiss", "extrapolated"]
    order = rated["implementation"].map({OURS: 0, REFERENCE: 1, FAISS: 2}).fillna(3)
    return (
        rated.assign(order=order).sort_values(["n", "order"], kind="stable")[columns].reset_index(drop=True)
    )


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Draw wall time against the number of samples, in the form that the file's name ends in."""
    write_figure(scaling(frame, 2), path)
