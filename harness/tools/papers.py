"""What tables need to know of methods, read off their files without importing torch."""

from __future__ import annotations

import ast
import functools
from typing import Any

from harness.registry import CODE, Entry, assignments, datasets, load_method, methods, parse_module, protocols
from results.sheets import Paper

OURS = "reidbench"


@functools.cache
def paper_of(method: str) -> Paper:
    """Return what a method is called, where it was published and its ablations; the name alone of an unknown one."""
    entry = methods().get(method)
    if entry is None or entry.error:
        return Paper(method)
    if entry.origin == OURS:
        return paper_in(entry)
    cls = load_method(method)
    return paper(method, cls.written, cls.reference.venue, cls.reference.year, cls.ablations)


def titles() -> dict[str, str]:
    """Return what data sets are called: the beginnings of their summaries."""
    return {name: beginning(entry.summary) for name, entry in datasets().items()}


def headings() -> dict[str, str]:
    """Return what protocols are called beside their data set, where it has several."""
    known, found = titles(), {}
    for name, entry in protocols().items():
        words = beginning(entry.summary).removeprefix(known.get(entry.dataset, "")).lstrip(", ")
        if words:
            found[name] = words[:1].upper() + words[1:]
    return found


def beginning(summary: str) -> str:
    """Return what stands before the colon of a summary."""
    return summary.partition(":")[0]


def paper(method: str, written: Any, venue: str, year: int, ablations: Any) -> Paper:
    """Return a method's names, place and ablations; `written` is one name, or names by variant."""
    names = {"": written} if isinstance(written, str) else dict(written)
    return Paper(names.pop("", "") or method, venue, year, ablations, names)


def paper_in(entry: Entry) -> Paper:
    """Read what the file of one of our methods says."""
    module, _, name = entry.target.partition(":")
    tree = parse_module(CODE.joinpath(*module.split(".")).with_suffix(".py"))
    node = next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name)
    values = dict(assignments(node))
    reference = values.get("reference")
    keywords = reference.keywords if isinstance(reference, ast.Call) else []
    stated = {one.arg: one.value.value for one in keywords if isinstance(one.value, ast.Constant)}
    return paper(
        entry.name,
        literal(values.get("written"), ""),
        str(stated.get("venue", "")),
        int(str(stated.get("year", 0))),
        literal(values.get("ablations"), {}),
    )


def literal(expression: ast.expr | None, default: Any) -> Any:
    """Return the value of a literal."""
    return default if expression is None else ast.literal_eval(expression)
