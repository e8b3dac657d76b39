"""Rows of papers between our own: as printed, with a footnote for each source."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from results.sheets.naming import group_of, venue_text
from results.sheets.values import NO_VALUE, Place, Row, Value, Wanted

NUMBERS = {"rank-1": "rank1", "rank-10": "rank10", "rank-20": "rank20", "mAP": "mAP", "mINP": "mINP"}
"""Metric -> column of the published figures."""
KINDS = {
    "paper-page": "own figures",
    "other-paper-table": "as cited in",
    "readme": "README of",
    "training-log": "released log of",
}
PUBLISHED_NOTE = (
    "Rows with a mark are copied as printed from the source that it names; seeds, lists and the choice of an epoch "
    "are its own."
)
RERANKING = "re-ranking"


def source_text(row: Mapping[Hashable, str]) -> str:
    """Return a footnote: kind of source, source and the place in it."""
    name = row["source"]
    if re.fullmatch(r"\d{4}\.\d{4,5}(v\d+)?", name):
        name = f"arXiv {name}"
    kind = KINDS.get(row["source_kind"], row["source_kind"])
    joined = f"{kind}, {name}" if row["source_kind"] == "paper-page" else f"{kind} {name}"
    return f"{joined}: {row['quote_locator']}"


def is_ablation(figures: pd.DataFrame) -> pd.Series:
    """Say which figures are rows of an ablation."""
    return figures["note"].str.contains("ablation: ", regex=False)


def by_method(figures: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the figures of each row: of a method, by source where two sources give different ones."""
    for _, part in figures.groupby(["method", "year", "venue", "supervision"], sort=False):
        if part.duplicated(["protocol", "setting"]).any():
            yield from (one for _, one in part.groupby("source", sort=False))
        else:
            yield part


def value_of(text: str) -> Value:
    """Return a printed number."""
    return Value(float(text), printed=text) if text else NO_VALUE


def paper_row(part: pd.DataFrame, places: Sequence[Place], wanted: Wanted) -> Row:
    """Return the row of one method's figures; its marks are the texts of its sources."""
    at = {(row["protocol"], row["setting"]): row for row in part.to_dict("records")}
    values = []
    for place in places:
        row = at.get(place, {})
        values += [value_of(row.get(NUMBERS.get(name, ""), "")) for name in wanted.metrics]
        values += [NO_VALUE] if wanted.against else []
    first = part.iloc[0]
    texts = {
        "method": first["method"],
        "venue": venue_text(first["venue"], first["year"]),
        "year": first["year"],
        RERANKING: " / ".join(dict.fromkeys(part[RERANKING][part[RERANKING] != ""])),
    }
    sources = tuple(dict.fromkeys(source_text(row) for row in part.to_dict("records")))
    return Row(group_of(first["supervision"]), texts, tuple(values), sources)


def paper_rows(figures: pd.DataFrame, places: Sequence[Place], wanted: Wanted) -> list[Row]:
    """Return the papers' rows for some places; a row of an ablation belongs to another table."""
    keys = pd.MultiIndex.from_frame(figures[["protocol", "setting"]])
    chosen = figures[keys.isin(places) & ~is_ablation(figures)]
    return [paper_row(part, places, wanted) for part in by_method(chosen)]


def letters(number: int) -> str:
    """Return a, b, ... z, aa, ab ... for 0, 1, ..."""
    text = ""
    while number >= 0:
        text = chr(ord("a") + number % 26) + text
        number = number // 26 - 1
    return text


def footnoted(rows: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
    """Give every source a letter: rows that point at them, and what the letters stand for."""
    sources = sorted({source for row in rows for source in row.marks})
    mark = {source: letters(i) for i, source in enumerate(sources)}
    marked = [replace(row, marks=tuple(mark[source] for source in row.marks)) for row in rows]
    return marked, {letter: source for source, letter in mark.items()}


def reranking(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the column of re-ranking if some source says that it re-ranked, else a sentence in its place."""
    if any(row.texts[RERANKING] not in ("", "no") for row in rows):
        return [RERANKING], []
    stated = [row.texts["method"] for row in rows if row.texts[RERANKING] == "no"]
    said = f"; {', '.join(stated)} says that it did not" if stated else ""
    return [], [f"Nothing measured here is re-ranked, and no source of these rows says that it was{said}."]
