from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.schema import (
    HISTORY,
    METRICS,
    PROFILE,
    HistoryRow,
    MetricRow,
    ResultsError,
    Schema,
    frame_of,
    validate,
)
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


def metric_row(**changes: Any) -> MetricRow:
    row = MetricRow(
        run="r",
        method="dmic",
        preset="demo",
        protocol="regdb",
        protocol_version="1",
        list_digest="d",
        setting="visible-to-thermal",
        split=1,
        trial=1,
        gallery_rule="whole split",
        epoch=9,
        seed=0,
        metric="mAP",
        value=33.3,
        data="synthetic",
        checkpoint="last",
        division="open",
        supervision="usl",
        n_query=5,
        n_gallery=6,
        n_valid=5,
        stage_init="last",
        weights="w",
        headline="regdb visible-to-thermal",
        n_trials=10,
        split_is_trial=1,
    )
    return replace(row, **changes)


def test_typed_rows_become_a_table_and_come_back() -> None:
    rows = [metric_row(), metric_row(checkpoint="best-of-last-stage", value=40.0)]
    frame = frame_of(rows, METRICS)
    assert frame.columns.tolist() == [field.name for field in fields(MetricRow)]
    assert [MetricRow(**line) for line in frame.to_dict("records")] == rows
    with pytest.raises(ResultsError, match="metrics rows: line 3, column 'value'"):
        frame_of([metric_row(), metric_row(value=140.0)], METRICS)


def test_measured_values_of_the_history_are_columns_of_their_own() -> None:
    about = {"stage": "joint", "phase": "train", "lr": 0.1, "skipped": 0}
    rows = [
        HistoryRow(epoch=0, **about, measured={"eps": 0.6}),
        HistoryRow(epoch=1, **about, measured={"ari": 1}),
    ]
    frame = frame_of(rows, HISTORY)
    assert frame.columns.tolist() == [*HISTORY.names, "ari", "eps"]
    assert frame["eps"].isna().tolist() == [False, True]


@pytest.mark.parametrize("schema", [METRICS, HISTORY, PROFILE])
def test_a_table_without_rows_has_the_columns_and_their_types(schema: Schema[Any]) -> None:
    frame = frame_of([], schema)
    assert frame.columns.tolist() == list(schema.names)
    assert [kind.kind for kind in frame.dtypes] == [
        {"text": "O", "integer": "i", "number": "f"}[column.kind] for column in schema.columns
    ]
