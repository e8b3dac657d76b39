"""Names to methods, data sets and protocols.

Ours are found by reading the files of `methods/` and `protocols/` without importing them, so that listing needs no
torch; others come through entry points.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from harness.errors import HarnessError
from harness.reading import assignments, attributes, lineage, read_package

if TYPE_CHECKING:
    from methods.base import Method
    from protocols.base import Dataset, Protocol

CODE = Path(__file__).parents[1]
OURS = "reidbench"
TOLD = ("supervision", "alias", "unions", "extra")


@dataclass(frozen=True)
class Kind:
    """What can be registered.

    Attributes
    ----------
    what : str
        How messages call it.
    package, contract : str
        Ours are in this package, and inherit from this class of its module `base`.
    key : str
        Attribute that names them; a class without it is no entry.
    """

    what: str
    package: str
    contract: str
    key: str

    @property
    def group(self) -> str:
        """The entry point group of other packages."""
        return f"reidbench.{self.what.replace(' ', '')}s"

    def contract_class(self) -> type:
        """Import the contract."""
        return cast(type, getattr(importlib.import_module(f"{self.package}.base"), self.contract))


METHOD = Kind("method", "methods", "Method", "name")
DATASET = Kind("data set", "protocols", "Dataset", "name")
PROTOCOL = Kind("protocol", "protocols", "Protocol", "id")


@dataclass(frozen=True)
class Entry:
    """A registered class: where it is, and what its file says of it without being imported.

    Attributes
    ----------
    target : str
        ``module:class``.
    origin : str
        The package it comes from.
    supervision : str
        Of a method.
    dataset, extra
        Of a protocol: the name of its data set, and whether tables have it only on request.
    alias, unions
        Of a data set: its shorter name, and names that stand for several of its protocols.
    version : str
        Of a plug-in's package.
    error : str
        Why a plug-in cannot be used; empty if it can.
    """

    name: str
    summary: str
    target: str
    origin: str
    supervision: str = "usl"
    dataset: str = ""
    extra: bool = False
    alias: str = ""
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    version: str = ""
    error: str = ""


def scan(kind: Kind) -> list[Entry]:
    """Find the classes of our package that inherit from the contract and name themselves.

    A file that is not Python, as one that is being written, is an entry of its own that cannot be used.

    Raises
    ------
    HarnessError
        If a class lacks what a listing shows; says where.
    """
    classes, faults = read_package(CODE / kind.package)
    entries = [
        Entry(file.stem, "", f"{kind.package}.{file.stem}", OURS, error=said) for file, said in faults.items()
    ]
    for source in classes:
        names_itself = any(name == kind.key for name, _ in assignments(source.node))
        if names_itself and kind.contract in {one.node.name for one in lineage(source, classes)}:
            values = attributes(source, classes)
            needed = (kind.key, "summary", *(("dataset",) if kind is PROTOCOL else ()))
            if lacking := [name for name in needed if not isinstance(values.get(name), str)]:
                raise HarnessError(
                    f"{source.file}, line {source.node.lineno}: class {source.node.name} lacks the attribute "
                    f"`{lacking[0]}`, or it cannot be read off the file"
                )
            target, about = f"{source.module}:{source.node.name}", further(kind, values)
            entries.append(Entry(values[kind.key], values["summary"], target, OURS, **about))
    return entries


def further(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what entries of that kind hold beside name, summary and place."""
    wanted = {METHOD: ("supervision",), DATASET: ("alias", "unions"), PROTOCOL: ("dataset", "extra")}[kind]
    return {name: values[name] for name in wanted if name in values}


def require(cls: Any, kind: Kind, target: str) -> None:
    """Raise unless `cls` is a class of the contract that has all of it."""
    contract = kind.contract_class()
    if not (isinstance(cls, type) and issubclass(cls, contract)):
        raise TypeError(f"{target} is not a subclass of {contract.__module__}.{contract.__name__}")
    if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
        raise TypeError(
            f"{target} lacks the method{'s' * (len(lacking) > 1)} {', '.join(lacking)} of the contract"
        )
    needed = (kind.key, "summary", *(("dataset",) if kind is PROTOCOL else ()))
    if absent := [name for name in needed if not hasattr(cls, name)]:
        raise TypeError(f"{target} lacks the attribute{'s' * (len(absent) > 1)} {', '.join(absent)}")


def class_in(loaded: Any, kind: Kind, target: str) -> Any:
    """Return the class that an entry point means: itself, or the one of the contract that its module defines."""
    if not isinstance(loaded, ModuleType):
        return loaded
    contract = kind.contract_class()
    found = [
        one
        for one in vars(loaded).values()
        if isinstance(one, type)
        and issubclass(one, contract)
        and one.__module__ == loaded.__name__
        and kind.key in vars(one)
    ]
    if len(found) != 1:
        names = ", ".join(one.__name__ for one in found) or "none"
        raise TypeError(
            f"{target} is a module with {names} for a {kind.what}; name one class, as {target}:{kind.contract}"
        )
    return found[0]


