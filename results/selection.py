"""Which runs are meant (``--where key=value``), and what lines of runs that differ in configuration are called."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from results.errors import ResultsError

ABOUT = ("label", "method", "preset", "dataset", "split", "seed", "data", "state")
"""Entries of a specification that a condition may name beside its settings."""


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a configuration with the settings of its groups as ``group.key``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def settings_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting of a specification, with ``engine.`` before one of the engine's that the method has too."""
    own, engine = flat(spec.get("config") or {}), flat(spec.get("engine") or {})
    return own | {f"engine.{key}" if key in own else key: value for key, value in engine.items()}


def changed_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run does not have from its preset and variant, as far as its manifest says so."""
    changed = manifest.get("changed")
    return changed if isinstance(changed, dict) else {}


def with_settings(label: str, settings: Mapping[str, Any]) -> str:
    """Return ``dmic[eps=0.5]``: a label with settings in brackets, after those that it has.

    Examples
    --------
    >>> with_settings("dmic[eps=0.5]", {"k1": 20})
    'dmic[eps=0.5, k1=20]'
    """
    if not settings:
        return label
    stem, _, bracket = label.partition("[")
    before = [bracket.removesuffix("]")] if bracket else []
    return f"{stem}[{', '.join([*before, *(setting_text(*one) for one in settings.items())])}]"


def setting_text(key: str, value: Any) -> str:
    """Return ``key=value``, of a file's path its name."""
    text = Path(value).name if isinstance(value, str) and "/" in value else str(value)
    return f"{key}={text}"


@dataclass(frozen=True)
class Condition:
    """A key, and the values of which one must be there: texts, numbers or patterns as ``dmic*``."""

    key: str
    values: tuple[str, ...]

    def holds(self, known: Mapping[str, Any]) -> bool:
        """Say whether a run has one of the values."""
        return self.key in known and any(same(known[self.key], wanted) for wanted in self.values)

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.values)}"


def same(value: Any, wanted: str) -> bool:
    """Say whether a value is the one that was typed: 0.50 is 0.5, and ``true`` True."""
    try:
        return float(value) == float(wanted) if not isinstance(value, bool) else truth(value, wanted)
    except (TypeError, ValueError):
        return fnmatchcase(str(value), wanted)


def truth(value: bool, wanted: str) -> bool:
    """Compare a truth value with a typed one."""
    return str(value).lower() == wanted.lower() or str(int(value)) == wanted


def conditions_of(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Read ``key=value`` or ``key=value,other``.

    Raises
    ------
    ResultsError
        If one is not of that form.
    """
    found = []
    for text in texts:
        key, equals, values = text.partition("=")
        if not (key.strip() and equals and values.strip()):
            raise ResultsError(f"--where {text}: expected key=value, for example --where eps=0.5,0.6")
        found.append(Condition(key.strip(), tuple(one.strip() for one in values.split(","))))
    return tuple(found)


def known_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what conditions may ask of a run."""
    spec = manifest["spec"]
    variant = str(spec["label"]).split("[")[0].partition(":")[2]
    about = {name: spec[name] for name in ABOUT if name in spec}
    protocols = ",".join(manifest.get("protocols", {}))
    return settings_of(spec) | about | {"run": manifest["run"], "variant": variant, "protocol": protocols}


def selected(manifests: Mapping[str, Mapping[str, Any]], texts: Sequence[str]) -> set[str]:
    """Return the keys of the manifests for which every condition holds.

    Raises
    ------
    ResultsError
        If no run knows a key (says the nearest), or none fulfils a condition (says what there is).
    """
    known = {name: known_of(manifest) for name, manifest in manifests.items()}
    kept = set(manifests)
    for condition in conditions_of(texts):
        values = {str(one[condition.key]) for one in known.values() if condition.key in one}
        if known and not values:
            keys = sorted({key for one in known.values() for key in one})
            near = difflib.get_close_matches(condition.key, keys, n=3, cutoff=0.5) or keys[:12]
            raise ResultsError(f"--where {condition}: no run has such a key; there are {', '.join(near)}")
        kept &= {name for name, one in known.items() if condition.holds(one)}
        if known and not kept:
            raise ResultsError(
                f"--where {condition}: no run is left; {condition.key} is {', '.join(sorted(values))} in these runs"
            )
    return kept


def line_labels(manifests: Mapping[str, Mapping[str, Any]], labels: Sequence[str] = ()) -> dict[str, str]:
    """Return what the line of each run is called: its label, and the settings in which like-named runs differ.

    Parameters
    ----------
    manifests : mapping
        By any key, of runs that are shown together.
    labels : sequence of str
        ``NAME=NEW``: other names for lines; ``NAME @ preset`` means the runs of one preset.

    Raises
    ------
    ResultsError
        If one is not of that form, or there is no such line.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, manifest in manifests.items():
        spec = manifest["spec"]
        key = str(spec["label"]), str(spec["preset"]), str(spec["dataset"])
        groups.setdefault(key, []).append(name)
    called: dict[str, str] = {}
    for (label, _, _), names in groups.items():
        settings = {name: settings_of(manifests[name]["spec"]) for name in names}
        keys = dict.fromkeys(key for one in settings.values() for key in one)
        varying = [key for key in keys if len({repr(one.get(key)) for one in settings.values()}) > 1]
        for name, one in settings.items():
            called[name] = with_settings(label, {key: one.get(key, "-") for key in varying})
    return renamed(called, manifests, labels)


def renamed(
    called: Mapping[str, str], manifests: Mapping[str, Mapping[str, Any]], labels: Sequence[str]
) -> dict[str, str]:
    """Give lines the names that were asked for."""
    new = dict(called)
    for text in labels:
        # a name may hold settings, as dmic[eps=0.5]
        stem, bracket, rest = text.rpartition("]")
        old, equals, wanted = rest.partition("=")
        old = f"{stem}{bracket}{old}".strip()
        if not (equals and old and wanted.strip() and wanted.isprintable()):
            raise ResultsError(f"--label {text}: expected NAME=NEW, for example 'dmic[eps=0.5]=small radius'")
        meant = [
            run
            for run, name in called.items()
            if old in (name, f"{name} @ {manifests[run]['spec']['preset']}")
        ]
        if not meant:
            raise ResultsError(
                f"--label {text}: no line {old!r}; there are {', '.join(sorted(set(called.values())))}"
            )
        new |= dict.fromkeys(meant, wanted.strip())
    return new
