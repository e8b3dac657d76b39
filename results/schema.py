"""The columns of every table that is stored, and their validation.

Rows are tidy: one measured value a row. `value` of :data:`METRICS` is in percent (``unit`` says so), a
float64 that survives a write and a read exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

RANKS = ("rank-1", "rank-5", "rank-10", "rank-20")
METRIC_NAMES = (*RANKS, "mAP", "mINP")
SETTINGS = ("single-shot", "multi-shot", "visible-to-thermal", "thermal-to-visible")
"""The usual settings, in the order of tables; those of other protocols follow by name."""


def setting_order(name: str) -> tuple[int, str]:
    """Return the sort key of a setting."""
    return (SETTINGS.index(name) if name in SETTINGS else len(SETTINGS), name)


class ResultsError(ValueError):
    """Rows, run directories or tables are unusable; the message says what, where, and how to fix it."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    kind : str
        ``text``, ``integer`` (int64) or ``number`` (float64).
    allowed : tuple of str
        Values that a text may take; empty for any text but the empty one.
    low, high : float
        Bounds; a number with a finite `low` may not be NaN.
    """

    name: str
    kind: Literal["text", "integer", "number"]
    allowed: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order.

    Attributes
    ----------
    free : bool
        Whether further columns of numbers (NaN where absent) may follow; they are kept sorted by name.
    """

    name: str
    columns: tuple[Column, ...]
    free: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fixed columns."""
        return tuple(column.name for column in self.columns)


METRICS = Schema(
    "metrics",
    (
        Column("run", "text"),
        Column("method", "text"),
        Column("preset", "text"),
        Column("protocol", "text"),
        Column("protocol_version", "text"),
        Column("list_digest", "text"),
        Column("setting", "text"),
        Column("split", "integer", low=0),
        Column("trial", "integer", low=0),
        Column("gallery_rule", "text"),
        Column("epoch", "integer", low=0),
        Column("seed", "integer"),
        Column("metric", "text", METRIC_NAMES),
        Column("value", "number", low=0, high=100),
        Column("unit", "text", ("percent",)),
        Column("data", "text", ("real", "real-partial", "synthetic")),
        Column("checkpoint", "text", ("last", "best-on-test")),
        Column("division", "text", ("closed", "open")),
        Column("supervision", "text", ("usl", "supervised", "none")),
        Column("n_query", "integer", low=0),
        Column("n_gallery", "integer", low=0),
        Column("n_valid", "integer", low=0),
        Column("stage_init", "text", ("last", "best-on-test")),
        Column("weights", "text"),
    ),
)
HISTORY = Schema(
    "history",
    (
        Column("epoch", "integer", low=0),
        Column("stage", "text"),
        Column("phase", "text"),
        Column("lr", "number", low=0),
        Column("skipped", "integer", low=0, high=1),
    ),
    free=True,
)
PROFILE = Schema(
    "profile",
    (
        Column("epoch", "integer", low=0),
        Column("stage", "text"),
        Column("calls", "integer", low=0),
        Column("wall_s", "number", low=0),
        Column("peak_memory_mib", "number", low=0),
        Column("device", "text"),
    ),
)

ROUNDING = 1e-9
"""Slack of bounds: a mean of fractions times 100 may exceed 100 by a rounding error."""


def to_integer(value: object) -> int:
    """Return an integer given as such, as an integral float or as text; else (or beyond int64) ValueError."""
    if isinstance(value, bool | np.bool_):
        raise ValueError("a truth value")
    number = int(value) if isinstance(value, str | int | np.integer) else integral(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError("beyond 64 bits")
    return number


def integral(value: object) -> int:
    """Return an integral float as an integer."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    raise ValueError("not integral")


def to_number(value: object) -> float:
    """Return a float64; an empty text or None is NaN."""
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | np.number):
        raise ValueError("not a number")
    return float(value)


def to_text(value: object) -> str:
    """Return a text of one line; ValueError if it is none, or empty."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("empty, or not a text of one line")
    return value


CONVERTERS: dict[str, Callable[[object], Any]] = {"text": to_text, "integer": to_integer, "number": to_number}
DTYPES = {"text": "str", "integer": "int64", "number": "float64"}


def fault(column: Column, value: object) -> str:
    """Say what is wrong with one converted value; empty if nothing is."""
    if column.kind == "text":
        if column.allowed and value not in column.allowed:
            return f"expected one of {', '.join(column.allowed)}"
        return ""
    assert isinstance(value, int | float)
    unbounded = column.low == -math.inf
    if (math.isnan(value) and unbounded) or column.low - ROUNDING <= value <= column.high + ROUNDING:
        return ""
    return f"expected a number from {column.low:g} to {column.high:g}"


def converted(values: Iterable[object], column: Column, where: str) -> pd.Series:
    """Convert and check one column; errors name rows as lines of the CSV file (the header is line 1)."""
    done = []
    for line, value in enumerate(values, start=2):
        try:
            result = CONVERTERS[column.kind](value)
            wrong = fault(column, result)
        except (ValueError, TypeError, OverflowError) as error:
            wrong = f"expected {column.kind} ({error})"
        if wrong:
            raise ResultsError(f"{where}: line {line}, column {column.name!r}: {value!r}: {wrong}")
        done.append(result)
    return pd.Series(done, name=column.name, dtype=DTYPES[column.kind])


def check_names(names: Sequence[str], schema: Schema, where: str) -> None:
    """Refuse missing, repeated and (unless the schema is free) unknown columns."""
    repeated = sorted({str(name) for name in names if list(names).count(name) > 1})
    missing = [name for name in schema.names if name not in names]
    unknown = [] if schema.free else [str(name) for name in names if name not in schema.names]
    for what, found in (("missing", missing), ("repeated", repeated), ("unknown", unknown)):
        if found:
            raise ResultsError(
                f"{where}: {what} column{'s' * (len(found) > 1)} {', '.join(found)}; "
                f"a {schema.name} table has the columns {', '.join(schema.names)}"
            )


def validate(frame: pd.DataFrame, schema: Schema, where: str) -> pd.DataFrame:
    """Return the table with its columns in order and of their types.

    Parameters
    ----------
    frame : DataFrame
        Values of the right types, or their texts.
    where : str
        How errors name the table (its path).

    Raises
    ------
    ResultsError
        Names file, line and column.
    """
    check_names(list(frame.columns), schema, where)
    free = [Column(name, "number") for name in sorted(set(frame.columns) - set(schema.names))]
    series = [converted(frame[column.name].tolist(), column, where) for column in (*schema.columns, *free)]
    return pd.concat(series, axis=1) if series else pd.DataFrame()
