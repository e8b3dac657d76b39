"""Options that several commands share, and what a shell completes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def method_names(incomplete: str = "") -> list[tuple[str, str]]:
    """Complete METHOD and, after a colon, its variants; read without importing torch."""
    from harness.registry import methods

    name, colon, _ = incomplete.partition(":")
    if colon and name in methods():
        from harness.tools.stated import stated_names

        return [(f"{name}:{variant}", "") for variant in stated_names(name).variants]
    return [(entry.name, entry.summary) for entry in methods().values()]


def method_and_protocol_names(incomplete: str = "") -> list[tuple[str, str]]:
    """Complete what `show` takes."""
    return method_names(incomplete) + protocol_names()


def setting_names() -> list[str]:
    """Complete --set: settings of the methods on the line, and the engine's; read without importing torch.

    The line is the shell's: an option whose value is being typed keeps the parser from telling the arguments.
    """
    from harness.registry import methods
    from harness.runs.configuration import EngineConfig
    from harness.tools.stated import stated_names

    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    named = [name for word in line.split() if (name := word.partition(":")[0]) in methods()]
    own = [key for one in named for key in stated_names(one).settings]
    return [f"{key}=" for key in dict.fromkeys([*own, *EngineConfig.model_fields])]


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
    typer.Option(
        "--set",
        help="key=value of the method's or the engine's configuration; repeatable.",
        autocompletion=setting_names,
    ),
]
AllowPartial = Annotated[
    bool,
    typer.Option("--allow-partial-data", help="Go on when counts are not the known ones; marks every row."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="Only runs with key=value (key=a,b: either): seed, preset, label, state or a setting; repeatable.",
    ),
]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", help="NAME=NEW: another name for a line, as 'dmic[eps=0.5]=ours'; repeatable."),
]
