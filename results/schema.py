"""The rows of a run's tables; the only place where their columns are named.

Rows are tidy: one measured value a row. The harness makes them, ``frame_of`` turns them into a table, and the
table's columns, types and bounds are read off the dataclasses here. A float64 survives a write and a read exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from results.columns import Between, Column, ResultsError, Schema, frame_of, schema_of, validate

__all__ = [
    "CHECKPOINTS",
    "HISTORY",
    "METRICS",
    "METRIC_NAMES",
    "PROFILE",
    "RANKS",
    "Checkpoint",
    "Column",
    "HistoryRow",
    "MetricRow",
    "ProfileRow",
    "ResultsError",
    "Schema",
    "frame_of",
    "setting_order",
    "validate",
]

Rank = Literal["rank-1", "rank-5", "rank-10", "rank-20"]
MetricName = Literal[Rank, "mAP", "mINP"]
Checkpoint = Literal["last", "best-on-test", "best-of-last-stage"]
"""Which epoch is scored: the last one (the headline), the one with the best test mAP of the data set's headline
setting over all evaluated epochs of all stages, or the best of the last stage alone (what public codes report)."""
StageInit = Literal["last", "best-of-stage"]
"""Weights a later stage starts from: the last ones, or those of the best test epoch of the stage before (a leak)."""
DataKind = Literal["real", "real-partial", "synthetic"]
Division = Literal["closed", "open"]
Supervision = Literal["usl", "supervised", "none"]

RANKS: tuple[str, ...] = get_args(Rank)
METRIC_NAMES: tuple[str, ...] = get_args(MetricName)
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)
SETTINGS = ("single-shot", "multi-shot", "visible-to-thermal", "thermal-to-visible")
"""The usual settings, in the order of tables; those of other protocols follow by name."""

Count = Annotated[int, Between(low=0)]
Flag = Annotated[int, Between(0, 1)]
Percent = Annotated[float, Between(0, 100)]
NotNegative = Annotated[float, Between(low=0)]


def setting_order(name: str) -> tuple[int, str]:
    """Return the sort key of a setting."""
    return (SETTINGS.index(name) if name in SETTINGS else len(SETTINGS), name)


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric of one trial (``metrics.csv``).

    Attributes
    ----------
    list_digest : str
        Digest of the trial's ordered query and gallery lists.
    split : int
        Training split whose weights were scored.
    value : float
        In percent.
    n_valid : int
        Queries that have a match in the gallery.
    headline : str
        The data set's protocol and setting whose test mAP picks the best epochs, as ``regdb visible-to-thermal``.
    n_trials : int
        Trials that the protocol has in full; 0 if that is not known.
    split_is_trial : int
        1 if a trial may be scored only with weights of the split of its number, else 0.
    """

    run: str
    method: str
    preset: str
    protocol: str
    protocol_version: str
    list_digest: str
    setting: str
    split: Count
    trial: Count
    gallery_rule: str
    epoch: Count
    seed: int
    metric: MetricName
    value: Percent
    unit: Literal["percent"] = "percent"
    data: DataKind
    checkpoint: Checkpoint
    division: Division
    supervision: Supervision
    n_query: Count
    n_gallery: Count
    n_valid: Count
    stage_init: StageInit
    weights: str
    headline: str
    n_trials: Count
    split_is_trial: Flag


@dataclass(frozen=True, kw_only=True)
class HistoryRow:
    """One phase of one training epoch (``history.csv``).

    Attributes
    ----------
    lr : float
        Learning rate of the first optimiser.
    skipped : int
        1 if there was nothing to train on, else 0.
    measured : mapping of str to float
        Further columns: losses, schedules, pseudo-label quality, test mAP of evaluated epochs.
    """

    epoch: Count
    stage: str
    phase: str
    lr: NotNegative
    skipped: Flag
    measured: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """What the calls of one stage of computation cost in one epoch (``profile.csv``).

    Attributes
    ----------
    wall_s : float
        Seconds of all calls.
    peak_memory_mib : float
        Largest memory use while the stage ran, in MiB.
    """

    epoch: Count
    stage: str
    calls: Count
    wall_s: NotNegative
    peak_memory_mib: NotNegative
    device: str


METRICS = schema_of(MetricRow, "metrics")
HISTORY = schema_of(HistoryRow, "history")
PROFILE = schema_of(ProfileRow, "profile")
