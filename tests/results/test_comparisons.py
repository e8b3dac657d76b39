from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results import compare, comparison_csv, comparison_words, find_runs
from results.intervals import holm
from results.schema import METRICS, ResultsError
from results.scores import load_scores, query_scores
from results.statistics import BOTH, TWO_MODELS, one_method
from results.store import write_frame
from tests.results.cases import finish, metrics_of, ranked_lists, write_scored_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for method, shift in (("dmic", 1.0), ("pgm", 0.3), ("adca", 0.0)):
        for seed in (0, 1, 2):
            write_scored_run(tmp_path, method, seed, shift=shift, sysu=True)
    return tmp_path


def runs(folder: Path):  # type: ignore[no-untyped-def]
    return find_runs([folder]).runs


def lists() -> dict[str, np.ndarray]:
    return ranked_lists(np.repeat(np.arange(5), 4), np.zeros(20), np.random.default_rng(0))


@pytest.mark.parametrize("metric", ["mAP", "mINP", "rank-1", "rank-5", "rank-10", "rank-20"])
def test_scores_of_queries_average_to_the_metrics(metric: str) -> None:
    assert query_scores(lists(), metric).mean() == pytest.approx(metrics_of(lists())[metric])


def test_queries_without_a_match_have_no_score() -> None:
    kept = {
        "average_precision": np.array([0.5, np.nan]),
        "hits": np.array([2, 4]),
        "hit_offsets": np.array([0, 2, 2]),
        "first_rank": np.array([2, 0]),
    }
    for metric, value in (("mAP", 50), ("mINP", 50), ("rank-1", 0), ("rank-2", 100)):
        np.testing.assert_array_equal(query_scores(kept, metric), [value, np.nan])


def test_galleries_are_averaged_before_anything_else(folder: Path) -> None:
    (scores,) = (one for one in load_scores(runs(folder)) if one.method == "dmic")
    assert (scores.seeds, scores.trials, len(scores.sets)) == ((0, 1, 2), tuple(range(10)), 1)
    assert scores.sets[0].scores.shape == (3, 32)
    rows = pd.concat([run.metrics for run in runs(folder)])
    kept = rows.query("method == 'dmic' and metric == 'mAP' and checkpoint == 'last'")
    assert one_method(scores).mean == pytest.approx(kept["value"].mean())


def repeated(folder: Path, run: str, times: int) -> Path:
    """Write a run's galleries `times` times, with further numbers."""
    (one,) = (one for one in runs(folder) if one.id == run)
    ranks, parts = one.ranks(), []
    for i in range(times):
        parts.append(one.metrics.assign(trial=one.metrics["trial"] + 10 * i))
        parts[-1]["list_digest"] = [f"s{trial}" for trial in parts[-1]["trial"]]
    more = {}
    for name, array in ranks.items():
        rule, protocol, setting, trial, what = name.split("/")
        for i in range(times):
            more["/".join([rule, protocol, setting, str(int(trial) + 10 * i), what])] = array
    np.savez(one.path / "ranks.npz", **more)
    write_frame(pd.concat(parts), one.path / "metrics.csv", METRICS)
    finish(one.path)
    return folder


def test_repeating_galleries_changes_nothing(folder: Path) -> None:
    before = compare(folder, "dmic", "pgm")
    for run in [one.id for one in runs(folder)]:
        repeated(folder, run, 3)
    after = compare(folder, "dmic", "pgm")
    names = ["mean_a", "difference", "low", "high", "freedom", "p", "wins", "sd_query"]
    pd.testing.assert_frame_equal(before[names], after[names])
    assert after["trials"].unique().tolist() == ["0-29"]


def test_two_methods_in_numbers_words_and_csv(folder: Path) -> None:
    found = compare(folder, "dmic", "pgm")
    assert found[["a", "b"]].to_numpy().tolist() == [["dmic", ""], ["pgm", ""], ["dmic", "pgm"]]
    row = found.iloc[2]
    assert row["difference"] == pytest.approx(row["mean_a"] - row["mean_b"])
    assert row["low"] < row["difference"] < row["high"]
    assert row["training_low"] < row["difference"] < row["training_high"]
    assert (row["says"], row["seeds"], row["identities"], row["queries"]) == (BOTH, "0-2", 8, 32)
    assert row["wins"] + row["losses"] + row["ties"] == 8
    words = comparison_words(found, {"dmic": "DMIC"})
    for said in (
        "mAP at the last epoch, in percent. Intervals are of 95 %.",
        f"DMIC - pgm: {row['difference']:+.2f}, {row['low']:.2f} to {row['high']:.2f} ({BOTH}); p",
        "would be found 8 times of 10",
        "same test images, new training:",
        "better for",
        "seeds 0-2, trials 0-9, 8 people, 32 queries",
        "standard deviation of people",
    ):
        assert said in words
    read = list(csv.DictReader(io.StringIO(comparison_csv(found))))
    assert float(read[2]["difference"]) == row["difference"]
    assert read[0]["difference"] == ""
    assert read[2]["wins"] == str(int(row["wins"]))


