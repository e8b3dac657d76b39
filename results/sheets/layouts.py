"""Rows put together to tables: the settings of a data set side by side, or the parts of a method ticked off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from results.captions import deviation, lists_of, warnings_of
from results.comparable import check_rows
from results.errors import ResultsError
from results.sheets.ablations import Study, outside_words, paper_study_rows, studies, study_rows
from results.sheets.naming import group_rank
from results.sheets.own_rows import (
    ATTRIBUTES,
    Line,
    Papers,
    columns_of,
    lines_of,
    own_row,
    places_of,
    told_apart,
    with_differences,
    with_places,
)
from results.sheets.published_rows import PUBLISHED_NOTE, footnoted, paper_rows, reranking
from results.sheets.values import DIFFERENCE, Place, Row, Sheet, Wanted
from results.store import Run, collect


@dataclass(frozen=True)
class Made:
    """The rows of a table before they are ordered: ours, with the lines that they are of, and papers'."""

    ours: Sequence[Row]
    lines: Sequence[Line]
    theirs: Sequence[Row]

    @property
    def synthetic(self) -> bool:
        """Whether ours are of synthetic data."""
        return self.ours[0].texts["data"] == "synthetic"

    def varying(self) -> list[str]:
        """Return the attributes that differ between our rows."""
        return [name for name in ATTRIBUTES if len({row.texts[name] for row in self.ours}) > 1]


