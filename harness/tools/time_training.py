"""Times the parts of a training iteration, beside a bare loop on its network (``reidbench time --what training``)."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from harness.inputs.images import decode_image
from harness.registry import protocols_of
from harness.tools.time import synthetic_features
from harness.tools.training_bench import Bench, TrainingPlan, set_up
from harness.training.kernels import load_kernels
from harness.training.stage_times import STEP_PARTS, StageTimers
from methods.timing import recording

CLUSTERING = ("neighbours", "reciprocal", "encode", "expand", "jaccard", "cluster", "associate", "refine")
GALLERY, QUERIES = 301, 3803
"""Images of an evaluation: as many as a gallery of single shots has, in a large data set."""
FILES = 16
"""Image files that are decoded."""


class Measured(NamedTuple):
    """What was measured of a training.

    Attributes
    ----------
    times : DataFrame
        part, of (iteration, image, or what it is done to), wall_s and cpu_s (of the whole process) for one of these,
        share (of the parts of an iteration).
    overhead : float
        The wall time of our iterations over that of the bare ones.
    peak_mib : float
        Largest memory use within our iterations: resident set on the CPU, allocated memory on CUDA.
    """

    times: pd.DataFrame
    overhead: float
    peak_mib: float


def measure_training(plan: TrainingPlan, device: str, say: Callable[[str], None]) -> Measured:
    """Time the parts of an iteration and what an epoch needs besides, and a bare loop.

    Parameters
    ----------
    device : str
        As of ``reidbench run``.
    say : callable
        Told what is timed.

    Raises
    ------
    HarnessError
        If a setting is wrong, or the method trains nothing on what is made up.
    """
    load_kernels()
    bench = set_up(plan, device)
    images = sum(map(len, next(bench.batches().parts(0, bench.engine.device)).values()))
    size = "x".join(map(str, bench.store.size))
    say(
        f"{plan.method} on {bench.engine.device}, stage {bench.epoch.stage.name}: "
        f"{images} images of {size} an iteration, {bench.engine.config.architecture}, "
        f"precision {bench.engine.config.precision}, {torch.get_num_threads()} threads"
    )
    ours, bare = compare(bench, plan.rounds)
    n = bench.plan.iterations
    parts, peak = parts_of_iterations(bench)
    rows = [
        row(name, "iteration", *(value / n for value in parts[name])) for name in STEP_PARTS if name in parts
    ]
    whole = sum(one["wall_s"] for one in rows)
    rows = [one | {"share": one["wall_s"] / whole} for one in rows]
    rows += [row("whole iteration", "iteration", *(value / n for value in ours))]
    rows += [row("bare iteration", "iteration", *(value / n for value in bare))]
    return Measured(pd.DataFrame(rows + beside_iterations(bench)), ours[0] / bare[0], peak)


def row(part: str, of: str, wall_s: float, cpu_s: float) -> dict[str, Any]:
    """Return a row of the table."""
    return {"part": part, "of": of, "wall_s": wall_s, "cpu_s": cpu_s, "share": float("nan")}


def parts_of_iterations(bench: Bench) -> tuple[dict[str, tuple[float, float]], float]:
    """Return wall and CPU seconds of every part of the iterations, and their peak memory in MiB.

    Clocks are read when the device has caught up.
    """
    timers = StageTimers(bench.engine.device, step_parts=True)
    with recording(timers.stage), timers.stage("train"):
        bench.ours()
    return timers.step_times, float(timers.frame()["peak_memory_mib"].max())


def compare(bench: Bench, rounds: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the median wall and CPU seconds of our iterations and of the bare ones, which take turns."""
    bare = bare_loop(bench)
    bench.ours()
    bare()
    times = [(timed_on(bench, bench.ours), timed_on(bench, bare)) for _ in range(rounds)]
    ours, theirs = (np.median(np.array(each), axis=0) for each in zip(*times, strict=True))
    return (float(ours[0]), float(ours[1])), (float(theirs[0]), float(theirs[1]))


def bare_loop(bench: Bench) -> Callable[[], None]:
    """Return the same iterations with nothing but the network and its optimisers, on random tensors of the device.

    A step that moves parameters is one pass over all images of its streams, backwards from the mean square.
    """
    engine, method = bench.engine, bench.method
    made = engine.wrap(method.optimisers(bench.epoch.stage))
    parts = next(bench.batches().parts(0, engine.device))
    steps = []
    for step in bench.plan.steps:
        if step.optimiser and not step.reuses:
            drawn = torch.cat([parts[name].drawn.modality for name in step.streams])
            shape = (len(drawn), 3, *bench.store.size)
            images = torch.randn(shape, device=engine.device).contiguous(memory_format=engine.layout)
            steps.append((made[step.optimiser].optimiser, images, drawn))

    def run() -> None:
        method.backbone.train()
        for _ in range(bench.plan.iterations):
            for optimiser, images, drawn in steps:
                optimiser.zero_grad(set_to_none=True)
                with engine.fabric.autocast():
                    found, _ = method.backbone(images, drawn)
                engine.fabric.backward(found.float().square().mean())
                optimiser.step()

    return run


def timed_on(bench: Bench, work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall and CPU seconds of some work, from an idle device to an idle device."""
    bench.engine.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    bench.engine.wait()
    return time.perf_counter() - wall, time.process_time() - cpu


def beside_iterations(bench: Bench) -> list[dict[str, Any]]:
    """Time decoding, extraction, clustering, the start of memories, and evaluation."""
    n = len(bench.data)
    stages = bench.timers.frame().groupby("stage")["wall_s"].sum().to_dict()
    clustering = sum(stages.get(name, 0.0) for name in CLUSTERING)
    some = min(n, 32)
    few = replace(bench.store, files=replace(bench.store.files, paths=("",) * some))
    modality, flip = bench.data.modality.numpy()[:some], bench.engine.config.flip
    extract = partial(bench.engine.extract, bench.method.backbone, few, modality, "extract", flip=flip)
    decoding, extraction = timed_on(bench, lambda: decode(bench)), timed_on(bench, extract)
    scoring = timed_on(bench, lambda: score(bench, int(bench.method.backbone.dimension)))  # type: ignore[arg-type]
    nan = float("nan")
    return [
        row("decode", "image", *(value / FILES for value in decoding)),
        row("extract", "image", *(value / some for value in extraction)),
        row("cluster", f"{n} images", clustering, nan),
        row("start memories", f"{n} images", stages.get("memory", 0.0), nan),
        row("evaluate", f"gallery of {GALLERY}", *scoring),
    ]


def decode(bench: Bench) -> None:
    """Decode image files of the input's size."""
    height, width = bench.store.size
    small = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(small).resize((width, height)).save(content, "JPEG", quality=90)
    for _ in range(FILES):
        decode_image(content.getvalue(), height, width, Image.Resampling.BICUBIC)


def score(bench: Bench, width: int) -> None:
    """Score one gallery from features."""
    features = synthetic_features(QUERIES + GALLERY, width, 0).to(bench.engine.device)
    ids = np.arange(QUERIES + GALLERY) % 96
    protocol = protocols_of(bench.data.dataset)[0]
    protocol.score(
        bench.engine.negated_products(features[:QUERIES], features[QUERIES:]),
        ids[:QUERIES],
        ids[QUERIES:],
        np.full(QUERIES, 3),
        np.full(GALLERY, 1),
    )
