from __future__ import annotations

import json
import random
import statistics
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import (
    comparison,
    published_figures,
    to_csv,
    to_latex,
    to_markdown,
    with_published,
)
from results.captions import deviation
from results.comparable import compact
from results.formats import HEADLINE, LAST_STAGE_LEAK, LEAK, PRINTED, QUALITY
from results.schema import CHECKPOINTS, ResultsError
from results.store import find_runs
from results.tables import comparison_of
from tests.results.cases import DIRECTIONS, finish, history, regdb_rows, several, sysu_rows, write_run


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)


def slow_mean_and_std(
    rows: pd.DataFrame, method: str, setting: str, checkpoint: str, metric: str
) -> tuple[float, float]:
    """Mean and deviation by the words of the caption, one row at a time."""
    values: dict[int, list[float]] = {}
    for row in rows.to_dict("records"):
        if (row["method"], row["setting"], row["checkpoint"], row["metric"]) == (
            method,
            setting,
            checkpoint,
            metric,
        ):
            values.setdefault(row["seed"], []).append(row["value"])
    means = [statistics.fmean(v) for v in values.values()]
    varying = means if len(means) > 1 else next(iter(values.values()))
    return statistics.fmean(means), statistics.stdev(varying) if len(varying) > 1 else float("nan")


runs_of = st.tuples(
    st.lists(st.sampled_from(["dmic", "cluster-contrast", "dmic:mie"]), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(1, 10), min_size=1, max_size=3, unique=True),
)