def methods_by(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the methods of each text, each once and separated by commas, of pairs of a text and a method."""
    found: dict[str, list[str]] = {}
    for text, method in pairs:
        found.setdefault(text, []).append(method)
    return {text: ", ".join(dict.fromkeys(methods)) for text, methods in found.items()}


def deviations_said(ours: Sequence[Row]) -> str:
    """Say what ± is over, by row where rows differ."""
    methods = methods_by(
        (over, row.texts["method"]) for row in ours for over in row.texts["± over"].split(" / ")
    )
    if len(methods) == 1:
        return deviation(next(iter(methods)))
    said = "; ".join(f"{over}: {names}" for over, names in methods.items())
    return f"± is the standard deviation (n - 1) over {said}."


def presets_said(ours: Sequence[Row]) -> str:
    """Say which preset rows are of, and their settings that are not its own and not in their names."""
    methods = methods_by((row.texts["preset"], row.texts["method"]) for row in ours)
    if len(methods) == 1:
        return f"preset {ours[0].texts['preset']}"
    return "; ".join(f"preset {preset}: {names}" for preset, names in methods.items())


def caption_of(made: Made, places: Sequence[Place], wanted: Wanted, marked: bool) -> list[str]:
    """Say what is equal in all rows of ours, what marks and ± mean, the lists, and what spoils a comparison."""
    first, differ = made.ours[0].texts, made.varying()
    equal = [f"{name} {first[name]}" for name in ATTRIBUTES if name not in differ and first[name]]
    sentences = [f"In percent. Measured here: {'; '.join([presets_said(made.ours), *equal])}."]
    if marked:
        leaks = (
            "" if all(row.ranked for row in made.ours) else "; an epoch picked on the test set takes no part"
        )
        sentences.append(f"Best of a group in bold, second underlined{leaks}.")
    if wanted.deviations:
        sentences.append(deviations_said(made.ours))
    if wanted.against:
        sentences.append(
            f"{DIFFERENCE}{wanted.compared}: difference from {wanted.against}, with its interval of 95 % over people."
        )
    rows = pd.concat([line.rows for line in made.lines], ignore_index=True)
    at = pd.MultiIndex.from_frame(rows[["protocol", "setting"]])
    sentences += [lists_of(rows[at == place]) for place in places]
    return sentences + warnings_of(rows)


@dataclass(frozen=True)
class Frame:
    """What is around the rows of a table: its name, its first columns of texts, the order of rows."""

    key: str
    title: str
    texts: tuple[str, ...]
    order: Callable[[Row], tuple[object, ...]]


def finished(made: Made, places: Sequence[Place], wanted: Wanted, frame: Frame) -> Sheet:
    """Order and mark rows, and write what belongs around them.

    Raises
    ------
    ResultsError
        If papers' figures, which are for real data, would stand beside synthetic data.
    """
    theirs, footnotes = footnoted(made.theirs)
    columns = columns_of(places, wanted)
    rows = with_places(sorted([*made.ours, *theirs], key=frame.order), columns)
    marked = any(value.place for row in rows for value in row.values)
    texts, notes = [*frame.texts, *made.varying()], caption_of(made, places, wanted, marked)
    if wanted.figures is not None:
        if made.synthetic:
            raise ResultsError(
                "published figures are for real data; they do not go into a table of synthetic data"
            )
        column, said = reranking(theirs)
        texts, notes = texts + column, [*notes, *([PUBLISHED_NOTE, *said] if theirs else [])]
    title = f"{frame.title} (a synthetic twin)" if made.synthetic else frame.title
    return Sheet(frame.key, title, tuple(texts), columns, tuple(rows), tuple(notes), footnotes)


def paper_order(row: Row) -> tuple[object, ...]:
    """Order by group, year, name and epoch."""
    texts = row.texts
    return group_rank(row.group), texts["year"] or "9999", texts["method"].casefold(), texts.get("epoch", "")


def paper_sheets(runs: Sequence[Run], wanted: Wanted, papers: Papers) -> list[Sheet]:
    """Return a table per data set of finished runs: its settings side by side, rows in groups by supervision.

    Parameters
    ----------
    papers : callable
        Gives the :class:`results.sheets.naming.Paper` of a method's name.

    Raises
    ------
    ResultsError
        If the rows cannot be compared, or published figures would stand beside synthetic data.
    """
    sheets = []
    for dataset, lines in sorted(lines_of(runs, check_rows(collect(runs)), wanted.checkpoints).items()):
        places = places_of(lines)
        ours = told_apart([own_row(line, places, wanted, papers) for line in lines])
        if wanted.against:
            ours = with_differences(ours, runs, places, wanted)
        theirs = [] if wanted.figures is None else paper_rows(wanted.figures, places, wanted)
        name = wanted.titles.get(dataset, dataset)
        frame = Frame(dataset, f"Results on {name}", ("method", "venue"), paper_order)
        sheets.append(finished(Made(ours, lines, theirs), places, wanted, frame))
    return sheets


def study_order(study: Study) -> Callable[[Row], tuple[object, ...]]:
    """Return the order of an ablation: by parts, as the paper's rows; ours before the paper's."""
    parts = study.parts

    def key(row: Row) -> tuple[object, ...]:
        return tuple(row.texts[part] for part in parts), bool(row.marks), row.texts.get("line", "")

    return key


def ablation_sheets(runs: Sequence[Run], wanted: Wanted, papers: Papers) -> list[Sheet]:
    """Return a table per data set and ablation that some method of the runs declares.

    Parts are ticked by the configurations of the runs, whatever their variants are called.

    Raises
    ------
    ResultsError
        As :func:`paper_sheets`; or if no method of the runs declares parts, or none has two rows to compare.
    """
    sheets = []
    for dataset, lines in sorted(lines_of(runs, check_rows(collect(runs)), wanted.checkpoints).items()):
        places, name = places_of(lines), wanted.titles.get(dataset, dataset)
        for study in studies(lines, papers):
            ours = study_rows(study, places, wanted, papers)
            if wanted.against:
                ours = with_differences(ours, runs, places, wanted)
            theirs = [] if wanted.figures is None else paper_study_rows(study, wanted.figures, places, wanted)
            title = f"Parts of {study.paper.name} on {name}, as in its {study.name}"
            frame = Frame(study.key(dataset), title, ("method", *study.parts), study_order(study))
            sheet = finished(Made(ours, study.lines, theirs), places, wanted, frame)
            sheets.append(with_outside(sheet, outside_words(study)))
    if not sheets:
        known = ", ".join(sorted({str(run.manifest["spec"]["label"]) for run in runs}))
        raise ResultsError(
            f"no ablation among {known}: it takes two configurations of a method that declares its parts (dmic does)"
        )
    return sheets


def with_outside(sheet: Sheet, words: str) -> Sheet:
    """Add to the caption what runs an ablation left out, and why."""
    return replace(sheet, caption=(*sheet.caption, words)) if words else sheet
