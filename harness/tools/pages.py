"""Pages that ``reidbench list`` and ``show`` print, and the README's table of methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.errors import HarnessError
from harness.registry import OURS, Entry, datasets, load_method, methods, protocols
from harness.runs.configuration import EngineConfig, resolve, split_variant
from harness.runs.fields import flat, leaves, value_at
from harness.tools.grid import text_grid

if TYPE_CHECKING:
    import pandas as pd

    from methods.base import Method, MethodConfig, Reference

ABSENT = "-"
NOT_PUBLISHED = ("adapted", "ours", "reconstructed")


class NoScheduleError(HarnessError):
    """A method whose settings stay as they are over the epochs."""


@dataclass(frozen=True)
class Chosen:
    """A method with its configuration on each data set, as ``METHOD[:variant][@preset]`` names it."""

    label: str
    method: type[Method]
    configs: Mapping[str, MethodConfig]
    engine: EngineConfig


def choose(text: str, preset: str) -> Chosen:
    """Resolve ``METHOD[:variant][@preset]``; `preset` holds where the text names none.

    Raises
    ------
    HarnessError
        Unknown method, variant or preset; says the nearest.
    """
    name, _, named = text.partition("@")
    name, variant = split_variant(name)
    cls = load_method(name)
    layers = {dataset: resolve(cls, dataset, named or preset, variant, ()) for dataset in datasets()}
    engine = next(iter(layers.values()))[1]
    return Chosen(text, cls, {d: method for d, (method, _) in layers.items()}, engine)


def describe(entry: Entry) -> str:
    """Return the summary of an entry, or why it cannot be used."""
    return f"unusable: {entry.error}" if entry.error else entry.summary


def listing(what: str) -> RenderableType:
    """List methods, protocols, or ``all``.

    Raises
    ------
    HarnessError
        If `what` is something else.
    """
    if what not in ("all", "methods", "protocols"):
        raise HarnessError(f"list {what}: expected methods or protocols")
    pages: list[RenderableType] = []
    if what != "protocols":
        rows = [(e.name, describe(e), e.supervision, e.origin) for e in methods().values()]
        pages.append(text_grid("methods", ("method", "what it is", "supervision", "from"), rows))
    if what != "methods":
        rows = [(e.name, describe(e), e.dataset, e.origin) for e in protocols().values()]
        pages.append(text_grid("protocols", ("protocol", "what it measures", "data set", "from"), rows))
    return Group(*pages)


def method_markdown() -> str:
    """Return the README's table of our own methods: what they are, the paper, and how many parts nobody published."""
    lines = ["| method | what it is | paper | how much of it nobody published |", "|---|---|---|---|"]
    for entry in methods().values():
        if entry.origin != OURS:
            continue
        reference = load_method(entry.name).reference
        paper = f"{reference.venue} ({reference.year})" if reference.venue else "-"
        sources = [source for _, source, _ in part_rows(reference)]
        made_up = sum(source in NOT_PUBLISHED for source in sources)
        lines.append(
            f"| `{entry.name}` | {entry.summary} | {paper} | {made_up} of {len(sources)} parts reconstructed |"
        )
    return "\n".join(lines) + "\n"


def part_rows(reference: Reference) -> list[tuple[str, str, str]]:
    """Return part, source and note of every part of a method."""
    return [(part, source, note) for part, (source, note) in reference.parts.items()]


def part_texts(reference: Reference) -> dict[str, str]:
    """Return source and note of every part as one text."""
    return {part: f"{source}: {note}" for part, source, note in part_rows(reference)}


def header(cls: type[Method]) -> Text:
    """Say what a method is and where it comes from."""
    reference = cls.reference
    where = ", ".join(part for part in (reference.venue, str(reference.year), reference.url) if part)
    described = (
        f"\nequations and settings: docs/methods.md#{cls.name}"
        if cls.__module__.startswith("methods.")
        else ""
    )
    return Text(
        f"{cls.name}: {cls.summary}\n{reference.title} ({where})\nsupervision: {cls.supervision}{described}\n"
    )


def method_rows(chosen: Chosen) -> list[tuple[str, ...]]:
    """Return key, value on each data set, default, source and description of every field, groups unfolded."""
    return [
        (
            key,
            *(str(value_at(config, key)) for config in chosen.configs.values()),
            str(leaf.default),
            leaf.source,
            leaf.about,
        )
        for key, leaf in leaves(chosen.method.Config).items()
    ]


