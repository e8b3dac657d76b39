"""Runs everything that needs a CUDA device, and writes ``docs/measurements-gpu.md`` (``make gpu``)."""

from __future__ import annotations

import datetime
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from harness.runs.environment import cuda_state, package_versions
from tests.conftest import process_environment, tiny_settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "measurements-gpu.md"
LOSS_TOLERANCE, MAP_TOLERANCE = 0.02, 5.0
"""How far a tiny run on CUDA may be from the CPU's: of a first epoch's loss, relative; of the last mAP, in points."""
NO_DEVICE = (
    "make gpu: PyTorch sees no CUDA device here, so nothing was measured and no page written; run it on a machine with "
    "one, after installing PyTorch's CUDA build (`reidbench doctor` says what PyTorch sees)"
)
REIDBENCH = (sys.executable, "-m", "harness")
Run = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Section:
    """A measurement: its title, the command, and what it printed."""

    title: str
    words: tuple[str, ...]


SECTIONS = (
    Section("Tests on the device", (sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests")),
    Section("Every function beside the CPU", (sys.executable, "-m", "pytest", "-q", "tests/devices")),
    Section(
        "Clustering, 34,167 samples",
        (*REIDBENCH, "time", "--device", "cuda", "--n", "34167", "--against", "none"),
    ),
    Section(
        "Clustering, 600,000 samples",
        (*REIDBENCH, "time", "--device", "cuda", "--n", "600000", "--against", "none", "--repeat", "1"),
    ),
    *(
        Section(
            f"An iteration of {method}, ResNet-50 at 288 x 144, {precision}",
            (
                *(*REIDBENCH, "time", "--what", "training", "--device", "cuda", "--method", method),
                *("--iterations", "10", "--set", f"precision={precision}"),
            ),
        )
        for method in ("dmic", "pgm")
        for precision in ("32", "bf16")
    ),
)


def output_of(words: Sequence[str]) -> str:
    """Run a command; return what it printed, with its exit code if that is not 0."""
    done = subprocess.run(
        list(words), cwd=ROOT, env=process_environment(), capture_output=True, text=True, check=False
    )
    said = done.stdout.strip() or done.stderr.strip()
    return said if done.returncode == 0 else f"exit code {done.returncode}\n{said}\n{done.stderr.strip()}"


def tiny_run(device: str, out: Path, run: Run) -> Mapping[str, float]:
    """Train a tiny run on a device; return its first loss, last mAP and peak memory."""
    sizes = ("epochs=2", "iterations=4", "labels_per_batch=4", "instances=4", "k1=8", "k2=4", "eps=0.55")
    words = ("run", "cluster-contrast", "--protocol", "regdb", "--data", "synthetic", "--trials", "1")
    run((*REIDBENCH, *words, "--device", device, "--out", str(out / device), *tiny_settings(*sizes)))
    (folder,) = (path.parent for path in (out / device).glob("*/*/*/metrics.csv"))
    metrics = pd.read_csv(folder / "metrics.csv")
    last = metrics[(metrics["checkpoint"] == "last") & (metrics["metric"] == "mAP")]
    return {
        "loss of the first epoch": float(pd.read_csv(folder / "history.csv")["loss_cluster"].iloc[0]),
        "mAP": float(last["value"].mean()),
        "peak memory, MiB": float(pd.read_csv(folder / "profile.csv")["peak_memory_mib"].max()),
    }


def beside_the_cpu(found: Mapping[str, float], expected: Mapping[str, float]) -> str:
    """Say how far a tiny run on the device is from the CPU's, and whether that is near enough."""
    loss = abs(found["loss of the first epoch"] / expected["loss of the first epoch"] - 1)
    points = abs(found["mAP"] - expected["mAP"])
    near = loss <= LOSS_TOLERANCE and points <= MAP_TOLERANCE
    table = pd.DataFrame({"cuda": found, "cpu": expected}).round(4).to_string()
    verdict = "within" if near else "BEYOND"
    return (
        f"{table}\n\n{verdict} the tolerance: the first loss differs by {loss:.2%} (at most {LOSS_TOLERANCE:.0%}), "
        f"mAP by {points:.2f} points (at most {MAP_TOLERANCE:g})"
    )


def page(about: str, results: Sequence[tuple[str, str, str]]) -> str:
    """Return the page: what was measured on, then each title, command and output."""
    text = f"# Measurements on a GPU\n\nWritten by `make gpu`. {about}\n"
    for title, command, said in results:
        text += f"\n## {title}\n\n`{command}`\n\n```\n{said}\n```\n"
    return text


def about_device() -> str:
    """Say which device, versions and day it is."""
    state, versions = cuda_state(), package_versions()
    names = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "torchvision", "numpy") if name in versions
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"{', '.join(state['gpus'])}; CUDA {state['cuda']}, cuDNN {state['cudnn']}; {names}; {today}."


def shown(words: Sequence[str]) -> str:
    """Return a command as a person types it."""
    text = " ".join(words)
    return text.replace(" ".join(REIDBENCH), "reidbench").replace(f"{sys.executable} -m ", "")


def main(run: Run = output_of, path: Path = PAGE) -> int:
    """Measure and write the page; return the exit code: 2 without a device, 1 if the device is too far from the CPU."""
    if not torch.cuda.is_available():
        print(NO_DEVICE, file=sys.stderr)
        return 2
    results = []
    for section in SECTIONS:
        print(section.title, file=sys.stderr)
        results.append((section.title, shown(section.words), run(section.words)))
    with tempfile.TemporaryDirectory() as folder:
        compared = beside_the_cpu(*(tiny_run(device, Path(folder), run) for device in ("cuda", "cpu")))
    results.append(("A tiny run beside the CPU's", "reidbench run cluster-contrast --device cuda", compared))
    path.write_text(page(about_device(), results), encoding="utf-8")
    failed = [title for title, _, said in results if said.startswith("exit code") or "BEYOND" in said]
    print(
        f"{path} is written; {'failed: ' + ', '.join(failed) if failed else 'all went well'}", file=sys.stderr
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
