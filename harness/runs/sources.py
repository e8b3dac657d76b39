"""The digest of a method's source: the code of its file and of every module of ours that it imports."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from pathlib import Path

from harness.runs.run_spec import canonical_json

UNCOUNTED = {"harness", "protocols", "results"}
"""Packages of ours that are no part of a method's source."""


def imported_modules(source: str, package: str) -> set[str]:
    """Name what a source text of `package` imports: modules, and attributes as if they were modules."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            dotted = "." * node.level + (node.module or "")
            start = importlib.util.resolve_name(dotted, package) if node.level else dotted
            names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def module_source(name: str) -> tuple[str, str] | None:
    """Return the source text of a module and its package, or None if there is no such module (an attribute, say)."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if found is None or not found.origin or not found.origin.endswith(".py"):
        return None
    return Path(found.origin).read_text(encoding="utf-8"), found.parent or ""


def source_digest(module: str) -> str:
    """Digest the source of `module` and, transitively, of what it imports from `methods` or from its own plug-in."""
    counted = {"methods", module.split(".")[0]} - UNCOUNTED
    texts: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        if name in texts or (found := module_source(name)) is None:
            continue
        texts[name] = found[0]
        queue.extend(m for m in imported_modules(*found) if m.split(".")[0] in counted)
    return hashlib.sha256(canonical_json(texts).encode()).hexdigest()