def engine_rows(engine: EngineConfig) -> list[tuple[str, ...]]:
    """Return key, value, default and description of the engine's fields."""
    fields = EngineConfig.model_fields
    return [(k, str(getattr(engine, k)), str(f.default), f.description or "") for k, f in fields.items()]


def heading(cls: type[Method], dataset: str) -> str:
    """Name a data set; say so if no source states the method's values on it, and they are carried over by us."""
    from methods.base import Adapted

    layers = cls.presets.get("paper", {})
    values = layers.get(dataset, layers.get("*"))
    stated = not layers or (values is not None and not isinstance(values, Adapted))
    return dataset if stated else f"{dataset} (adapted)"


def preset_rows(cls: type[Method]) -> list[tuple[str, ...]]:
    """Return every preset and variant with the values it sets on each data set."""
    return [
        (
            name,
            heading(cls, dataset) if name == "paper" else dataset,
            ", ".join(f"{key}={value}" for key, value in flat(values).items()) or "(the defaults)",
        )
        for name, layers in cls.presets.items()
        for dataset, values in (layers or {"*": {}}).items()
    ]


def page(text: str, preset: str) -> RenderableType:
    """Show a method: reference, parts and their sources, configuration, presets.

    Parameters
    ----------
    text : str
        ``METHOD[:variant][@preset]``.
    preset : str
        ``paper``, ``paper-large`` or ``demo``; used where `text` names none.
    """
    chosen = choose(text, preset)
    cls = chosen.method
    config = ("key", *(heading(cls, name) for name in chosen.configs), "default", "source", "meaning")
    return Group(
        header(cls),
        text_grid("parts", ("part", "source", "what it is"), part_rows(cls.reference)),
        text_grid("configuration", config, method_rows(chosen)),
        text_grid(
            "engine (source: harness)", ("key", "value", "default", "meaning"), engine_rows(chosen.engine)
        ),
        text_grid("presets and variants", ("name", "data set", "values over the defaults"), preset_rows(cls)),
    )


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], where: str
) -> list[tuple[str, str, str, str]]:
    """Return key, place and both values of whatever differs; a key that one side lacks shows as a dash."""
    return [
        (key, where, str(one.get(key, ABSENT)), str(other.get(key, ABSENT)))
        for key in dict.fromkeys([*one, *other])
        if key not in one or key not in other or one[key] != other[key]
    ]


def diff(text: str, other: str, preset: str) -> RenderableType:
    """Show what differs between two configurations ``METHOD[:variant][@preset]``."""
    a, b = choose(text, preset), choose(other, preset)
    rows = [
        row
        for dataset in a.configs
        for row in differences(
            flat(a.configs[dataset].model_dump()), flat(b.configs[dataset].model_dump()), dataset
        )
    ]
    rows += differences(a.engine.model_dump(), b.engine.model_dump(), "engine")
    if not rows and a.method is b.method:
        return Text(f"{a.label} and {b.label} are the same configuration")
    parts = differences(part_texts(a.method.reference), part_texts(b.method.reference), "part")
    title = f"{a.label} and {b.label} ({ABSENT}: has no such key)"
    return text_grid(title, ("key", "where", a.label, b.label), rows + parts)


def schedules(text: str, preset: str) -> dict[str, pd.DataFrame]:
    """Return the schedules of a method (its ``schedule(config)``) over the epochs of the run, per data set.

    Raises
    ------
    HarnessError
        If it has none.
    """
    chosen = choose(text, preset)
    schedule = getattr(chosen.method, "schedule", None)
    if schedule is None:
        raise NoScheduleError(
            f"{chosen.method.name} has no schedule: eps and k2 stay what the configuration says"
        )
    import pandas as pd  # no other page needs it

    return {dataset: pd.DataFrame(schedule(config)) for dataset, config in chosen.configs.items()}


def schedule_plot(text: str, preset: str) -> str:
    """Plot the schedules of a method in characters, or say that it has none."""
    try:
        frames = schedules(text, preset)
    except NoScheduleError as none:
        return str(none)
    plots = []
    for dataset, whole in frames.items():
        frame = whole.drop(columns=["stage", "epoch"], errors="ignore")
        plots += [curve(f"{name}, {dataset}", frame[name].to_list()) for name in frame if len(frame)]
    return "\n".join(plots) or f"{text} trains no epochs"


def curve(title: str, values: list[float]) -> str:
    """Draw values over epochs 0, 1, ... in characters."""
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.plot_size(80, 14)
    figure.title(title)
    figure.draw(figure.signal(list(range(len(values))), values).lines())
    text = str(plotext.uncolorize(str(figure.build())))
    figure.clear()
    return text
