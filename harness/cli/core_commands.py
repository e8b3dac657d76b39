"""``reidbench cluster``, ``variants`` and ``time``: the clustering core on its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.console import console, make_reporter
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd

FEATURES_HELP = ".npz with features (n, d), unit rows; modality, camera, identity as far as they are known."
CLUSTER_KEYS = (
    "expansion: plain (or none), modality-mean, mie, capped, camera-aware; clusterer: dbscan, hdbscan, agglomerative, "
    "infomap; k1, k2, eps, min_samples; of capped: cap, pool; of camera-aware: k1_intra, k1_inter, k2_intra, k2_inter."
)


def cluster(
    file: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help=f"key=value; repeatable. {CLUSTER_KEYS}")
    ] = None,
    device: options.Device = "auto",
    out: Annotated[Path | None, typer.Option(help="CSV file to write: index,label; noise is -1.")] = None,
) -> None:
    """Cluster anybody's features, and say how good the clusters are if identities are there."""
    from harness.runs.files import check_folder, write_atomic
    from harness.tools.cluster import cluster_file, configuration
    from harness.training.fabric import compute_device

    config = configuration(sets or ())
    check_folder(out)
    if config.unused:
        make_reporter().line(f"not used by this configuration: {', '.join(config.unused)}")
    outcome = cluster_file(file, config, compute_device(device))
    if out is not None:
        write_atomic(out, outcome.csv())
    for line in outcome.lines():
        console().print(line, highlight=False, markup=False)


def variants(
    file: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    eps: Annotated[str, typer.Option(help="Radii to try, separated by commas.")] = "0.4,0.5,0.6",
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of `reidbench cluster`; repeatable.")
    ] = None,
    device: options.Device = "auto",
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
) -> None:
    """Try every expansion with every clusterer and eps on the same features, in one table."""
    from harness.runs.files import check_folder, write_atomic
    from harness.tools.tables import text_table
    from harness.tools.variants import variants_of_file
    from harness.training.fabric import compute_device

    check_folder(out)
    reporter = make_reporter()
    frame = variants_of_file(file, sets or (), eps, compute_device(device), reporter.line)
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    sys.stdout.write(text_table(frame) + "\n")


def time(
    what: Annotated[
        Literal["clustering", "association", "training"],
        typer.Option(help="The core; what methods do before an epoch trains; or iterations of a training."),
    ] = "clustering",
    n: Annotated[
        str, typer.Option("--n", help="Clustering: numbers of samples, separated by commas.")
    ] = "8000,16000,34167",
    dim: Annotated[int, typer.Option(min=1, help="Clustering: width of the features.")] = 2048,
    k1: Annotated[
        str, typer.Option(help="Clustering: length of the neighbour lists; several by commas, as 10,30.")
    ] = "30",
    k2: Annotated[str, typer.Option(help="Clustering: neighbours of the expansion; likewise.")] = "6",
    eps: Annotated[str, typer.Option(help="Clustering: radius of DBSCAN; likewise.")] = "0.6",
    device: options.Device = "auto",
    against: Annotated[
        str, typer.Option(help="Clustering: reference (the public algorithm), faiss, both, or none.")
    ] = "reference,faiss",
    reference_limit: Annotated[
        int, typer.Option(min=1, help="Largest size at which the reference runs; beyond, extrapolated.")
    ] = 16_000,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of every size, or of the iterations.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of what is made up.")] = 0,
    method: Annotated[
        str,
        typer.Option(
            help="Training: METHOD[:VARIANT]. Association: several, separated by commas.",
            autocompletion=options.method_names,
        ),
    ] = "dmic",
    architecture: Annotated[str, typer.Option(help="Training: resnet50 or resnet18.")] = "resnet50",
    batch: Annotated[int, typer.Option(min=0, help="Training: labels of a batch; 0: the method's own.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, help="Training: so many at a time.")] = 2,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Training: key=value of `reidbench run`; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Clustering: log-log scaling figure to write.")] = None,
) -> None:
    """Time the clustering core or methods stage by stage, or a training iteration part by part, beside its rivals."""
    from harness.runs.files import check_folder, write_atomic
    from harness.tools.tables import text_table

    for path in (out, figure):
        check_folder(path)
    if what == "training":
        chosen = (f"architecture={architecture}", *(sets or ()))
        frame, said = time_training(method, chosen, batch, iterations, repeat, seed, device)
    else:
        settings = {"dim": dim, "repeat": repeat, "seed": seed, "reference_limit": reference_limit}
        frame, said = (
            time_association(settings, n, method, device)
            if what == "association"
            else time_clustering(settings, (k1, k2, eps), n, against, device, figure)
        )
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    sys.stdout.write(text_table(frame) + "\n" + said)


def time_clustering(
    settings: dict[str, Any],
    swept: tuple[str, str, str],
    n: str,
    against: str,
    device: str,
    figure: Path | None,
) -> tuple[pd.DataFrame, str]:
    """Time the clustering core for every combination of the settings `swept`; return the table, and nothing to add."""
    import harness.tools.time as timing
    from harness.training.fabric import compute_device

    plans = timing.sweep(timing.Plan(**settings), *swept)
    if figure is not None and len(plans) > 1:
        raise HarnessError("--figure draws one k1, k2 and eps; --out FILE.csv takes the numbers of several")
    sizes, rivals = timing.parse_sizes(n), timing.parse_rivals(against)
    frame = timing.measure_all(plans, sizes, rivals, compute_device(device), make_reporter().line)
    if figure is not None:
        timing.draw(frame, figure)
    return frame, ""


def time_association(settings: dict[str, Any], n: str, method: str, device: str) -> tuple[pd.DataFrame, str]:
    """Time what methods do before an epoch trains, at their own settings; return the table, and nothing to add."""
    import harness.tools.time as timing
    from harness.tools.time_methods import measure_methods, parse_methods
    from harness.training.fabric import compute_device

    sizes, names = timing.parse_sizes(n), parse_methods(method)
    frame = measure_methods(
        timing.Plan(**settings), names, sizes, compute_device(device), make_reporter().line
    )
    return timing.with_ratios(frame.assign(extrapolated=False)), ""


def time_training(
    method: str, sets: tuple[str, ...], labels: int, iterations: int, rounds: int, seed: int, device: str
) -> tuple[pd.DataFrame, str]:
    """Time iterations of a training; return the table, and the overhead in words."""
    from harness.registry import datasets
    from harness.tools.time_training import measure_training
    from harness.tools.training_bench import TrainingPlan

    plan = TrainingPlan(
        method,
        next(iter(datasets())),
        sets,
        labels=labels,
        iterations=iterations,
        rounds=rounds,
        seed=seed,
    )
    found = measure_training(plan, device, make_reporter().line)
    return (
        found.times,
        f"overhead over the bare loop: {found.overhead:.3f}; peak memory: {found.peak_mib:.0f} MiB\n",
    )
