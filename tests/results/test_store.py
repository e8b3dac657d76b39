from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import results
from results.schema import HISTORY, METRICS, ResultsError
from results.store import collect, find_runs, read_frame, read_run, write_frame
from results.tables import comparison
from tests.results.cases import finish, history, regdb_rows, several, write_run


@given(st.lists(st.floats(), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_floats_survive_exactly(tmp_path: Path, values: list[float]) -> None:
    frame = pd.DataFrame(
        {"epoch": range(len(values)), "stage": "s", "phase": "p", "lr": 0.1, "skipped": 0, "x": values}
    )
    write_frame(frame, tmp_path / "h.csv", HISTORY)
    back = read_frame(tmp_path / "h.csv", HISTORY)["x"].tolist()
    same = [
        (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
        for a, b in zip(values, back, strict=True)
    ]
    assert all(same)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_survive_or_are_refused(tmp_path: Path, method: str) -> None:
    rows, path = regdb_rows().assign(method=method), tmp_path / "m.csv"
    path.unlink(missing_ok=True)
    if not method.strip() or not method.isprintable():
        with pytest.raises(ResultsError, match="column 'method'"):
            write_frame(rows, path, METRICS)
        assert not path.exists()
        return
    write_frame(rows, path, METRICS)
    assert set(read_frame(path, METRICS)["method"]) == {method}


@pytest.mark.parametrize("method", ["NA", "null", "None", "nan", "1e5", "007", 'a,"b"'])
def test_texts_that_look_like_something_else_stay_texts(tmp_path: Path, method: str) -> None:
    write_frame(regdb_rows().assign(method=method), tmp_path / "m.csv", METRICS)
    assert set(read_frame(tmp_path / "m.csv", METRICS)["method"]) == {method}


def test_equal_tables_give_equal_bytes_whatever_the_order_of_columns(tmp_path: Path) -> None:
    frame = history()
    write_frame(frame, tmp_path / "a.csv", HISTORY)
    write_frame(frame[frame.columns[::-1]], tmp_path / "b.csv", HISTORY)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_table_without_rows_survives(tmp_path: Path) -> None:
    write_frame(pd.DataFrame(columns=list(HISTORY.names)), tmp_path / "h.csv", HISTORY)
    assert read_frame(tmp_path / "h.csv", HISTORY).shape == (0, 5)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "h.csv"
    write_frame(history(), path, HISTORY)
    before = path.read_bytes()
    with pytest.raises(ResultsError):
        write_frame(history().assign(lr=-1.0), path, HISTORY)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*h\.csv"):
        write_frame(history(3), path, HISTORY)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["h.csv"]


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none/h\.csv"):
        write_frame(history(), tmp_path / "none" / "h.csv", HISTORY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"epoch,stage,phase,lr,skipped\n0,a,b,0.1\n", "line 2 has 4 fields, the header 5"),
        (b"epoch,stage,phase,lr,skipped\n0,a,b,x,0\n", "line 2, column 'lr'"),
        (b"epoch,stage,phase,lr,skipped\n0.5,a,b,1,0\n", "line 2, column 'epoch'"),
        (b"epoch,stage\n", "missing columns phase, lr, skipped"),
        (b"\xff\xfe", "not a readable CSV"),
        (b'epoch,stage,phase,lr,skipped\n0,"a,b,1,0\n', "not a readable CSV"),
    ],
)
def test_a_damaged_table_names_file_and_place(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=words) as error:
        read_frame(path, HISTORY)
    assert str(path) in str(error.value)


def test_a_run_reads_back(tmp_path: Path) -> None:
    rows = regdb_rows()
    run = read_run(write_run(tmp_path, rows))
    assert run.id == "dmic-0-1"
    assert run.metrics["value"].tolist() == rows["value"].tolist()
    assert len(run.history) == 10
    assert len(run.profile) == 9
    assert run.ranks()["last/regdb/visible-to-thermal/1/hits"].tolist() == [1, 4]


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path, regdb_rows())
    np.savez(path / "ranks.npz", evil=np.array([{"a": 1}], dtype=object))
    finish(path)
    with pytest.raises(ResultsError, match=r"ranks\.npz is not a readable array file"):
        read_run(path).ranks()


