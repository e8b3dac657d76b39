"""Figures: what is drawn, equal bytes, widths, fonts, and what cannot be drawn."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from results import compare, find_runs
from results.comparable import line_groups
from results.errors import ResultsError
from results.figures import cmc, cmc_points, forest, pairs, scaling, schedule, stages, timings, training
from results.figures.style import COLOURS, WIDTHS, check_suffix, contrast, looks, to_bytes, write_figure
from results.figures.training import training_lines
from results.store import Run
from tests.results.cases import history, regdb_rows, write_run, write_scored_run

TIMES = pd.DataFrame(
    [
        (n, maker, stage, n / 1e4, n > 1000)
        for n in (1000, 2000)
        for maker in ("reidbench", "reference")
        for stage in ("neighbours", "whole")
    ],
    columns=["n", "implementation", "stage", "wall_median_s", "extrapolated"],
)
PLAN = {
    "regdb": pd.DataFrame({"stage": list("aabb"), "epoch": [0, 1, 0, 1], "eps": [0.3, 0.2, 0.2, 0.3]}),
    "sysu-mm01": pd.DataFrame({"stage": list("ab"), "epoch": [0, 0], "eps": [0.6, 0.3]}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ...]:
    root = tmp_path_factory.mktemp("runs")
    for method, shift in (("adca", -1.0), ("dmic:$x_1$", 0.5), ("pgm", 0.0)):
        for seed in (0, 1):
            write_scored_run(root, method, seed, shift=shift)
    return find_runs([root]).runs


def drawings(runs: tuple[Run, ...]) -> dict[str, Callable[[int], Figure]]:
    groups = line_groups(runs)
    histories = {name: [run.history for run in group] for name, group in groups.items()}
    return {
        "forest": lambda columns: forest(compare(runs, reference="adca"), columns),
        "pairs": lambda columns: pairs(compare(runs), columns),
        "cmc": lambda columns: cmc(cmc_points(runs), columns),
        "training": lambda columns: training(training_lines(histories), columns),
        "stages": lambda columns: stages(timings(groups), columns),
        "scaling": lambda columns: scaling(TIMES, columns),
        "schedule": lambda columns: schedule(PLAN, "dmic", columns),
    }


@pytest.mark.parametrize("kind", ["forest", "pairs", "cmc", "training", "stages", "scaling", "schedule"])
def test_a_figure_is_as_wide_as_asked_and_repeats_byte_for_byte(runs: tuple[Run, ...], kind: str) -> None:
    draw = drawings(runs)[kind]
    for columns, inches in WIDTHS.items():
        assert draw(columns).get_size_inches()[0] == pytest.approx(inches)
    for suffix in (".pdf", ".svg"):
        content = to_bytes(draw(1), suffix)
        assert content == to_bytes(draw(1), suffix)
        assert not re.search(rb"CreationDate|dc:date|Matplotlib v", content)


def test_a_pdf_holds_its_fonts_as_outlines_of_type_42(runs: tuple[Run, ...]) -> None:
    content = to_bytes(drawings(runs)["cmc"](1), ".pdf")
    plain = content + b"".join(
        zlib.decompress(part)
        for part in re.findall(rb"FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", content, re.S)
    )
    assert b"/FontFile2" in plain
    assert b"/Type3" not in plain


def test_nothing_of_a_text_leaves_the_figure(runs: tuple[Run, ...]) -> None:
    for kind, draw in drawings(runs).items():
        for columns in WIDTHS:
            figure = draw(columns)
            figure.draw_without_rendering()
            box = figure.get_tightbbox()
            width, height = figure.get_size_inches()
            assert box.x0 > -0.02, (kind, columns)
            assert box.y0 > -0.02, (kind, columns)
            assert box.x1 < width + 0.02, (kind, columns)
            assert box.y1 < height + 0.02, (kind, columns)


def test_a_forest_is_sorted_and_its_intervals_are_those_of_the_comparison(runs: tuple[Run, ...]) -> None:
    found = compare(runs, reference="adca")
    axis = forest(found).axes[0]
    part = found[(found["b"] != "") & (found["setting"] == "visible-to-thermal")].sort_values("difference")
    assert [label.get_text() for label in axis.get_yticklabels()] == part["a"].tolist()
    thick = [line.get_xdata() for line in axis.lines if line.get_linewidth() > 2]
    np.testing.assert_allclose(thick, part[["low", "high"]].to_numpy())


def test_every_rank_of_a_cmc_is_that_of_the_rows(runs: tuple[Run, ...]) -> None:
    points = cmc_points(runs)
    assert sorted(set(points["rank"])) == list(range(1, 21))
    rows = pd.concat([run.metrics for run in runs]).query("checkpoint == 'last'")
    for rank in (1, 5, 10, 20):
        for (setting, method), part in points[points["rank"] == rank].groupby(["setting", "method"]):
            wanted = rows[(rows["setting"] == setting) & (rows["method"] == method)]
            wanted = wanted[wanted["metric"] == f"rank-{rank}"]
            assert part["value"].item() == pytest.approx(wanted["value"].mean())
            assert part["low"].item() <= part["value"].item() <= part["high"].item()


def test_the_pairs_matrix_holds_each_difference_once(runs: tuple[Run, ...]) -> None:
    found = compare(runs)
    axis = pairs(found).axes[0]
    part = found[(found["b"] != "") & (found["setting"] == "visible-to-thermal")]
    numbers = [text.get_text() for text in axis.texts if text.get_text()[0] in "+−"]
    sizes = sorted(abs(float(text.replace("−", "-"))) for text in numbers)
    assert sizes == pytest.approx(sorted(part["difference"].abs().round(1)), abs=1e-9)


def test_training_shows_purity_by_camera_and_across_modalities() -> None:
    frame = history().assign(
        purity_visible_camera_1_joint=0.5,
        purity_infrared_camera_3_joint=0.7,
        purity_across_modalities_joint=0.6,
    )
    figure = training(training_lines({"dmic": [frame, frame], "source-only": [history(0)]}))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [
        "test mAP (%)",
        "ARI, infrared",
        "ARI, visible",
        "clusters, infrared",
        "clusters, visible",
        "purity across modalities, joint",
        "purity by camera, joint",
        "eps",
        "k2",
    ]
    by_camera = figure.axes[titles.index("purity by camera, joint")]
    assert by_camera.lines[-1].get_ydata() == pytest.approx(np.full(10, 0.6))
    low, high = by_camera.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == pytest.approx((0.5, 0.7))


def test_the_last_phase_of_an_epoch_is_drawn_and_many_runs_are_a_range() -> None:
    two = pd.concat([history(3), history(3, shift=0.2).assign(phase="second")])
    two = two.sort_values("epoch", kind="stable")
    (line,) = training(training_lines({"m": [two]})).axes[1].lines
    assert list(line.get_ydata()) == pytest.approx(history(3, shift=0.2)["ari_infrared"].tolist())
    many = training(training_lines({"m": [history(shift=i / 100) for i in range(9)]})).axes[1]
    assert len(many.lines) == 1
    assert len(many.collections) == 1


def test_stages_stack_to_the_whole(runs: tuple[Run, ...]) -> None:
    costs = timings(line_groups(runs))
    axis = stages(costs).axes[0]
    ends = sorted({round(bar.get_x() + bar.get_width(), 6) for bar in axis.patches})
    assert ends[-1] == pytest.approx(costs.groupby("method")["seconds"].sum().max())


def test_many_methods_have_looks_of_their_own() -> None:
    chosen = looks([f"m{i}" for i in range(20)])
    assert len({(look["color"], look["linestyle"]) for look in chosen.values()}) == 20
    assert len({look["color"] for look in list(chosen.values())[: len(COLOURS)]}) == len(COLOURS)
    assert (contrast("#ffffff"), contrast("#000000")) == ("#1b1f25", "#fffffe")


def test_what_cannot_be_drawn_is_said(runs: tuple[Run, ...], tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="do not train"):
        training(training_lines({"source-only": [history(0)]}))
    with pytest.raises(ResultsError, match=r"written as \.pdf, \.png, \.svg"):
        check_suffix(tmp_path / "figure.jpg")
    with pytest.raises(ResultsError, match="1 or 2 columns wide, not 3"):
        cmc(cmc_points(runs), 3)
    with pytest.raises(ResultsError, match="one method alone"):
        forest(compare(runs).query("b == ''"))
    with pytest.raises(ResultsError, match="the timings lack extrapolated, implementation"):
        scaling(pd.DataFrame({"x": [1]}))
    with pytest.raises(ResultsError, match="no epochs to draw"):
        schedule({"regdb": PLAN["regdb"].head(0)}, "dmic")
    write_run(tmp_path / "old", regdb_rows())
    with pytest.raises(ResultsError, match=r"has no query_identity.* an older version made the run"):
        cmc_points(find_runs([tmp_path / "old"]).runs)


def test_one_seed_and_one_trial_still_draw(tmp_path: Path) -> None:
    for method in ("a", "b"):
        write_scored_run(tmp_path, method, sysu=True)
    one = find_runs([tmp_path]).runs
    points = cmc_points(one)
    assert set(points["says"]) == {"this trained model, new people"}
    for figure in (cmc(points, 1), forest(compare(one, reference="a"), 1)):
        write_figure(figure, tmp_path / "f.svg")
        assert "Thin:" not in (tmp_path / "f.svg").read_text()