def test_all_pairs_are_adjusted_together(folder: Path) -> None:
    found = compare(folder)
    pairs = found[found["b"] != ""]
    assert len(pairs) == 3
    assert pairs["p_holm"].tolist() == pytest.approx(holm(pairs["p"].tolist()))
    assert "after Holm over 3 comparisons" in comparison_words(found)
    with_one = compare(folder, reference="adca")
    assert with_one[with_one["b"] != ""][["a", "b"]].to_numpy().tolist() == [
        ["dmic", "adca"],
        ["pgm", "adca"],
    ]


def test_families_are_those_of_a_protocol_and_setting(tmp_path: Path) -> None:
    for method in ("a", "b", "c"):
        for split in (1, 2, 3):
            write_scored_run(tmp_path, method, split=split)
    found = compare(tmp_path)
    for _, part in found[found["b"] != ""].groupby("setting"):
        assert part["p_holm"].tolist() == pytest.approx(holm(part["p"].tolist()))
        pairs = part[part["b"] != ""]
        assert pairs["check_low"].lt(pairs["difference"]).all()
        assert pairs["check_high"].gt(pairs["difference"]).all()
    assert found["identities"].max() == 14, "people of all trials, each once"
    assert "conservative check over trials" in comparison_words(found)


def test_halves_are_compared_on_the_trials_that_both_have(tmp_path: Path) -> None:
    for split in (1, 2, 3):
        write_scored_run(tmp_path, "a", split=split)
        if split < 3:
            write_scored_run(tmp_path, "b", split=split)
    found = compare(tmp_path)
    assert found["trials"].tolist()[:3] == ["1-3", "1-2", "1-2"]


def test_one_seed_is_two_trained_models(tmp_path: Path) -> None:
    for method in ("a", "b"):
        write_scored_run(tmp_path, method, sysu=True)
    found = compare(tmp_path)
    assert found["says"].iloc[2] == TWO_MODELS
    words = comparison_words(found)
    assert "training variance unknown" in words
    assert "another training of either may turn it round" in words


def test_any_rank_and_any_epoch(folder: Path) -> None:
    assert compare(folder, "dmic", "pgm", metric="rank-3")["mean_a"].notna().any()
    words = comparison_words(compare(folder, "dmic", "pgm", checkpoint="best-on-test"))
    assert "best epoch on the test set (a leak)" in words


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (("dmic", "none"), {}, "no method 'none' in these runs; there are adca, dmic, pgm"),
        (("dmic", "dmic"), {}, "dmic cannot be compared with itself"),
        ((), {"reference": "none"}, "no method 'none'"),
        (("dmic", "pgm"), {"metric": "ap"}, "no metric 'ap': expected mAP, mINP or rank-K"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    folder: Path, names: tuple[str, ...], options: dict[str, str], words: str
) -> None:
    with pytest.raises(ResultsError, match=words):
        compare(folder, *names, **options)  # type: ignore[arg-type]


def test_one_method_alone_is_refused(tmp_path: Path) -> None:
    write_scored_run(tmp_path, "a")
    with pytest.raises(ResultsError, match="one method alone"):
        compare(tmp_path)


def test_methods_of_different_data_sets_are_refused(tmp_path: Path) -> None:
    write_scored_run(tmp_path, "a")
    write_scored_run(tmp_path, "b", sysu=True)
    with pytest.raises(ResultsError, match="a and b share no protocol and setting"):
        compare(tmp_path)


def test_seeds_must_be_shared(tmp_path: Path) -> None:
    write_scored_run(tmp_path, "a", seed=0)
    write_scored_run(tmp_path, "b", seed=1)
    with pytest.raises(ResultsError, match=r"a and b share no seed \(0 and 1\)"):
        compare(tmp_path)


def test_rows_edited_by_hand_are_refused(folder: Path) -> None:
    run = runs(folder)[0]
    rows = run.metrics.copy()
    edited = (rows["metric"] == "mAP") & (rows["checkpoint"] == "last")
    rows.loc[edited, "value"] -= 1
    write_frame(rows, run.path / "metrics.csv", METRICS)
    finish(run.path)
    with pytest.raises(
        ResultsError, match=r"metrics.csv says mAP .* ranks.npz gives .* changed after the run"
    ):
        compare(folder)


def test_old_ranks_say_what_they_lack(folder: Path) -> None:
    run = runs(folder)[0]
    old = {name: array for name, array in run.ranks().items() if not name.endswith("query_identity")}
    np.savez(run.path / "ranks.npz", **old)
    finish(run.path)
    with pytest.raises(ResultsError, match=r"no query_identity under last/sysu-all/single-shot/0: an older"):
        compare(folder)


def test_an_ambiguous_method_is_refused(tmp_path: Path) -> None:
    write_scored_run(tmp_path, "a")
    write_scored_run(tmp_path, "b")
    write_scored_run(tmp_path, "a", seed=1, run="other", weights="imagenet")
    with pytest.raises(ResultsError, match="a stands for several lines, which differ in weights"):
        compare(tmp_path)
