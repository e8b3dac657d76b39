"""The digest of a method's code: of its file, and of every module of `methods` that it imports.

What cannot move a number is left out, so that editing it orphans no run: comments and layout, docstrings, what a
class says of itself (:data:`TOLD`), and module constants that nothing but such a text or a preset used. Presets
need no digest: a run's identity holds the configuration that they resolve to.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from harness.runs.run_spec import canonical_json

UNCOUNTED = {"harness", "protocols", "results"}
"""Packages of ours that are no part of a method's source."""
TOLD = {"ablations", "presets", "reference", "sources", "summary", "written"}
"""Class attributes that no number depends on."""


def source_digest(module: str) -> str:
    """Digest the code of `module` and, transitively, of what it imports from `methods` or from its own plug-in."""
    counted = {"methods", module.split(".")[0]} - UNCOUNTED
    texts: dict[str, list[str]] = {}
    for piece in needed(reachable(module, counted)):
        texts.setdefault(piece.module, []).append(piece.text)
    return hashlib.sha256(canonical_json(texts).encode()).hexdigest()


@dataclass(frozen=True)
class Piece:
    """A statement of a module; one for each name that it imports.

    Attributes
    ----------
    gives : frozenset of str
        Names that it gives to the module, if it does nothing else.
    reads : frozenset of str
        Names that it reads.
    attributes : frozenset of str
        Attributes that it reads, of whatever they are: perhaps of another module.
    imports : frozenset of (str, str)
        Modules and the names that it imports from them.
    """

    module: str
    statement: ast.stmt
    gives: frozenset[str]
    reads: frozenset[str]
    attributes: frozenset[str]
    imports: frozenset[tuple[str, str]]

    @cached_property
    def text(self) -> str:
        """The statement without comments and layout."""
        return ast.unparse(self.statement)


def reachable(module: str, counted: set[str]) -> list[Piece]:
    """Read a module and all that it imports from the packages that count."""
    pieces: list[Piece] = []
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name in seen or (source := module_source(name)) is None:
            continue
        seen.add(name)
        found, imported = read_module(name, *source)
        queue.extend(m for m in imported if m.split(".")[0] in counted)
        pieces += found
    return pieces


@cache
def read_module(name: str, text: str, package: str) -> tuple[list[Piece], set[str]]:
    """Return the pieces of a module, and what it imports; methods share most modules, so a text is read once."""
    tree = ast.parse(text)
    imported = imported_modules(tree, package)
    body = [part for statement in OnlyCode().visit(tree).body for part in parts_of(statement)]
    return [piece_of(statement, name, package) for statement in body], imported


def needed(pieces: list[Piece]) -> list[Piece]:
    """Leave out the constants and imported names that nothing uses, and then what only they used."""
    while True:
        anywhere = {name for piece in pieces for name in piece.attributes}
        used: dict[str, set[str]] = {piece.module: set(anywhere) for piece in pieces}
        for piece in pieces:
            used[piece.module].update(piece.reads)
            for module, name in piece.imports:
                used.setdefault(module, set()).add(name)
        kept = [piece for piece in pieces if not piece.gives or piece.gives & used[piece.module]]
        if len(kept) == len(pieces):
            return kept
        pieces = kept


def parts_of(statement: ast.stmt) -> list[ast.stmt]:
    """Split an import into one for each name."""
    if isinstance(statement, ast.Import):
        return [ast.Import([alias]) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        return [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    return [statement]


def piece_of(statement: ast.stmt, module: str, package: str) -> Piece:
    """Say what a statement gives to its module, uses and imports."""
    nodes = list(ast.walk(statement))
    reads = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    imports = {
        (origin(node, package), alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return Piece(
        module=module,
        statement=statement,
        gives=frozenset(names_given(statement)),
        reads=frozenset(reads),
        attributes=frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute)),
        imports=frozenset(imports),
    )


def names_given(statement: ast.stmt) -> list[str]:
    """Return the names that a statement gives by assigning or importing; none if it may do anything else."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = [alias.asname or alias.name.split(".")[0] for alias in statement.names]
        return names if "*" not in names else []
    return names_assigned(statement)


class OnlyCode(ast.NodeTransformer):
    """Leaves out docstrings, other texts that stand alone, and what classes say of themselves."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop a text that stands alone."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Drop the attributes that no number depends on."""
        node.body = [part for part in node.body if not TOLD.intersection(names_assigned(part))]
        return self._filled(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drop the docstring."""
        return self._filled(node)

    def _filled(self, node: ast.ClassDef | ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node


def names_assigned(statement: ast.stmt) -> list[str]:
    """Return the names that a statement assigns to; none if it does anything else."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else []


def origin(node: ast.ImportFrom, package: str) -> str:
    """Return the absolute name of the module that a statement of `package` imports from."""
    dotted = "." * node.level + (node.module or "")
    return importlib.util.resolve_name(dotted, package) if node.level else dotted


def imported_modules(tree: ast.Module, package: str) -> set[str]:
    """Name what a module of `package` imports: modules, and attributes as if they were modules."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            start = origin(node, package)
            names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def module_source(name: str) -> tuple[str, str] | None:
    """Return the source text of a module and its package, or None if there is no such module (an attribute, say)."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).read_text(encoding="utf-8"), spec.parent or ""