def test_unfinished_runs_are_counted_and_never_read(tmp_path: Path) -> None:
    done, stopped = (write_run(tmp_path, rows) for rows in several(["dmic"], [0], [1, 2]))
    (stopped / "COMPLETE").unlink()
    (stopped / "metrics.csv").write_text("torn", encoding="utf-8")
    found = find_runs([tmp_path, done])
    assert [run.path for run in found.runs] == [done]
    assert found.unfinished == (stopped,)
    with pytest.raises(ResultsError, match="not a finished run"):
        read_run(stopped)
    (done / "COMPLETE").unlink()
    with pytest.raises(ResultsError, match="no finished run found, 2 unfinished"):
        find_runs([tmp_path])


def test_paths_that_hold_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is no folder and no bundle"):
        find_runs([tmp_path / "none"])
    with pytest.raises(ResultsError, match="no finished run found, 0 unfinished"):
        find_runs([tmp_path])


def test_a_copy_of_a_run_is_refused_with_both_places(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "a", regdb_rows()), write_run(tmp_path / "b", regdb_rows())
    with pytest.raises(ResultsError, match="is there twice") as error:
        find_runs([tmp_path])
    assert str(one) in str(error.value)
    assert str(other) in str(error.value)


def test_rows_of_another_run_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path, regdb_rows())
    write_frame(regdb_rows(seed=5), path / "metrics.csv", METRICS)
    finish(path)
    with pytest.raises(ResultsError, match=r"rows of other runs: dmic-5-1"):
        read_run(path)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"run": "x"}', '{"run": "x", "spec": {}}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, manifest: str) -> None:
    path = write_run(tmp_path, regdb_rows())
    (path / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(ResultsError, match=r"manifest\.json"):
        read_run(path)


@pytest.mark.parametrize("entry", ["sources", "weights", "data_digest"])
def test_runs_of_different_code_or_data_are_not_averaged(tmp_path: Path, entry: str) -> None:
    write_run(tmp_path, regdb_rows(seed=0))
    write_run(tmp_path, regdb_rows(seed=1), spec={entry: "other"})
    with pytest.raises(ResultsError, match=f"runs dmic-0-1 and dmic-1-1 .*differ in {entry};"):
        collect(find_runs([tmp_path]).runs)


def three_radii(folder: Path) -> None:
    for seed, eps in enumerate((0.5, 0.6, 0.6)):
        rows = regdb_rows(seed=seed)
        write_run(folder, rows, spec={"config": {"eps": eps, "first": {"k1": 30}}, "method": "dmic"})


def test_runs_of_different_configurations_are_lines_of_their_own(tmp_path: Path) -> None:
    three_radii(tmp_path)
    rows = collect(find_runs([tmp_path]).runs)
    names = rows.groupby("method")["seed"].agg(lambda seeds: sorted(set(seeds)))
    assert names.to_dict() == {"dmic[eps=0.5]": [0], "dmic[eps=0.6]": [1, 2]}
    write_run(tmp_path, regdb_rows(seed=3), spec={"config": {"eps": 0.6, "first": {"k1": 20}}})
    assert set(collect(find_runs([tmp_path]).runs)["method"]) == {
        "dmic[eps=0.5, first.k1=30]",
        "dmic[eps=0.6, first.k1=30]",
        "dmic[eps=0.6, first.k1=20]",
    }


def test_a_preset_is_told_with_the_settings_that_are_not_its_own(tmp_path: Path) -> None:
    config = {"config": {"eps": 0.5, "k1": 30}}
    write_run(tmp_path, regdb_rows(seed=0), spec=config, changed={"eps": 0.5})
    alone = collect(find_runs([tmp_path]).runs)
    assert set(zip(alone["method"], alone["preset"], strict=True)) == {("dmic", "demo[eps=0.5]")}
    assert "preset demo[eps=0.5]" in " ".join(comparison(alone).caption)
    other = {"config": {"eps": 0.6, "k1": 20}}
    write_run(tmp_path, regdb_rows(seed=1), spec=other, changed={"k1": 20})
    both = collect(find_runs([tmp_path]).runs)
    # a line that names a setting needs no further word on it
    assert set(zip(both["method"], both["preset"], strict=True)) == {
        ("dmic[eps=0.5, k1=30]", "demo"),
        ("dmic[eps=0.6, k1=20]", "demo"),
    }


def test_a_setting_whose_end_is_in_the_lines_name_is_told_all_the_same(tmp_path: Path) -> None:
    for seed, first in enumerate((30, 20)):
        config = {"config": {"k1": 30, "first": {"k1": first}}}
        write_run(tmp_path, regdb_rows(seed=seed), spec=config, changed={"k1": 30})
    rows = collect(find_runs([tmp_path]).runs)
    assert set(zip(rows["method"], rows["preset"], strict=True)) == {
        ("dmic[first.k1=30]", "demo[k1=30]"),
        ("dmic[first.k1=20]", "demo[k1=30]"),
    }


@pytest.mark.parametrize(
    ("where", "seeds"),
    [
        (["eps=0.50"], {0}),
        (["eps=0.5,0.6", "seed=1"], {1}),
        (["label=dm*"], {0, 1, 2}),
        (["first.k1=30", "preset=demo", "height=96"], {0, 1, 2}),
        (["run=dmic-2-1"], {2}),
    ],
)
def test_conditions_choose_runs(tmp_path: Path, where: list[str], seeds: set[int]) -> None:
    three_radii(tmp_path)
    assert {run.manifest["spec"]["seed"] for run in find_runs([tmp_path], where).runs} == seeds


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("epps=0.5", "no run has such a key; there are eps"),
        ("eps=0.7", "eps is 0.5, 0.6 in these runs"),
        ("eps", "expected key=value"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(tmp_path: Path, where: str, message: str) -> None:
    three_radii(tmp_path)
    with pytest.raises(ResultsError, match=message):
        find_runs([tmp_path], [where])


def test_lines_get_other_names(tmp_path: Path) -> None:
    three_radii(tmp_path)
    found = find_runs([tmp_path], labels=["dmic[eps=0.5]=small", "dmic[eps=0.6] @ demo=usual = ours"])
    assert set(collect(found.runs)["method"]) == {"small", "usual = ours"}
    for text, message in (("pgm=x", "no line 'pgm'"), ("dmic", "expected NAME=NEW")):
        with pytest.raises(ResultsError, match=message):
            find_runs([tmp_path], labels=[text])


def test_runs_that_differ_in_split_and_seed_are_collected(tmp_path: Path) -> None:
    for rows in several(["dmic", "source-only"], [0, 1], [1, 2]):
        write_run(tmp_path, rows)
    assert len(collect(find_runs([tmp_path]).runs)) == 8 * len(regdb_rows())


def test_runs_load_into_pandas(tmp_path: Path) -> None:
    for rows in several(["dmic"], [0, 1], [1]):
        write_run(tmp_path, rows)
    rows = results.load_runs(tmp_path)
    assert sorted(rows["run"].unique()) == ["dmic-0-1", "dmic-1-1"]
    histories = results.load_histories(str(tmp_path / "regdb"))
    assert [len(histories[run]) for run in ("dmic-0-1", "dmic-1-1")] == [10, 10]
    table = results.comparison(rows, histories)
    assert "ARI visible" in results.to_markdown(table)
    assert all(hasattr(results, name) for name in results.__all__)
