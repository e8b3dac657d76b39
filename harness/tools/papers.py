"""What tables need to know of methods, read off their files without importing torch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.reading import assignments, parse_module
from harness.registry import CODE, OURS, Entry, datasets, load_method, methods, protocols

if TYPE_CHECKING:
    from results.sheets import Paper


@functools.cache
def paper_of(method: str) -> Paper:
    """Return what a method is called, where it was published and its ablations; the name alone of an unknown one."""
    entry = methods().get(method)
    if entry is None or entry.error:
        return paper(method, "", "", 0, {})
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
    from results.sheets import Paper  # pandas is beside it, of which `cite` has no need

    names = {"": written} if isinstance(written, str) else dict(written)
    return Paper(names.pop("", "") or method, venue, year, ablations, names)


def paper_in(entry: Entry) -> Paper:
    """Read what the file of one of our methods says."""
    values = stated_attributes(entry)
    said = reference_of(values)
    return paper(
        entry.name,
        literal(values.get("written"), ""),
        str(said.get("venue", "")),
        int(str(said.get("year", 0))),
        literal(values.get("ablations"), {}),
    )


def stated_attributes(entry: Entry) -> dict[str, ast.expr]:
    """Return what the class of one of our methods assigns to its attributes."""
    module, _, name = entry.target.partition(":")
    tree = parse_module(CODE.joinpath(*module.split(".")).with_suffix(".py"))
    node = next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name)
    return dict(assignments(node))


def reference_of(values: Mapping[str, ast.expr]) -> dict[str, Any]:
    """Return what the call of ``Reference`` in a class states by constants."""
    call = values.get("reference")
    if not isinstance(call, ast.Call):
        return {}
    names = ("title", "venue", "year")
    given = [*zip(names, call.args, strict=False), *((one.arg, one.value) for one in call.keywords)]
    return {str(name): value.value for name, value in given if isinstance(value, ast.Constant)}


def reference_words(method: str) -> dict[str, str]:
    """Return title, venue, year and url of a method's paper; empty for an unknown or broken one."""
    entry = methods().get(method)
    if entry is None or entry.error:
        return {}
    if entry.origin == OURS:
        said = reference_of(stated_attributes(entry))
    else:
        reference = load_method(method).reference
        said = {name: getattr(reference, name) for name in ("title", "venue", "year", "url")}
    return {name: str(value) for name, value in said.items() if value}


def literal(expression: ast.expr | None, default: Any) -> Any:
    """Return the value of a literal."""
    return default if expression is None else ast.literal_eval(expression)
