"""What a table of a paper holds: numbers, rows, and all that is printed around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from results.schema import METRIC_NAMES, Checkpoint, ResultsError

Place = tuple[str, str]
"""Protocol and setting."""
METRICS = {"rank-1": "R-1", "rank-5": "R-5", "rank-10": "R-10", "rank-20": "R-20"}
"""What columns are called where it is not the metric's own name."""
DIFFERENCE = "Δ "
"""Beginning of the name of a column of differences; the metric follows."""
DIGITS = 2
TICK = "✓"


@dataclass(frozen=True)
class Value:
    """A number of a table.

    Attributes
    ----------
    mean, std : float
        In percent; NaN where there is none. Of a difference, the difference.
    low, high : float
        Interval of a difference.
    printed : str
        A paper's number as it stands there.
    place : int
        1 for the best of its group, 2 for the second, else 0.
    """

    mean: float = math.nan
    std: float = math.nan
    low: float = math.nan
    high: float = math.nan
    printed: str = ""
    place: int = 0

    @property
    def main(self) -> str:
        """The number as printed: our own with two decimals, a difference with its sign; empty if there is none."""
        if math.isnan(self.mean):
            return ""
        sign = "" if math.isnan(self.low) else "+"
        return self.printed or f"{self.mean:{sign}.{DIGITS}f}"

    @property
    def aside(self) -> str:
        """What stands beside the number: ``± 0.45``, or the interval of a difference; empty if nothing does."""
        if not math.isnan(self.low):
            return f"[{self.low:.{DIGITS}f}, {self.high:.{DIGITS}f}]"
        return "" if math.isnan(self.std) else f"± {self.std:.{DIGITS}f}"


NO_VALUE = Value()


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes
    ----------
    group : str
        Heading of the rows it stands among.
    texts : mapping of str to str
        By column; more than a table shows.
    values : tuple of Value
        By column of numbers.
    marks : tuple of str
        Footnotes that its name points at; none for what was measured here.
    ranked : bool
        Whether it may be the best of its group: an epoch picked on the test set may not.
    """

    group: str
    texts: Mapping[str, str]
    values: tuple[Value, ...]
    marks: tuple[str, ...] = ()
    ranked: bool = True


@dataclass(frozen=True)
class Sheet:
    """A table of one data set.

    Attributes
    ----------
    key : str
        Short name for labels.
    title : str
        Short caption.
    texts : tuple of str
        Columns of texts.
    columns : tuple of (str, str)
        Heading and name of every column of numbers.
    caption : tuple of str
        Sentences that follow the title: what is equal in all rows, and what a reader must know.
    footnotes : mapping of str to str
        Mark -> source.
    """

    key: str
    title: str
    texts: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    caption: tuple[str, ...]
    footnotes: Mapping[str, str]


@dataclass(frozen=True)
class Wanted:
    """What a table is to show.

    Attributes
    ----------
    metrics : tuple of str
        Some of :data:`results.schema.METRIC_NAMES`.
    figures : DataFrame or None
        Published figures to put between ours, as texts.
    against : str or None
        Line from which the others' differences are shown, with intervals.
    titles : mapping of str to str
        What data sets are called.
    headings : mapping of str to str
        What protocols are called where their settings do not say it.
    """

    metrics: tuple[str, ...] = ("rank-1", "mAP")
    checkpoints: tuple[Checkpoint, ...] = ("last",)
    deviations: bool = True
    figures: pd.DataFrame | None = None
    against: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse metrics that rows do not have, and none at all."""
        for name in self.metrics or ("(none)",):
            if name not in METRIC_NAMES:
                raise ResultsError(f"no metric {name!r}: expected some of {', '.join(METRIC_NAMES)}")

    @property
    def compared(self) -> str:
        """The metric whose differences are shown."""
        return "mAP" if "mAP" in self.metrics else self.metrics[0]


def metric_of(text: str) -> str:
    """Return a metric from its short name: ``rank-1`` of r1, ``mAP`` of map; another text stays."""
    short = {"map": "mAP", "minp": "mINP"} | {f"r{name.removeprefix('rank-')}": name for name in METRICS}
    return short.get(text.strip().lower().replace("rank-", "r"), text.strip())
