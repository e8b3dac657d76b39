"""Ablations: which runs stand in one, and which parts they have, by their configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from results.selection import flat
from results.sheets.naming import Ablation, Paper, part_names, row_name, ticks
from results.sheets.own_rows import Line, Papers, own_row, told_apart
from results.sheets.published_rows import is_ablation, paper_row
from results.sheets.values import TICK, Place, Row, Wanted


@dataclass(frozen=True)
class Study:
    """An ablation of one method on one data set.

    Attributes
    ----------
    name : str
        The paper's name of the table.
    ablation : mapping
        See :data:`results.sheets.naming.Ablation`.
    lines : tuple of Line
        Rows of the table.
    outside : mapping of str to str
        Line left out -> why.
    """

    paper: Paper
    preset: str
    name: str
    ablation: Ablation
    lines: tuple[Line, ...]
    outside: Mapping[str, str]

    @property
    def parts(self) -> tuple[str, ...]:
        """The columns of ticks."""
        return tuple(part_names(key)[0] for key in self.ablation if key)

    def key(self, dataset: str) -> str:
        """Return a name for labels."""
        return "-".join(f"{dataset} {self.paper.name} {self.name}".casefold().split())


def changed(config: Mapping[str, Any], full: Mapping[str, Any]) -> set[str]:
    """Return the settings in which two configurations differ."""
    one, other = flat(config), flat(full)
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def allowed(ablation: Ablation) -> set[str]:
    """Return the settings that may differ between the rows of an ablation."""
    return {setting for off in ablation.values() for setting in off}


def studies(lines: Sequence[Line], papers: Papers) -> Iterator[Study]:
    """Yield the ablations that have at least two of the configurations of a data set's lines."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.method, str(line.spec["preset"])), []).append(line)
    for (method, preset), group in groups.items():
        paper = papers(method)
        full = full_line(group, paper)
        for name, ablation in paper.ablations.items():
            study = study_of(group, full, Study(paper, preset, name, ablation, (), {}))
            if len({tuple(ticks(ablation, line.config).items()) for line in study.lines}) > 1:
                yield study


def full_line(lines: Sequence[Line], paper: Paper) -> Line:
    """Return the line with the most parts over all ablations; of several the one with the shortest name."""

    def lacking(line: Line) -> int:
        return sum(not on for one in paper.ablations.values() for on in ticks(one, line.config).values())

    return min(lines, key=lambda line: (lacking(line), len(line.name), line.name))


def study_of(lines: Sequence[Line], full: Line, study: Study) -> Study:
    """Choose the lines that differ from the full method in parts of this ablation alone."""
    kept, outside = [], {}
    for line in lines:
        differing = changed(line.config, full.config)
        if foreign := differing - allowed(study.ablation):
            outside[line.name] = ", ".join(sorted(foreign))
        elif differing and all(ticks(study.ablation, line.config).values()):
            outside[line.name] = ", ".join(sorted(differing))
        else:
            kept.append(line)
    return replace(study, lines=tuple(kept), outside=outside)


def outside_words(study: Study) -> str:
    """Say which lines of the method are left out, and in which settings they differ from it."""
    if not study.outside:
        return ""
    said = "; ".join(f"{name}: {why}" for name, why in study.outside.items())
    return f"Left out, because they differ in what is no part here: {said}."


def ticked_texts(study: Study, ticked: Mapping[str, bool]) -> dict[str, str]:
    """Return a row's name and its ticks."""
    marks = {name: TICK if on else "" for name, on in ticked.items()}
    return {"method": row_name(study.ablation, ticked, study.paper.name), **marks}


def study_rows(study: Study, places: Sequence[Place], wanted: Wanted, papers: Papers) -> list[Row]:
    """Return our rows of an ablation, all of one group."""
    rows = []
    for line in study.lines:
        row = own_row(line, places, wanted, papers)
        texts = {**row.texts, **ticked_texts(study, ticks(study.ablation, line.config))}
        rows.append(replace(row, texts=texts, group=""))
    return told_apart(rows)


def paper_study_rows(
    study: Study, figures: pd.DataFrame, places: Sequence[Place], wanted: Wanted
) -> list[Row]:
    """Return the rows of the ablation that the method's own paper prints."""
    prefix, known = f"{study.paper.name} (", set()
    for key in study.ablation:
        known |= set(part_names(key)) if key else set()
    own = figures[is_ablation(figures) & figures["method"].str.startswith(prefix)]
    full = figures[(figures["method"] == study.paper.name) & figures["source"].isin(own["source"])]
    keys = pd.MultiIndex.from_frame(figures[["protocol", "setting"]])
    here = figures[keys.isin(places)]
    rows = []
    for method, part in here[here.index.isin(own.index) | here.index.isin(full.index)].groupby(
        "method", sort=False
    ):
        words = str(method).removeprefix(prefix).removesuffix(")").split(" + ")
        whole = method == study.paper.name
        if whole or set(words) <= known:
            row = paper_row(part, places, wanted)
            ticked = {name: whole or name in words for name in study.parts}
            rows.append(replace(row, texts={**row.texts, **ticked_texts(study, ticked)}, group=""))
    return rows
