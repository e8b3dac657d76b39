"""``reidbench data``: synthetic twins, checks, fingerprints and lists."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import console, make_reporter, say


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    like: Annotated[
        str,
        typer.Option(help="Data set, as `reidbench list` names it.", autocompletion=options.dataset_names),
    ],
    identities: Annotated[int | None, typer.Option(min=4, help="Number of people.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Images of a person in a camera.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the twin.")] = 0,
    difficulty: Annotated[str, typer.Option(help="easy, medium or hard.")] = "medium",
    full_size: Annotated[
        bool, typer.Option("--full-size", help="The real data set's counts, tiny images.")
    ] = False,
) -> None:
    """Make a synthetic twin: same folders, names and split files as the real data set."""
    from harness.errors import HarnessError
    from harness.registry import load_dataset
    from protocols.synthetic.twin import synthesise

    known = sorted(name for name, _ in options.dataset_names())
    try:
        dataset = load_dataset(like)
    except HarnessError as error:
        raise HarnessError(f"--like {like}: expected {' or '.join(known)} ({error})") from None
    reporter = make_reporter()
    with reporter.bars():
        made = synthesise(
            out,
            dataset,
            identities=identities,
            images=images,
            seed=seed,
            difficulty=difficulty,
            full_size=full_size,
            track=lambda people: reporter.track(people, len(people), "render people"),
        )
    say(str(made))


def check(
    root: Annotated[Path, typer.Argument(help="Root of the data set.")],
    allow_partial: options.AllowPartial = False,
) -> None:
    """Compare counts with the known ones; find unreadable, foreign and duplicate files and leaking identities."""
    from harness.tools.data_check import check_page

    page, ok = check_page(root, allow_partial)
    console().print(page, soft_wrap=True)  # a path that is broken over lines cannot be copied
    raise typer.Exit(0 if ok else 2)


def fingerprint(root: Annotated[Path, typer.Argument(help="Root of the data set.")]) -> None:
    """Print the digest of a data root: equal data, equal digest."""
    from harness.runs.data import recognise
    from protocols.check import fingerprint as digest

    sys.stdout.write(digest(root, recognise(root)) + "\n")


def export(
    protocol: Annotated[
        str,
        typer.Option(help="As `reidbench list protocols` names it.", autocompletion=options.protocol_names),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the CSV files.")],
    data: options.Data = None,
    allow_partial: options.AllowPartial = False,
) -> None:
    """Write query_<trial>.csv and gallery_<trial>.csv, in evaluation order, for anybody's code.

    The lists of the protocol's first setting go into the folder itself, those of another into a folder of its name.
    """
    from harness.registry import load_protocols
    from harness.runs.data import find_root
    from harness.runs.exported import export as export_lists

    protocols = load_protocols(protocol)
    for chosen in protocols:
        root = find_root(data, chosen, 0, make_reporter().line)
        target = out / chosen.id if len(protocols) > 1 else out
        written = export_lists(chosen, root, target, allow_partial=allow_partial)
        for folder in dict.fromkeys(path.parent for path in written):
            files = sum(path.parent == folder for path in written)
            console().print(
                f"{folder}: {files} query and gallery lists", markup=False, highlight=False, soft_wrap=True
            )
