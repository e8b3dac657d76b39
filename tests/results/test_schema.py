from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from results.schema import HISTORY, METRICS, PROFILE, ResultsError, validate
from tests.results.cases import history, profile, regdb_rows


def test_rows_of_every_schema_are_valid_and_keep_their_values() -> None:
    rows = validate(regdb_rows(), METRICS, "rows")
    pd.testing.assert_frame_equal(rows, regdb_rows()[list(METRICS.names)], check_dtype=False)
    numbers = validate(profile().astype(object), PROFILE, "p").dtypes.astype(str)
    assert numbers.drop(["stage", "device"]).tolist() == ["int64", "int64", "float64", "float64"]
    assert validate(history(), HISTORY, "h")["skipped"].sum() == 1


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("metric", "map", "expected one of rank-1"),
        ("unit", "fraction", "expected one of percent"),
        ("data", "fake", "expected one of real"),
        ("checkpoint", "best", "expected one of last"),
        ("division", "half", "expected one of closed"),
        ("supervision", "semi", "expected one of usl"),
        ("value", 101.0, "from 0 to 100"),
        ("value", -1.0, "from 0 to 100"),
        ("value", float("nan"), "from 0 to 100"),
        ("value", "much", "expected number"),
        ("value", True, "expected number"),
        ("seed", 1.5, "expected integer"),
        ("seed", 2**63, "expected integer"),
        ("seed", True, "expected integer"),
        ("n_query", -1, "from 0"),
        ("run", "", "expected text"),
        ("run", "two\nlines", "expected text"),
        ("method", 3, "expected text"),
    ],
)
def test_an_error_names_file_line_and_column(column: str, value: object, words: str) -> None:
    rows = regdb_rows().astype(object)
    rows.loc[2, column] = value
    with pytest.raises(ResultsError, match=rf"some/metrics.csv: line 4, column '{column}': .*{words}"):
        validate(rows, METRICS, "some/metrics.csv")


def test_missing_unknown_and_repeated_columns_are_named() -> None:
    rows = regdb_rows()
    with pytest.raises(ResultsError, match=r"m\.csv: missing columns seed, value"):
        validate(rows.drop(columns=["seed", "value"]), METRICS, "m.csv")
    with pytest.raises(ResultsError, match="unknown column extra"):
        validate(rows.assign(extra=1), METRICS, "m.csv")
    with pytest.raises(ResultsError, match="repeated column run"):
        validate(pd.concat([rows, rows[["run"]]], axis=1), METRICS, "m.csv")


def test_free_columns_are_numbers_in_alphabetical_order() -> None:
    frame = history()[["k2", "eps", *HISTORY.names]]
    assert validate(frame, HISTORY, "h").columns.tolist() == [*HISTORY.names, "eps", "k2"]
    with pytest.raises(ResultsError, match="column 'note'"):
        validate(frame.assign(note="text"), HISTORY, "h")


def test_a_bound_allows_a_rounding_error_only() -> None:
    hundred = np.nextafter(100.0, 200.0)
    assert validate(regdb_rows().assign(value=hundred), METRICS, "m")["value"].iloc[0] == hundred
    with pytest.raises(ResultsError):
        validate(regdb_rows().assign(value=100.001), METRICS, "m")
