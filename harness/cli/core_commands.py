"""``reidbench cluster``, ``variants`` and ``time``: the clustering core on its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import console, make_reporter

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
    from harness.training.fabric import make_fabric

    config = configuration(sets or ())
    check_folder(out)
    if config.unused:
        make_reporter().line(f"not used by this configuration: {', '.join(config.unused)}")
    outcome = cluster_file(file, config, make_fabric(device, "32").device)
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
    from harness.training.fabric import make_fabric

    check_folder(out)
    reporter = make_reporter()
    frame = variants_of_file(file, sets or (), eps, make_fabric(device, "32").device, reporter.line)
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    sys.stdout.write(text_table(frame) + "\n")


def time(
    n: Annotated[
        str, typer.Option("--n", help="Numbers of samples, separated by commas.")
    ] = "8000,16000,34167",
    dim: Annotated[int, typer.Option(min=1, help="Width of the features.")] = 2048,
    k1: Annotated[int, typer.Option(min=1, help="Length of the neighbour lists.")] = 30,
    k2: Annotated[int, typer.Option(min=1, help="Neighbours that the expansion averages over.")] = 6,
    eps: Annotated[float, typer.Option(help="Radius of DBSCAN.")] = 0.6,
    device: options.Device = "auto",
    against: Annotated[
        str, typer.Option(help="reference (the public algorithm), faiss, both, or none.")
    ] = "reference,faiss",
    reference_limit: Annotated[
        int, typer.Option(min=1, help="Largest size at which the reference runs; beyond, extrapolated.")
    ] = 16_000,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of every size.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic features.")] = 0,
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Log-log scaling figure to write.")] = None,
) -> None:
    """Time every stage of the clustering core on synthetic features, beside the public algorithm and faiss."""
    import harness.tools.time as timing
    from harness.runs.files import check_folder, write_atomic
    from harness.tools.tables import text_table
    from harness.training.fabric import make_fabric

    plan = timing.Plan(
        dim=dim, k1=k1, k2=k2, eps=eps, repeat=repeat, seed=seed, reference_limit=reference_limit
    )
    sizes, rivals = timing.parse_sizes(n), timing.parse_rivals(against)
    for path in (out, figure):
        check_folder(path)
    frame = timing.measure(plan, sizes, rivals, make_fabric(device, "32").device, make_reporter().line)
    if out is not None:
        write_atomic(out, frame.to_csv(index=False).encode())
    if figure is not None:
        timing.draw(frame, figure)
    sys.stdout.write(text_table(frame) + "\n")
