"""Options that several commands share, and what a shell completes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def method_names() -> list[tuple[str, str]]:
    """Complete METHOD: names and summaries, read without importing torch."""
    from harness.registry import methods

    return [(entry.name, entry.summary) for entry in methods().values()]


def protocol_names() -> list[tuple[str, str]]:
    """Complete --protocol."""
    from harness.registry import protocols, unions

    several = [(name, " and ".join(members)) for name, members in unions().items()]
    return [(entry.name, entry.summary) for entry in protocols().values()] + several


def dataset_names() -> list[tuple[str, str]]:
    """Complete --like."""
    from harness.registry import datasets

    return [(entry.alias or entry.name, entry.summary) for entry in datasets().values()]


def preset_names() -> list[str]:
    """Complete --preset."""
    from harness.runs.configuration import ENGINE_PRESETS

    return list(ENGINE_PRESETS)


Data = Annotated[
    str | None,
    typer.Option("--data", help="Root of the data set, or 'synthetic'. Default: REIDBENCH_DATA."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")]
Preset = Annotated[str, typer.Option(help="demo, paper or paper-large.", autocompletion=preset_names)]
Workers = Annotated[
    int,
    typer.Option(
        min=0, help="Processes that prepare batches ahead; worth it only where images fit into no memory."
    ),
]
Images = Annotated[
    Path,
    typer.Option("--images", envvar="REIDBENCH_IMAGES", help="Folder of decoded images, shared by all runs."),
]
TwinSeed = Annotated[int, typer.Option(help="Seed of the twin of --data synthetic.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of all runs.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value of the method's or the engine's configuration; repeatable."),
]
AllowPartial = Annotated[
    bool,
    typer.Option("--allow-partial-data", help="Go on when counts are not the known ones; marks every row."),
]
