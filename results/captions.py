"""What a table says about itself: trials, deviations, lists, leaks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from results.comparable import IDENTITY, compact
from results.formats import HEADLINE, LAST_STAGE_LEAK, LEAK
from results.schema import Checkpoint

COVERED = ("trials", "data", "± over")
"""Attributes that the caption's first sentences say."""
DEVIATION = (
    "± is the standard deviation (n - 1): over the seeds' means over trials if there are several seeds, else "
    "over the trials of the one seed ('± over' says which)."
)
DIVISIONS = (
    "Division closed: the protocol's own input size (288 x 144), network (ResNet-50) and features at test, no "
    "re-ranking; open: anything else."
)
QUALITY_NOTE = "ARI: adjusted Rand index of the last epoch's pseudo-labels with the identities."


def caption(
    rows: pd.DataFrame,
    about: pd.DataFrame,
    shown: Sequence[str],
    checkpoints: Sequence[Checkpoint],
    quality: bool,
) -> tuple[str, ...]:
    """Say everything that a reader must know and the columns do not show.

    Parameters
    ----------
    about : DataFrame
        Attributes of every line of the table.
    shown : sequence of str
        Those of them that are columns.
    checkpoints : sequence of str
        Rules that have columns.
    quality : bool
        Whether the table has the quality of pseudo-labels.
    """
    first = about.iloc[0]
    trials = "trials as stated" if "trials" in shown else f"{first['trials']} trials"
    data = "real data" if "data" in shown else first["data"]
    sentences = [f"{trials}, {data}; metrics in percent."]
    sentences.append(DEVIATION if "± over" in shown else deviation(first["± over"]))
    fixed = [f"{name} {first[name]}" for name in about.columns if name not in (*shown, *COVERED)]
    if fixed:
        sentences.append(f"All lines: {'; '.join(fixed)}.")
    if "division" in about.columns:
        sentences.append(DIVISIONS)
    for _, group in rows.groupby(["protocol", "setting"], sort=True):
        sentences.append(lists_of(group))
    sentences += epochs_of(rows, checkpoints)
    if quality:
        sentences.append(QUALITY_NOTE)
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


def epochs_of(rows: pd.DataFrame, checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Say which epoch each group of columns is of, and what picked it."""
    headlines = sorted(set(rows["headline"]))
    picked_by = headlines[0]
    if len(headlines) > 1:
        picked_by = f"the data set's headline setting ({'; '.join(headlines)})"
    sentences = [f"Headline: {HEADLINE}."]
    if "best-on-test" in checkpoints:
        sentences.append(
            f"'{LEAK}': the epoch with the best test mAP of {picked_by}, over all evaluated epochs. That mAP alone "
            "picks it: in another direction, setting or metric the column can be lower than the last epoch."
        )
    if "best-of-last-stage" in checkpoints:
        sentences.append(
            f"'{LAST_STAGE_LEAK}': picked by the test mAP of {picked_by} too, among the last stage's epochs alone, as "
            "public codes do."
        )
    return sentences


def lists_of(group: pd.DataFrame) -> str:
    """Describe the lists of a protocol's setting."""
    first = group.iloc[0]
    return (
        f"{first['protocol']}, {first['setting']}: version {first['protocol_version']}, "
        f"gallery {first['gallery_rule']}, trials {compact(group['trial'].tolist())}, "
        f"{queries(group)}, {counts(group['n_gallery'])} gallery images."
    )


def queries(group: pd.DataFrame) -> str:
    """Count queries; where not all have a match, say how many do."""
    if (group["n_valid"] == group["n_query"]).all():
        return f"{counts(group['n_query'])} queries"
    return f"{counts(group['n_valid'])} valid of {counts(group['n_query'])} queries"


def counts(values: pd.Series) -> str:
    """Return a count, or the range of several."""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def warnings_of(rows: pd.DataFrame) -> list[str]:
    """Say what spoils a comparison without forbidding it."""
    sentences = []
    leaks = rows[rows["stage_init"] != "last"]["method"].unique().tolist()
    if leaks:
        sentences.append(
            f"Leak: a later stage of {', '.join(leaks)} starts from the best test epoch of the one before."
        )
    partial = rows[rows["data"] == "real-partial"]["run"].unique().tolist()
    if partial:
        sentences.append(f"Partial data (counts are not the known ones): run {', '.join(partial)}.")
    missing = rows[rows["n_valid"] < rows["n_query"]]
    if len(missing):
        most = int((missing["n_query"] - missing["n_valid"]).max())
        sentences.append(f"Up to {most} queries of a trial have no match and are left out.")
    return sentences + unequal_trials(rows)


def unequal_trials(rows: pd.DataFrame) -> list[str]:
    """Name the settings whose lines, or seeds of a line, were not scored on the same trials."""
    sentences = []
    for (protocol, setting), group in rows.groupby(["protocol", "setting"], sort=True):
        said, covered = [], set()
        for _, part in group.groupby([*IDENTITY, "seed"], sort=True):
            trials = compact(part["trial"].tolist())
            said.append(f"{part['method'].iloc[0]} seed {part['seed'].iloc[0]}: {trials}")
            covered.add(trials)
        if len(covered) > 1:
            sentences.append(
                f"Unequal trials in {protocol}, {setting}, not like for like: {'; '.join(said)}."
            )
    return sentences
