"""The documents say what the code does: tables of settings, quirks, links.

``python -m tests.test_docs`` writes the tables of settings into docs/methods.md, and the table of methods into
the README.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from harness.registry import methods
from harness.tools.pages import choose, heading, method_markdown, method_rows

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
METHODS = ROOT / "docs" / "methods.md"
PACKAGES = ("harness", "methods", "protocols", "results", "tests")
MARKED = re.compile(r"<!-- settings: ([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)
Row = tuple[str, ...]


def own_methods() -> list[str]:
    """Names of the methods of this repository."""
    return [entry.name for entry in methods().values() if entry.origin == "reidbench"]


@cache
def rows_of(name: str) -> list[Row]:
    """Key, value on each data set, source and meaning of every setting of a method."""
    return [(*row[:-3], *row[-2:]) for row in method_rows(choose(name, "paper"))]


@cache
def shared_rows() -> list[Row]:
    """Rows that more than half of the methods have, word for word."""
    names = own_methods()
    counted = Counter(row for name in names for row in rows_of(name))
    return [row for row, count in counted.items() if 2 * count > len(names)]


def settings(name: str) -> str:
    """The Markdown table of a method, without the rows that most methods share; or of these."""
    shared = shared_rows()
    rows = shared if name == "shared" else [row for row in rows_of(name) if row not in shared]
    chosen = choose(own_methods()[0] if name == "shared" else name, "paper")
    datasets = [heading(chosen.method, dataset) for dataset in chosen.configs]
    header = ("setting", *datasets, "source", "meaning")
    lines = [header, ("---",) * len(header), *((f"`{key}`", *rest) for key, *rest in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_settings() -> None:
    """Write the tables of settings into docs/methods.md."""
    text = METHODS.read_text(encoding="utf-8")

    def block(match: re.Match[str]) -> str:
        return f"<!-- settings: {match[1]} -->\n{settings(match[1])}<!-- end -->"

    METHODS.write_text(MARKED.sub(block, text), encoding="utf-8")


def write_methods() -> None:
    """Write the table of methods into the README."""
    text = README.read_text(encoding="utf-8")
    start = text.index("| method | what it is |")
    README.write_text(
        text[:start] + method_markdown() + text[text.index("\n\n", start) + 1 :], encoding="utf-8"
    )


def sources(*suffixes: str) -> list[Path]:
    """Files of the packages, and the documents."""
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in suffixes]
    return found + ([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")] if ".md" in suffixes else [])


def anchors(path: Path) -> set[str]:
    """What a document's headings can be linked as."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_tables_of_settings_are_those_of_the_code() -> None:
    written = dict(MARKED.findall(METHODS.read_text(encoding="utf-8")))
    configured = [name for name in own_methods() if rows_of(name)]
    assert set(written) == {"shared", *configured}
    for name, table in written.items():
        assert table == settings(name), f"{name}: run python -m tests.test_docs"


def test_every_method_has_a_section() -> None:
    assert set(own_methods()) <= anchors(METHODS)


def test_every_quirk_that_is_named_has_a_section() -> None:
    known = anchors(ROOT / "docs" / "quirks.md")
    for path in sources(".py", ".md"):
        for number in re.findall(r"\bQ(\d+)\b", path.read_text(encoding="utf-8")):
            assert f"q{number}" in known, f"{path.relative_to(ROOT)} names quirk Q{number}"


@pytest.mark.parametrize("path", sources(".md"), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", path.read_text(encoding="utf-8")):
        file = (path.parent / target) if target else path
        assert file.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{path.name} links to {target}#{anchor}"


def test_documents_that_are_cited_exist() -> None:
    for path in sources(".py", ".md"):
        for cited in re.findall(r"docs/[\w-]+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / cited).is_file(), f"{path.relative_to(ROOT)} cites {cited}"


if __name__ == "__main__":
    write_settings()
    write_methods()
