"""What can be typed after a method's name, read off its file: for shells, which wait for no import."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from harness.reading import assignments, find_class, last_name, lineage, read_package
from harness.registry import CODE, OURS, methods
from harness.runs.configuration import ENGINE_PRESETS


@dataclass(frozen=True)
class StatedNames:
    """What a method's file says that can be typed after its name: variants, and keys of ``--set``."""

    variants: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def stated_names(method: str) -> StatedNames:
    """Read variants and settings off the file of one of our methods, without importing it; none of another's.

    Inherited settings are found in the module that the configuration's base class stands in.
    """
    entry = methods().get(method)
    if entry is None or entry.error or entry.origin != OURS:
        return StatedNames()
    module, _, name = entry.target.partition(":")
    classes, _ = read_package(CODE / "methods")
    source = next(one for one in classes if (one.module, one.node.name) == (module, name))
    values = dict(assignments(source.node))
    presets = values.get("presets")
    keys = presets.keys if isinstance(presets, ast.Dict) else []
    stated = [one.value for one in keys if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    config = find_class(last_name(values["Config"]), module, classes) if "Config" in values else None
    above = lineage(config, classes) if config else []
    settings = [key for one in reversed(above) for key, _ in assignments(one.node) if not key.isupper()]
    return StatedNames(
        tuple(one for one in stated if one not in ENGINE_PRESETS and "@" not in one),
        tuple(key for key in dict.fromkeys(settings) if key not in ("model_config", "sources", "replaced")),
    )
