"""Tables as columns: what a column may hold, a schema read off a row's dataclass, and validation.

Nothing here knows what the columns mean; :mod:`results.schema` says that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd

from results.errors import ResultsError

Kind = Literal["text", "integer", "number"]
Row = TypeVar("Row")

ROUNDING = 1e-9
"""Slack of bounds: a mean of fractions times 100 may exceed 100 by a rounding error."""


@dataclass(frozen=True)
class Between:
    """Bounds of a number, both included, as ``Annotated[float, Between(0, 100)]``."""

    low: float = -math.inf
    high: float = math.inf


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
    kind: Kind
    allowed: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Schema(Generic[Row]):
    """The columns of a table, in order.

    Attributes
    ----------
    row : type
        Dataclass of one row; its fields are the columns.
    free : str
        Field of `row` that holds further numbers by name, or empty. Those columns follow the others, sorted by
        name, NaN where a row lacks them.
    """

    name: str
    row: type[Row]
    columns: tuple[Column, ...]
    free: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fixed columns."""
        return tuple(column.name for column in self.columns)


def schema_of(row: type[Row], name: str) -> Schema[Row]:
    """Read a table's schema off the dataclass of its rows.

    ``str``, ``int`` and ``float`` fields are columns, a ``Literal`` lists the texts allowed, ``Between`` bounds a
    number. A field of mapping type holds the free columns.
    """
    columns: list[Column] = []
    free = ""
    for field, hint in get_type_hints(row, include_extras=True).items():
        if get_origin(hint) in (dict, Mapping):
            free = field
        else:
            columns.append(column_of(field, hint))
    return Schema(name, row, tuple(columns), free)


def column_of(name: str, hint: Any) -> Column:
    """Return the column of a dataclass field from its type."""
    if get_origin(hint) is Literal:
        return Column(name, "text", get_args(hint))
    bounds = Between()
    if get_origin(hint) is Annotated:
        hint, bounds = get_args(hint)
    kinds: dict[Any, Kind] = {str: "text", int: "integer", float: "number"}
    return Column(name, kinds[hint], low=bounds.low, high=bounds.high)


def frame_of(rows: Iterable[Row], schema: Schema[Row]) -> pd.DataFrame:
    """Return typed rows as a validated table; without rows it has the fixed columns alone.

    Raises
    ------
    ResultsError
        If a value is not what its column holds.
    """
    lines: list[dict[str, Any]] = []
    for row in rows:
        line = {name: getattr(row, name) for name in schema.names}
        if schema.free:
            line.update(getattr(row, schema.free))
        lines.append(line)
    frame = pd.DataFrame(lines) if lines else pd.DataFrame(columns=list(schema.names))
    return validate(frame, schema, f"{schema.name} rows")


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


CONVERTERS: dict[Kind, Callable[[object], Any]] = {
    "text": to_text,
    "integer": to_integer,
    "number": to_number,
}
DTYPES: dict[Kind, str] = {"text": "str", "integer": "int64", "number": "float64"}


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


def converted(values: Sequence[object], column: Column, where: str) -> pd.Series:
    """Convert and check one column; errors name rows as lines of the CSV file (the header is line 1)."""
    known: dict[tuple[type, object], Any] = {}  # most columns repeat few values; True and 1 are equal
    keys = [(type(value), value) for value in values]
    for line, key in enumerate(keys, start=2):
        try:
            if key in known:
                continue
            known[key] = CONVERTERS[column.kind](key[1])
            wrong = fault(column, known[key])
        except (ValueError, TypeError, OverflowError) as error:
            wrong = f"expected {column.kind} ({error})"
        if wrong:
            raise ResultsError(f"{where}: line {line}, column {column.name!r}: {key[1]!r}: {wrong}")
    return pd.Series([known[key] for key in keys], name=column.name, dtype=DTYPES[column.kind])


def check_names(names: Sequence[str], schema: Schema[Any], where: str) -> None:
    """Refuse missing, repeated and (unless the schema has free columns) unknown columns."""
    repeated = sorted({str(name) for name in names if list(names).count(name) > 1})
    missing = [name for name in schema.names if name not in names]
    unknown = [] if schema.free else [str(name) for name in names if name not in schema.names]
    for what, wrong in (("missing", missing), ("repeated", repeated), ("unknown", unknown)):
        if wrong:
            raise ResultsError(
                f"{where}: {what} column{'s' * (len(wrong) > 1)} {', '.join(wrong)}; "
                f"a {schema.name} table has the columns {', '.join(schema.names)}"
            )


def validate(frame: pd.DataFrame, schema: Schema[Any], where: str) -> pd.DataFrame:
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
    return validated(
        list(frame.columns), [frame.iloc[:, i].tolist() for i in range(frame.shape[1])], schema, where
    )


def validated(
    names: Sequence[str], values: Sequence[Sequence[object]], schema: Schema[Any], where: str
) -> pd.DataFrame:
    """Return columns, by name and values, as :func:`validate` returns a table of them."""
    check_names(names, schema, where)
    further = [Column(name, "number") for name in sorted(set(names) - set(schema.names))]
    given = dict(zip(names, values, strict=True))
    return pd.DataFrame(
        {one.name: converted(given[one.name], one, where) for one in (*schema.columns, *further)}
    )
