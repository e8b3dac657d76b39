"""Figures of papers beside measured ones.

``published.csv`` holds figures for the real data sets. Every one was read in the source that its row names
(paper, README or released log; looked up on 2026-11-24), none comes from memory. Numbers are as printed, and
what a source does not state is empty. Papers seldom say which epoch they report; released logs mostly pick
it on the test set. Some papers could be read only as text conversions; the notes of their rows say so.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd

from results.formats import PLACE, PRINTED, Table
from results.schema import ResultsError, setting_order

SHOWN_COLUMNS = {"rank1": "rank-1", "rank10": "rank-10", "rank20": "rank-20", "mAP": "mAP", "mINP": "mINP"}


def printed_figures() -> pd.DataFrame:
    """Return the figures of papers as texts, digit by digit as printed; what a source does not state is empty."""
    with files("results").joinpath("published.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file, dtype="str", keep_default_na=False)
    setting = frame["setting"].where(frame["setting"] != "", frame["direction"])
    return frame.assign(setting=setting, supervision=frame["supervision"].str.lower())


def published_figures() -> pd.DataFrame:
    """Return the figures of papers, in percent, with the source of each; NaN where it states none."""
    frame = printed_figures()
    numbers = {name: pd.to_numeric(frame[name]) for name in SHOWN_COLUMNS}
    return frame.assign(**numbers)


def with_published(table: Table, figures: pd.DataFrame) -> Table:
    """Return the table with the papers' figures for its protocols and settings, in columns of their own.

    Raises
    ------
    ResultsError
        If the table is of synthetic data: figures for real data do not belong beside it.
    """
    if (table.about["data"] == "synthetic").any():
        raise ResultsError(
            "published figures are for real data; they do not go into a table of synthetic data"
        )
    places = pd.MultiIndex.from_frame(table.about[list(PLACE)])
    chosen = figures[pd.MultiIndex.from_frame(figures[list(PLACE)]).isin(places)]
    about = chosen[[*PLACE, "method", "supervision"]].assign(
        source=chosen["source_kind"] + " " + chosen["source"] + ", " + chosen["quote_locator"]
    )
    values = chosen[list(SHOWN_COLUMNS)].astype("float64")
    values.columns = pd.MultiIndex.from_tuples([(PRINTED, name) for name in SHOWN_COLUMNS.values()])
    ours = table.about.assign(source="measured here")
    joined = pd.concat([ours, about], ignore_index=True).fillna("")
    mean = pd.concat([table.mean, values], ignore_index=True)
    std = pd.concat([table.std, values * np.nan], ignore_index=True)
    rank = joined["setting"].map(setting_order)
    order = joined.assign(rank=rank).sort_values(["protocol", "rank"], kind="stable").index
    shown = tuple(dict.fromkeys((*table.shown, "supervision", "source")))
    return Table(
        joined.loc[order].reset_index(drop=True),
        mean.loc[order].reset_index(drop=True),
        std.loc[order].reset_index(drop=True),
        shown,
        (
            *table.caption,
            f"'{PRINTED}': copied from the source named; its rule of choosing an epoch is its own.",
        ),
    )
