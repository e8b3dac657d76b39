"""Names to methods and protocols. Ours are found by reading the files of `methods/` and `protocols/` without
importing them, so that listing needs no torch; others come through entry points.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    from methods.base import Method
    from protocols.base import Protocol

UNIONS = {"sysu": ("sysu-all", "sysu-indoor"), "sysu-official": ("sysu-all-official", "sysu-indoor-official")}
"""Names that stand for several protocols of one data set."""


def method_contract() -> type:
    """Return the base class of methods."""
    return importlib.import_module("methods.base").Method


def protocol_contract() -> type:
    """Return the base class of protocols."""
    return importlib.import_module("protocols.base").Protocol


CONTRACTS = {"reidbench.methods": method_contract, "reidbench.protocols": protocol_contract}


@dataclass(frozen=True)
class Entry:
    """A registered class: where it is, and what its file says of it without being imported.

    Attributes
    ----------
    error : str
        Why a plug-in cannot be used; empty if it can.
    """

    name: str
    summary: str
    target: str
    origin: str
    supervision: str = "usl"
    dataset: str = ""
    error: str = ""


def class_constants(node: ast.ClassDef) -> dict[str, Any]:
    """Return the class attributes that are plain constants."""
    found = {}
    for statement in node.body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        value = getattr(statement, "value", None)
        if targets and isinstance(targets[0], ast.Name) and isinstance(value, ast.Constant):
            found[targets[0].id] = value.value
    return found


def parsed(file: Path) -> ast.Module:
    """Parse a file without running it."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except SyntaxError as error:
        raise HarnessError(f"{file}, line {error.lineno}: not valid Python: {error.msg}") from error


def lineage(node: ast.ClassDef, classes: Mapping[str, tuple[Path, ast.ClassDef]]) -> list[ast.ClassDef]:
    """Return a class and those it inherits from, as far as they are in `classes`, the nearest first."""
    names = [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
    bases = [classes[name][1] for name in names if name in classes]
    return [node, *(ancestor for base in bases for ancestor in lineage(base, classes))]


def scan(package: str, key: str, contract: str) -> list[Entry]:
    """Find the classes of a package's files that inherit from `contract` and name themselves by the attribute `key`.

    Raises
    ------
    HarnessError
        If a file is not Python, or a class lacks its summary; says where.
    """
    folder = Path(__file__).parents[1] / package
    classes = {
        node.name: (file, node)
        for file in sorted(folder.rglob("*.py"))
        for node in parsed(file).body
        if isinstance(node, ast.ClassDef)
    }
    entries = []
    for file, node in classes.values():
        line = lineage(node, classes)
        if key not in class_constants(node) or contract not in {ancestor.name for ancestor in line}:
            continue
        constants = dict(ChainMap(*map(class_constants, line)))
        if "summary" not in constants:
            raise HarnessError(f"{file}, line {node.lineno}: class {node.name} lacks the attribute `summary`")
        entries.append(
            Entry(
                name=constants[key],
                summary=constants["summary"],
                target=f"{package}.{file.stem}:{node.name}",
                origin="reidbench",
                supervision=constants.get("supervision", "usl"),
                dataset=constants.get("dataset", ""),
            )
        )
    return entries


def plugged(group: str, key: str) -> list[Entry]:
    """Load the classes behind an entry point group; a broken one keeps its error and its package's name."""
    return [plugged_entry(point, key) for point in entry_points(group=group)]


def require(cls: Any, contract: type, target: str) -> None:
    """Raise unless `cls` is a class of the contract."""
    if not (isinstance(cls, type) and issubclass(cls, contract)):
        raise TypeError(f"{target} is not a subclass of {contract.__module__}.{contract.__name__}")


def plugged_entry(point: EntryPoint, key: str) -> Entry:
    """Return the entry of one plug-in."""
    origin = point.dist.name if point.dist else "an unnamed package"
    try:
        cls = point.load()
        require(cls, CONTRACTS[point.group](), point.value)
        return Entry(
            name=getattr(cls, key),
            summary=cls.summary,
            target=point.value,
            origin=origin,
            supervision=getattr(cls, "supervision", "usl"),
            dataset=getattr(cls, "dataset", ""),
        )
    except Exception as error:
        reason = f"the package {origin} is broken: {type(error).__name__}: {error}"
        return Entry(point.name, "", point.value, origin, error=reason)


def unique(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Index entries by name.

    Raises
    ------
    HarnessError
        If two have one name; says where both are.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in found:
            other = found[entry.name]
            raise HarnessError(
                f"the name {entry.name!r} is taken twice: by {other.target} ({other.origin}) and "
                f"{entry.target} ({entry.origin}); rename one or uninstall its package"
            )
        found[entry.name] = entry
    return found


def methods() -> dict[str, Entry]:
    """Return every method by name, ours first."""
    return unique([*scan("methods", "name", "Method"), *plugged("reidbench.methods", "name")])


def protocols() -> dict[str, Entry]:
    """Return every protocol by id, ours first."""
    return unique([*scan("protocols", "id", "Protocol"), *plugged("reidbench.protocols", "id")])


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant, or list them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"


def load(name: str, kind: str, entries: dict[str, Entry]) -> Any:
    """Import the class of an entry.

    Raises
    ------
    HarnessError
        If there is no such name (says the nearest), or its plug-in is broken (says whose).
    """
    if name not in entries:
        raise HarnessError(f"unknown {kind} {name!r}: {nearest(name, entries)}")
    entry = entries[name]
    if entry.error:
        raise HarnessError(f"{kind} {name!r} cannot be used: {entry.error}")
    module, _, attribute = entry.target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_method(name: str) -> type[Method]:
    """Return the class of a method."""
    cls: type[Method] = load(name, "method", methods())
    return cls


def load_protocols(name: str) -> tuple[Protocol, ...]:
    """Return the protocol of that id, or those that a union (``sysu``) stands for."""
    known = protocols()
    if name not in known and name not in UNIONS:
        raise HarnessError(f"unknown protocol {name!r}: {nearest(name, [*known, *UNIONS])}")
    return tuple(load(member, "protocol", known)() for member in UNIONS.get(name, (name,)))


def protocols_of(dataset: str) -> tuple[Protocol, ...]:
    """Return every protocol of a data set."""
    known = protocols()
    return tuple(
        load(e.name, "protocol", known)() for e in known.values() if e.dataset == dataset and not e.error
    )