@given(runs_of, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_means_and_deviations_are_what_the_caption_says(
    runs: tuple[list[str], list[int], list[int]], rng: random.Random
) -> None:
    rows = joined(several(*runs))
    rows["value"] = [rng.uniform(0, 100) for _ in range(len(rows))]
    table = comparison(rows)
    assert len(table.about) == 2 * len(runs[0])
    for (line, about), (group, rule) in product(
        table.about.iterrows(), ((HEADLINE, "last"), (LEAK, "best-on-test"))
    ):
        mean, std = slow_mean_and_std(rows, about["method"], about["setting"], rule, "mAP")
        assert table.mean.loc[line, (group, "mAP")] == pytest.approx(mean, abs=1e-12)
        assert table.std.loc[line, (group, "mAP")] == pytest.approx(std, abs=1e-9, nan_ok=True)


@given(runs_of, st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_the_order_of_runs_and_rows_changes_no_byte(
    runs: tuple[list[str], list[int], list[int]], rng: random.Random
) -> None:
    frames = several(*runs)
    for frame in frames:
        frame["value"] = [rng.uniform(0, 100) for _ in range(len(frame))]
    histories = {frame["run"].iloc[0]: history(shift=rng.random() / 10) for frame in frames}
    shuffled = [frame.sample(frac=1, random_state=rng.randrange(1000)) for frame in frames]
    rng.shuffle(shuffled)
    one = comparison(joined(frames), histories)
    other = comparison(joined(shuffled), dict(reversed(histories.items())))
    for form in (to_csv, to_latex, to_markdown):
        assert form(one) == form(other)


def test_a_mean_weighs_seeds_not_trials() -> None:
    rows = joined([regdb_rows(seed=0, split=t) for t in (1, 2, 3)] + [regdb_rows(seed=1, split=1)]).assign(
        value=10.0
    )
    rows.loc[rows["seed"] == 1, "value"] = 30.0
    table = comparison(rows)
    assert table.mean.loc[0, (HEADLINE, "mAP")] == 20.0
    assert any(
        s.startswith("Unequal trials in regdb") and "seed 1: 1" in s and "seed 0: 1-3" in s
        for s in table.caption
    )


def test_one_seed_of_sysu_deviates_over_the_galleries_of_its_run() -> None:
    table = comparison(sysu_rows())
    assert table.std.loc[0, (HEADLINE, "mAP")] == pytest.approx(statistics.stdev(range(10)))
    assert table.about.loc[0, "± over"] == "10 galleries of one run"
    assert any("10 galleries of one run" in s for s in table.caption)
    several_seeds = comparison(joined([sysu_rows(seed=s) for s in (0, 1)]))
    assert several_seeds.about.loc[0, "± over"] == "2 seeds"
    assert several_seeds.std.loc[0, (HEADLINE, "mAP")] == pytest.approx(statistics.stdev([0, 3]))


def test_the_headline_is_the_last_epoch_and_the_leak_is_labelled() -> None:
    table = comparison(regdb_rows())
    assert table.mean.loc[0, (LEAK, "mAP")] == pytest.approx(table.mean.loc[0, (HEADLINE, "mAP")] + 2)
    for text in (to_markdown(table), to_csv(table), to_latex(table)):
        assert LEAK in text
    assert LAST_STAGE_LEAK not in table.mean.columns
    last = comparison(regdb_rows().query("checkpoint == 'last'"))
    assert last.mean[LEAK].isna().all().all()
    assert "–" in to_markdown(last)


def test_the_best_of_the_last_stage_is_shown_on_request_alone() -> None:
    table = comparison(regdb_rows(), checkpoints=CHECKPOINTS)
    assert [group for group, name in table.columns if name == "mAP"] == [HEADLINE, LEAK, LAST_STAGE_LEAK]
    assert table.mean.loc[0, (LAST_STAGE_LEAK, "mAP")] == table.mean.loc[0, (HEADLINE, "mAP")] + 1
    for text in (to_markdown(table), to_csv(table), to_latex(table)):
        assert LAST_STAGE_LEAK in text
    assert "as public codes do" in " ".join(table.caption)
    assert "last stage" not in to_markdown(comparison(regdb_rows()))


def test_captions_say_what_picks_the_best_epoch() -> None:
    both = joined([regdb_rows(), sysu_rows()])
    for rows, headline in (
        (regdb_rows(), "the best test mAP of regdb visible-to-thermal, over all evaluated epochs"),
        (
            both,
            "headline setting (regdb visible-to-thermal; sysu-all single-shot), over all evaluated epochs",
        ),
    ):
        caption = " ".join(comparison(rows).caption)
        assert headline in caption
        assert "can be lower than the last epoch" in caption


def test_protocols_of_unknown_totals_have_trials_without_one() -> None:
    assert comparison(regdb_rows(n_trials=0)).about["trials"].unique().tolist() == ["1"]


def test_captions_say_trials_data_seeds_and_what_is_fixed() -> None:
    caption = " ".join(comparison(joined(several(["dmic"], [0, 3], [1, 2]))).caption)
    for words in (
        "2 of 10 trials, synthetic",
        "2 seeds",
        "preset demo; supervision usl; weights synthetic-source; stage_init last; seeds 0, 3",
        "version 1, gallery whole split, trials 1-2, 50 queries, 60 gallery images",
    ):
        assert words in caption
    assert "Leak" not in caption
    assert "ARI" not in caption


def test_captions_warn_of_leaks_partial_data_and_lost_queries() -> None:
    rows = regdb_rows(data="real-partial", stage_init="best-of-stage", n_valid=47)
    caption = " ".join(comparison(rows).caption)
    for words in (
        "real-partial",
        "Partial data",
        "dmic-0-1",
        "Leak: a later stage of dmic",
        "Up to 3 queries",
    ):
        assert words in caption


def test_what_differs_between_lines_becomes_a_column() -> None:
    rows = joined(
        [regdb_rows(), regdb_rows("oracle", supervision="supervised", division="closed", weights="imagenet")]
    )
    table = comparison(rows)
    assert set(table.shown) >= {"supervision", "division", "weights"}
    assert "weights" not in next(s for s in table.caption if s.startswith("All lines"))
    assert "division" in comparison(regdb_rows()).shown, "open division is never silent"
    assert "division" not in comparison(regdb_rows(division="closed")).shown


@pytest.mark.parametrize(
    ("column", "value"), [("protocol_version", "2"), ("list_digest", "other"), ("gallery_rule", "official")]
)
def test_versions_and_lists_do_not_mix(column: str, value: str) -> None:
    rows = joined([regdb_rows("dmic"), regdb_rows("cluster-contrast").assign(**{column: value})])
    with pytest.raises(ResultsError, match=f"{column} differs") as error:
        comparison(rows)
    for said in ("regdb", "in run dmic-0-1", f"{value} in run cluster-contrast-0-1"):
        assert said in str(error.value)


def test_versions_do_not_mix_across_trials_either() -> None:
    rows = joined([regdb_rows(split=1), regdb_rows(split=2, protocol_version="2")])
    with pytest.raises(ResultsError, match="protocol_version differs"):
        comparison(rows)


def test_lists_of_different_trials_may_differ() -> None:
    assert len(comparison(joined(several(["dmic"], [0], [1, 2]))).about) == 2


@pytest.mark.parametrize("kind", ["real", "real-partial"])
def test_synthetic_and_real_do_not_mix(kind: str) -> None:
    with pytest.raises(ResultsError, match="synthetic and real data") as error:
        comparison(joined([regdb_rows("dmic"), sysu_rows("source-only", data=kind)]))
    assert "dmic-0-1" in str(error.value)
    assert "source-only-0" in str(error.value)


def test_two_runs_for_one_cell_are_refused() -> None:
    with pytest.raises(ResultsError, match="run differs: dmic-0-1 in run dmic-0-1; edited in run edited"):
        comparison(joined([regdb_rows(), regdb_rows(run="edited")]))
    contradicting = joined([regdb_rows(), regdb_rows(base=50.0)])
    with pytest.raises(ResultsError, match="value differs"):
        comparison(contradicting)
    assert to_csv(comparison(joined([regdb_rows(), regdb_rows()]))) == to_csv(comparison(regdb_rows()))


def test_a_regdb_trial_with_weights_of_another_is_refused() -> None:
    with pytest.raises(ResultsError, match="trained on regdb split 2 and scored on trial 1"):
        comparison(regdb_rows().assign(split=2))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ResultsError, match="no metric rows"):
        comparison(regdb_rows().iloc[:0])


def test_pseudo_label_quality_is_the_last_epochs() -> None:
    rows = joined(several(["dmic"], [0, 1], [1]))
    table = comparison(
        rows, {"dmic-0-1": history(10), "dmic-1-1": history(10, shift=0.1), "stranger": history(2)}
    )
    assert table.mean.loc[0, (QUALITY, "ARI visible")] == pytest.approx(0.3 + 0.36 + 0.05)
    assert table.std.loc[0, (QUALITY, "ARI visible")] == pytest.approx(statistics.stdev([0, 0.1]))
    assert any(s.startswith("ARI") for s in table.caption)
    assert [name for group, name in table.columns if group == QUALITY] == ["ARI infrared", "ARI visible"]
    gone = history(10).assign(ari_visible=[*[0.5] * 9, None])
    assert (QUALITY, "ARI visible") not in comparison(regdb_rows(), {"dmic-0-1": gone}).mean


def test_settings_come_in_their_own_order() -> None:
    about = comparison(joined([*several(["b", "a"], [0], [1]), sysu_rows("a")])).about
    assert about[["protocol", "setting", "method"]].to_numpy().tolist() == [
        *[["regdb", setting, method] for setting in DIRECTIONS for method in ("a", "b")],
        ["sysu-all", "single-shot", "a"],
    ]


ABLATIONS = {
    "DMIC (CC-1)": ("Table III", (32.47, 30.6), (37.94, 46.86), (31.17, 32.78)),
    "DMIC (CC-1 + IC-1)": ("Table III", (39.09, 38.08), (47.79, 56.14), (48.88, 47.54)),
    "DMIC (CC-1 + IC-1 + CC-2)": ("Table III", (59.94, 57.49), (65.38, 72.06), (85.23, 80.92)),
    "DMIC (VC + HMCL)": ("Table IV", (42.11, 40.91), (46.09, 55.79), (72.33, 69.45)),
    "DMIC (VC + DNC + HMCL)": ("Table IV", (43.44, 43.01), (47.83, 57.44), (78.20, 74.15)),
    "DMIC (MIE + HMCL)": ("Table IV", (58.71, 55.99), (62.45, 68.95), (84.49, 79.93)),
    "DMIC": ("Table III", (60.26, 57.82), (65.83, 72.55), (86.31, 81.36)),
}
"""Where DMIC's paper prints a row; rank-1 and mAP of SYSU-MM01 all and indoor, and of RegDB's direct direction."""


def test_the_ablations_of_dmic_are_those_of_its_paper() -> None:
    figures = published_figures()
    figures = figures[figures["source"].str.contains("2412.08231", regex=False)]
    places = (("sysu-all", "single-shot"), ("sysu-indoor", "single-shot"), ("regdb", "visible-to-thermal"))
    printed = {name for name in figures["method"] if name.startswith("DMIC")}
    assert printed == set(ABLATIONS)
    for method, (table, *values) in ABLATIONS.items():
        own = figures[figures["method"] == method]
        for place, value in zip(places, values, strict=True):
            (row,) = own[(own["protocol"] == place[0]) & (own["setting"] == place[1])].to_dict("records")
            assert (row["rank1"], row["mAP"]) == value
            assert row["quote_locator"].startswith(table)


def test_published_figures_stand_apart_with_their_source() -> None:
    figures = published_figures()
    assert len(figures) == 247
    assert figures["source"].ne("").all()
    assert figures["mAP"].between(0, 100).all()
    table = with_published(comparison(sysu_rows(data="real", division="closed")), figures)
    agw = table.about.index[table.about["method"] == "AGW"][0]
    assert table.mean.loc[agw, (PRINTED, "mAP")] == 47.65
    assert table.mean.loc[agw, HEADLINE].isna().all()
    assert "mangye16/DDAG" in table.about.loc[agw, "source"]
    assert set(zip(table.about["protocol"], table.about["setting"], strict=True)) == {
        ("sysu-all", "single-shot")
    }
    assert table.mean.loc[table.about["source"] == "measured here", PRINTED].isna().all().all()
    assert "AGW" in to_markdown(table)
    with pytest.raises(ResultsError, match="synthetic"):
        with_published(comparison(regdb_rows()), figures)


@given(st.sets(st.integers(0, 30), min_size=1))
def test_compact_lists_spell_the_same_numbers(numbers: set[int]) -> None:
    spelled: set[int] = set()
    for part in compact(numbers).split(", "):
        first, _, last = part.partition("-")
        spelled |= set(range(int(first), int(last or first) + 1))
    assert spelled == numbers


@pytest.mark.parametrize("over", ["3 seeds", "2 trials", "10 galleries of one run"])
def test_a_deviation_says_what_it_is_over(over: str) -> None:
    assert f"over {over}" in deviation(over)


def test_a_reconstruction_is_called_one(tmp_path: Path) -> None:
    for method in ("dmic", "ecul"):
        path = write_run(tmp_path, regdb_rows(method))
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        text = json.dumps(manifest | ({"reconstruction": True} if method == "ecul" else {}))
        (path / "manifest.json").write_text(text, encoding="utf-8")
        finish(path)
    runs = find_runs([tmp_path]).runs
    assert comparison_of(runs).caption[-1] == (
        "Reconstruction, from neither public code nor the whole text: ecul."
    )
    assert not any("Reconstruction" in line for line in comparison_of(runs[:1]).caption)
