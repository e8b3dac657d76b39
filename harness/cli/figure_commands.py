"""``reidbench extract`` and ``figure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import make_reporter, say

KINDS_HELP = (
    "forest (differences to a reference), pairs (of all methods), cmc (ranks 1 to 20), training (curves over epochs), "
    "schedule (of a method), stages (where time went), scaling (time over images), ranked (queries and what was found "
    "first), embedding, distances (of images' features), split (identities over clusters, before and after MIE)."
)
OwnDevice = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto. Default: the manifest's.")]
OwnData = Annotated[
    str | None,
    typer.Option("--data", help="Root of the run's data, or 'synthetic'. Default: the manifest's."),
]
QueriesOption = Annotated[
    str, typer.Option(help="Of ranked: random, worst, or difference (largest A - B of two methods).")
]
SettingOption = Annotated[
    str | None, typer.Option(help="Of ranked: as tables name it; the first by default.")
]
FeaturesOption = Annotated[
    Path | None, typer.Option(help="Of embedding, distances, split: .npz of `reidbench extract`, not a run.")
]
ClusterSets = Annotated[
    list[str] | None, typer.Option("--set", help="Of split: key=value of `reidbench cluster`; repeatable.")
]


def extract(
    run: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    out: Annotated[Path, typer.Option(help=".npz to write.")],
    data: OwnData = None,
    part: Annotated[str, typer.Option(help="Images: training or test.")] = "training",
    device: OwnDevice = "",
    workers: options.Workers = 0,
    images: options.Images = Path("data/images"),
    twin_seed: options.TwinSeed = 0,
) -> None:
    """Write features, paths, cameras and pseudo-labels of a finished run, for `reidbench cluster` and figures."""
    from harness.runs.files import check_folder
    from harness.tools.extraction import extract as extract_run
    from harness.tools.extraction import write_extraction

    check_folder(out)
    found = extract_run(
        run,
        part,
        make_reporter(),
        data=data,
        device=device,
        workers=workers,
        images=images,
        twin_seed=twin_seed,
    )
    write_extraction(found, out)
    for line in found.lines():
        say(line)
    say(f"features: {out}")


def figure(
    kind: Annotated[str, typer.Argument(help=KINDS_HELP)],
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNS]...",
            help="Run directories, or folders of them; METHOD for schedule, the CSV of `reidbench time` for scaling.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write: .pdf, .svg or .png.")] = Path("figure.pdf"),
    columns: Annotated[int, typer.Option(help="Width: 1 or 2 columns of a paper (3.5 or 7.16 inches).")] = 1,
    metric: Annotated[str, typer.Option(help="Of forest and pairs: mAP, mINP or rank-K, as rank-1.")] = "mAP",
    reference: Annotated[
        str | None,
        typer.Option(
            help="Of forest: the method the others are compared with; of ranked: B of A - B, or whose worst."
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Epoch: last, best-on-test or best-of-last-stage.")
    ] = "last",
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    preset: options.Preset = "paper",
    queries: QueriesOption = "random",
    count: Annotated[int, typer.Option(help="Of ranked: number of queries.")] = 4,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    setting: SettingOption = None,
    features: FeaturesOption = None,
    by: Annotated[str, typer.Option(help="Of embedding: pca or tsne.")] = "pca",
    sets: ClusterSets = None,
    data: OwnData = None,
    device: OwnDevice = "",
    images: options.Images = Path("data/images"),
    where: options.Where = None,
    label: options.Label = None,
) -> None:
    """Draw a figure for print: one or two columns wide, fonts embedded, equal input gives equal bytes."""
    from harness.runs.files import check_folder
    from harness.tools.drawings import draw
    from harness.tools.figure_request import Queries, Sources, Wanted

    check_folder(out)
    wanted = Wanted(
        tuple(named or ()),
        columns,
        metric,
        reference,
        checkpoint,
        protocol,
        preset,
        Queries(queries, count, seed, setting),
        Sources(features, data, device, images),
        by,
        tuple(sets or ()),
        tuple(where or ()),
        tuple(label or ()),
    )
    draw(kind, wanted, out, make_reporter())
    say(f"figure: {out}")
