"""Reads classes and their literal attributes off Python files without importing them."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

HEIR = re.compile(r"^class \w+\(", re.MULTILINE)
"""Beginning of a class that inherits from another."""


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


@functools.cache
def read_package(package: Path) -> tuple[tuple[ClassSource, ...], dict[Path, str]]:
    """Read the classes of a package and its sub-packages, once a process; those without an ancestor are left out.

    Returns
    -------
    classes : tuple of ClassSource
        In the order of files.
    faults : dict
        What is wrong with each file that is not Python, as one that somebody is writing.
    """
    classes, faults = list[ClassSource](), dict[Path, str]()
    for file in sorted(package.rglob("*.py")):
        if not HEIR.search(file.read_text(encoding="utf-8", errors="replace")):
            continue  # to parse all files takes half a second
        try:
            body = parse_module(file).body
        except HarnessError as error:
            faults[file] = str(error)
            continue
        module = module_name(package, file)
        classes += [ClassSource(module, file, node) for node in body if isinstance(node, ast.ClassDef)]
    return tuple(classes), faults


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
