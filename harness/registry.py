"""Names to methods, data sets and protocols.

Ours are found by reading the files of `methods/` and `protocols/` without importing them, so that listing needs no
torch; others come through entry points.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from harness.errors import HarnessError

if TYPE_CHECKING:
    from methods.base import Method
    from protocols.base import Dataset, Protocol

CODE = Path(__file__).parents[1]
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
    error: str = ""


@dataclass(frozen=True)
class ClassSource:
    """A class statement and where it stands."""

    module: str
    file: Path
    node: ast.ClassDef


def parse_module(file: Path) -> ast.Module:
    """Parse a file without running it."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except SyntaxError as error:
        raise HarnessError(f"{file}, line {error.lineno}: not valid Python: {error.msg}") from error


def classes_of(package: Path) -> tuple[ClassSource, ...]:
    """Return the classes of a package and of its sub-packages, in the order of files."""
    return tuple(
        ClassSource(module_name(package, file), file, node)
        for file in sorted(package.rglob("*.py"))
        for node in parse_module(file).body
        if isinstance(node, ast.ClassDef)
    )


def module_name(package: Path, file: Path) -> str:
    """Return what a file of a package is imported as."""
    parts = (package.name, *file.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def assignments(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a class body assigns to, and the values."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement.value
        elif (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
        ):
            yield statement.target.id, statement.value


def last_name(expression: ast.expr) -> str:
    """Return ``Method`` of ``base.Method[Config]``."""
    return ast.unparse(expression).split("[")[0].split("(")[0].split(".")[-1]


def lineage(source: ClassSource, classes: Sequence[ClassSource]) -> list[ClassSource]:
    """Return a class and those it inherits from, as far as they are among `classes`, the nearest first."""
    line = [source]
    for base in source.node.bases:
        ancestor = find_class(last_name(base), source.module, classes)
        if ancestor is not None:
            line += lineage(ancestor, classes)
    return line


def find_class(name: str, module: str, classes: Sequence[ClassSource]) -> ClassSource | None:
    """Find a class by its name, that of `module` before those of others."""
    named = [source for source in classes if source.node.name == name]
    return next((source for source in named if source.module == module), next(iter(named), None))


def attributes(source: ClassSource, classes: Sequence[ClassSource]) -> dict[str, Any]:
    """Return a class's attributes, inherited ones included, that are literals, or ``name`` of an instance.

    ``dataset = MyData()`` gives the attribute ``name`` of that class.
    """
    values: dict[str, Any] = {}
    for ancestor in reversed(lineage(source, classes)):
        for name, expression in assignments(ancestor.node):
            if isinstance(expression, ast.Call):
                made = find_class(last_name(expression.func), ancestor.module, classes)
                values[name] = attributes(made, classes).get("name") if made else None
                continue
            try:
                values[name] = ast.literal_eval(expression)
            except (ValueError, TypeError):
                values.pop(name, None)
    return values


def scan(kind: Kind) -> list[Entry]:
    """Find the classes of our package that inherit from the contract and name themselves.

    Raises
    ------
    HarnessError
        If a file is not Python, or a class lacks what a listing shows; says where.
    """
    classes = classes_of(CODE / kind.package)
    entries = []
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
            entries.append(Entry(values[kind.key], values["summary"], target, "reidbench", **about))
    return entries


def further(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what entries of that kind hold beside name, summary and place."""
    wanted = {METHOD: ("supervision",), DATASET: ("alias", "unions"), PROTOCOL: ("dataset", "extra")}[kind]
    return {name: values[name] for name in wanted if name in values}


def require(cls: Any, contract: type, target: str) -> None:
    """Raise unless `cls` is a class of the contract."""
    if not (isinstance(cls, type) and issubclass(cls, contract)):
        raise TypeError(f"{target} is not a subclass of {contract.__module__}.{contract.__name__}")


def load_plugins(kind: Kind) -> list[Entry]:
    """Load the classes behind an entry point group; a broken one keeps its error and its package's name."""
    return [plugin_entry(point, kind) for point in entry_points(group=kind.group)]


def plugin_entry(point: EntryPoint, kind: Kind) -> Entry:
    """Return the entry of one plug-in."""
    origin = point.dist.name if point.dist else "an unnamed package"
    try:
        cls = point.load()
        require(cls, kind.contract_class(), point.value)
        values = {n: getattr(cls, n) for n in TOLD if hasattr(cls, n)}
        if kind is PROTOCOL:
            values["dataset"] = cls.dataset.name
        names = getattr(cls, kind.key), cls.summary
        if odd := [text for text in names if not (isinstance(text, str) and text.isprintable())]:
            raise TypeError(f"its {kind.key} or summary is {odd[0]!a}, no printable text")
        return Entry(*names, point.value, origin, **further(kind, values))
    except (Exception, SystemExit) as error:
        reason = f"the package {origin} is broken: {type(error).__name__}: {error}"
        return Entry(point.name, "", point.value, origin, error=reason)


def unique(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Index entries by name.

    Raises
    ------
    HarnessError
        If two have one name; says where both are.
    """
    by_name: dict[str, Entry] = {}
    for entry in entries:
        if other := by_name.get(entry.name):
            raise HarnessError(
                f"the name {entry.name!r} is taken twice: by {other.target} ({other.origin}) and "
                f"{entry.target} ({entry.origin}); rename one or uninstall its package"
            )
        by_name[entry.name] = entry
    return by_name


@functools.cache
def registered(kind: Kind) -> Mapping[str, Entry]:
    """Return everything of a kind by name, ours first; read at the first call."""
    return MappingProxyType(unique([*scan(kind), *load_plugins(kind)]))


def forget() -> None:
    """Read files and entry points again at the next call; for tests that install something."""
    registered.cache_clear()


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
