"""What a table says about itself: trials, deviations, lists, leaks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.comparable import IDENTITY, compact
from results.formats import HEADLINE, LEAK

COVERED = ("trials", "data", "± over")
"""Attributes that the caption's first sentences say."""


DEVIATION = (
    "± is the standard deviation (n - 1): over the seeds' means over trials if there are several seeds, else "
    "over the trials of the one seed ('± over' says which)."
)


def caption(rows: pd.DataFrame, about: pd.DataFrame, shown: Sequence[str], quality: bool) -> tuple[str, ...]:
    """Say everything that a reader must know and the columns do not show."""
    first = about.iloc[0]
    trials = "trials as stated" if "trials" in shown else f"{first['trials']} trials"
    data = "real data" if "data" in shown else first["data"]
    fixed = [f"{name} {first[name]}" for name in about.columns if name not in (*shown, *COVERED)]
    sentences = [
        f"{trials}, {data}; metrics in percent.",
        deviation(first["± over"]) if "± over" not in shown else DEVIATION,
        *([f"All lines: {'; '.join(fixed)}."] if fixed else []),
        *(lists_of(group) for _, group in rows.groupby(["protocol", "setting"], sort=True)),
        f"Headline: {HEADLINE}; '{LEAK}' is the epoch with the best test score, which papers often report.",
    ]
    if quality:
        sentences.append("ARI: adjusted Rand index of the last epoch's pseudo-labels with the identities.")
    return (*sentences, *warnings_of(rows))


def deviation(over: str) -> str:
    """Say what the deviation of every line is over."""
    if over == "one value":
        return "One value a cell: no deviation."
    about = {
        "seeds": ", each the mean over its trials",
        "trials": " of one seed, each with a training of its own",
        "run": "; it says nothing about another training",
    }
    return f"± is the standard deviation (n - 1) over {over}{about[over.split()[-1]]}."


def lists_of(group: pd.DataFrame) -> str:
    """Describe the lists of a protocol's setting."""
    first = group.iloc[0]
    return (
        f"{first['protocol']}, {first['setting']}: version {first['protocol_version']}, "
        f"gallery {first['gallery_rule']}, trials {compact(group['trial'].tolist())}, "
        f"{counts(group['n_query'])} queries, {counts(group['n_gallery'])} gallery images."
    )


def counts(values: pd.Series) -> str:
    """Return a count, or the range of several."""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def warnings_of(rows: pd.DataFrame) -> list[str]:
    """Say what spoils a comparison without forbidding it."""
    found = []
    leaks = rows[rows["stage_init"] == "best-on-test"]["method"].unique().tolist()
    if leaks:
        found.append(f"Leak: a later stage of {', '.join(leaks)} starts from the best test epoch.")
    partial = rows[rows["data"] == "real-partial"]["run"].unique().tolist()
    if partial:
        found.append(f"Partial data (counts are not the known ones): run {', '.join(partial)}.")
    missing = rows[rows["n_valid"] < rows["n_query"]]
    if len(missing):
        most = int((missing["n_query"] - missing["n_valid"]).max())
        found.append(f"Up to {most} queries of a trial have no match and are left out.")
    for (protocol, setting), group in rows.groupby(["protocol", "setting"], sort=True):
        parts = group.groupby([*IDENTITY, "seed"], sort=True)
        covered = [(part.iloc[0], compact(part["trial"].tolist())) for _, part in parts]
        if len({trials for _, trials in covered}) > 1:
            said = "; ".join(f"{one['method']} seed {one['seed']}: {trials}" for one, trials in covered)
            found.append(f"Unequal trials in {protocol}, {setting}, not like for like: {said}.")
    return found