def load_plugins(kind: Kind) -> list[Entry]:
    """Load the classes behind an entry point group; a broken one keeps its error and its package's name."""
    return [plugin_entry(point, kind) for point in entry_points(group=kind.group)]


def plugin_entry(point: EntryPoint, kind: Kind) -> Entry:
    """Return the entry of one plug-in."""
    origin = point.dist.name if point.dist else "an unnamed package"
    version = point.dist.version if point.dist else ""
    try:
        cls = class_in(point.load(), kind, point.value)
        require(cls, kind, point.value)
        values = {n: getattr(cls, n) for n in TOLD if hasattr(cls, n)}
        if kind is PROTOCOL:
            values["dataset"] = cls.dataset.name
        names = getattr(cls, kind.key), cls.summary
        if odd := [text for text in names if not (isinstance(text, str) and text.isprintable())]:
            raise TypeError(f"its {kind.key} or summary is {odd[0]!a}, no printable text")
        target = f"{cls.__module__}:{cls.__qualname__}"
        return Entry(*names, target, origin, version=version, **further(kind, values))
    except (Exception, SystemExit) as error:
        reason = f"the package {origin} is broken: {type(error).__name__}: {error}"
        return Entry(point.name, "", point.value, origin, version=version, error=reason)


def unique(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Index entries by name; of two plug-ins with one name neither can be used, and one of ours stays what it is.

    Raises
    ------
    HarnessError
        If two of ours have one name; says where both are.
    """
    by_name: dict[str, Entry] = {}
    for entry in entries:
        other = by_name.get(entry.name)
        if other is None:
            by_name[entry.name] = entry
            continue
        said = (
            f"the name {entry.name!r} is taken twice: by {other.target} ({other.origin}) and "
            f"{entry.target} ({entry.origin}); rename one or uninstall its package"
        )
        if entry.origin == OURS:
            raise HarnessError(said)
        if other.origin != OURS:
            by_name[entry.name] = replace(other, error=other.error or said)
        shown = f"{entry.name} ({entry.origin})"
        by_name[shown] = replace(entry, name=shown, error=entry.error or said)
    return by_name


@functools.cache
def registered(kind: Kind) -> Mapping[str, Entry]:
    """Return everything of a kind by name, ours first; read at the first call."""
    return MappingProxyType(unique([*scan(kind), *load_plugins(kind)]))


def forget() -> None:
    """Read files and entry points again at the next call; for tests that install something."""
    registered.cache_clear()
    read_package.cache_clear()


def methods() -> Mapping[str, Entry]:
    """Return every method by name, ours first."""
    return registered(METHOD)


def datasets() -> Mapping[str, Entry]:
    """Return every data set by name, those that most protocols measure on first."""
    measured = Counter(entry.dataset for entry in protocols().values())
    known = registered(DATASET)
    return {name: known[name] for name in sorted(known, key=lambda name: -measured[name])}


def protocols() -> Mapping[str, Entry]:
    """Return every protocol by id, ours first."""
    return registered(PROTOCOL)


def unions() -> dict[str, tuple[str, ...]]:
    """Return the names that stand for several protocols of one data set."""
    return {name: tuple(ids) for entry in datasets().values() for name, ids in entry.unions.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant, or list them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"


def load(name: str, kind: Kind, entries: Mapping[str, Entry]) -> Any:
    """Import the class of an entry.

    Raises
    ------
    HarnessError
        If there is no such name (says the nearest), or its plug-in is broken (says whose).
    """
    if name not in entries:
        raise HarnessError(f"unknown {kind.what} {name!r}: {nearest(name, entries)}")
    entry = entries[name]
    if entry.error:
        raise HarnessError(f"{kind.what} {name!r} cannot be used: {entry.error}")
    module, _, attribute = entry.target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_method(name: str) -> type[Method]:
    """Return the class of a method."""
    return cast("type[Method]", load(name, METHOD, methods()))


def load_dataset(name: str) -> Dataset:
    """Return the data set of that name or alias."""
    known = datasets()
    by_alias = {entry.alias: entry.name for entry in known.values() if entry.alias}
    return cast("Dataset", load(by_alias.get(name, name), DATASET, known)())


def load_datasets() -> tuple[Dataset, ...]:
    """Return every data set that can be used."""
    known = datasets()
    return tuple(load(entry.name, DATASET, known)() for entry in known.values() if not entry.error)


def load_protocols(name: str) -> tuple[Protocol, ...]:
    """Return the protocol of that id, or those that a union (as ``sysu``) stands for."""
    known, several = protocols(), unions()
    if name not in known and name not in several:
        raise HarnessError(f"unknown protocol {name!r}: {nearest(name, [*known, *several])}")
    return tuple(load(member, PROTOCOL, known)() for member in several.get(name, (name,)))


def protocols_of(dataset: str) -> tuple[Protocol, ...]:
    """Return every protocol of the data set of that name."""
    known = protocols()
    return tuple(
        load(e.name, PROTOCOL, known)() for e in known.values() if e.dataset == dataset and not e.error
    )
