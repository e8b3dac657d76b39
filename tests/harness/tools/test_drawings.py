"""``reidbench figure`` of images and features, from real runs: what is shown is what the runs found."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.tools.feature_figures import read_space, space_of
from harness.tools.figure_request import Queries, Sources, Wanted
from harness.tools.ranked_lists import choose, ranked_lists, ranked_rows
from harness.training.progress import Reporter
from protocols.regdb import RegDB
from results import find_runs
from tests.results.cases import finish

pytestmark = pytest.mark.slow
Command = Callable[..., subprocess.CompletedProcess[str]]


def test_a_sheet_shows_what_the_protocol_ranks_first(two: tuple[Path, Path], tiny_regdb: Path) -> None:
    runs = find_runs([two[0]]).runs
    lists = ranked_lists(runs, "thermal-to-visible", "last", str(tiny_regdb))
    rows, says = ranked_rows(lists, Queries(how="worst", count=3), None)
    assert says.startswith("The 3 queries with the lowest average precision of cluster-contrast: regdb,")
    (trial,) = (
        t for t in RegDB().trials(tiny_regdb, 1, allow_partial=True) if t.setting == "thermal-to-visible"
    )
    ranks = runs[0].ranks()
    place = "last/regdb/thermal-to-visible/1/"
    precision = ranks[f"{place}average_precision"]
    assert sorted(precision)[:3] == [
        precision[trial.query.images.paths.index(row.query.name)] for row in rows
    ]
    for row in rows:
        query = trial.query.images.paths.index(row.query.name)
        names = [trial.gallery.images.paths[i] for i in ranks[f"{place}first_ten_rows"][query]]
        assert [tile.name for tile in row.found] == names
        distances = [tile.distance for tile in row.found]
        assert distances == sorted(map(float, distances))  # type: ignore[arg-type]
        first = int(ranks[f"{place}first_rank"][query])
        assert [i for i, tile in enumerate(row.found, 1) if tile.right][:1] == [first] * (first <= 10)
        assert (row.query.modality, row.found[0].modality) == ("infrared", "visible")
        assert row.query.pixels.shape == (128, 64, 3)


def test_queries_are_drawn_by_seed_or_by_the_gain_of_one_method(
    two: tuple[Path, Path], tiny_regdb: Path
) -> None:
    lists = ranked_lists(find_runs([two[0]]).runs, None, "last", str(tiny_regdb))
    name = next(iter(lists.ranks))
    rng = np.random.default_rng(0)
    count = len(lists.trial.query)
    a, b = ({"average_precision": rng.random(count)} for _ in "ab")
    pair = type(lists)(lists.trial, {"a": a, "b": b}, "")
    for reference, sign in (("b", 1), ("a", -1)):
        order, chosen = choose(pair, Queries(how="difference", count=2), reference)
        assert order[1] == reference
        gain = sign * (a["average_precision"] - b["average_precision"])
        assert gain[chosen].tolist() == sorted(gain)[::-1][:2]
    drawn = [choose(lists, Queries(seed=seed), None)[1].tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    for queries, reference, words in (
        (Queries(how="best"), None, "--queries best: expected random, worst, difference"),
        (Queries(count=0), None, "--count 0"),
        (Queries(how="difference"), None, f"compares two methods; these are runs of {name}"),
        (Queries(), "dmic", "--reference dmic: there are runs of cluster-contrast alone"),
    ):
        with pytest.raises(HarnessError, match=words):
            choose(lists, queries, reference)
    with pytest.raises(HarnessError, match="more than 60 lists"):
        ranked_rows(type(lists)(lists.trial, dict.fromkeys("abc", a), ""), Queries(count=24), None)


def test_the_command_draws_them_all(reidbench: Command, two: tuple[Path, Path], tiny_regdb: Path) -> None:
    done = reidbench("figure", "ranked", two[0], "--data", tiny_regdb, "--count", "1", "--out", "r.svg")
    assert done.returncode == 0, done.stderr
    assert reidbench("extract", two[0], "--data", tiny_regdb, "--out", "f.npz").returncode == 0
    small = ("--set", "k1=8", "--set", "k2=4")
    for words in (("embedding", "--by", "tsne"), ("distances",), ("split", *small)):
        done = reidbench("figure", *words, "--features", "f.npz", "--out", "f.svg")
        assert done.returncode == 0, done.stderr
    done = reidbench("figure", "distances", two[0], "--data", tiny_regdb, "--out", "d.svg")
    assert done.returncode == 0, done.stderr
    assert Path("d.svg").stat().st_size > 1000
    space = read_space(Path("f.npz"))
    assert space.says == "cluster-contrast on regdb, synthetic data, split 1, seed 0, training images"
    np.savez("g.npz", features=space.features, camera=space.camera)
    sheet = ("figure", "ranked", two[0])
    for asked, said in (
        (("figure", "split"), "give one run"),
        (("figure", "split", two[0], "--features", "f.npz"), "give one run"),
        (
            ("figure", "split", "--features", "f.npz", "--set", "expansion=mie"),
            "figure split compares plain and mie",
        ),
        (("figure", "split", "--features", "f.npz", "--set", "k3=1"), "--set k3: unknown key"),
        (("figure", "distances", "--features", "g.npz"), "g.npz lacks modality, identity"),
        (("figure", "embedding", "--features", "none.npz"), "none.npz: no such file"),
        (("figure", "embedding", "--features", "f.npz", "--by", "umap"), "--by umap: expected pca or tsne"),
        ((*sheet, "--data", "none"), "the data are not at none"),
        ((*sheet, "--data", tiny_regdb, "--setting", "indoor"), "--setting indoor: no run has it"),
        (("figure", "rankd", two[0]), "ranked"),
    ):
        done = reidbench(*asked)
        assert done.returncode == 2, asked
        assert said in done.stderr, done.stderr
        assert not Path("figure.pdf").exists()


def test_other_data_than_the_runs_are_refused(
    two: tuple[Path, Path], tiny_regdb: Path, tiny_sysu: Path, tmp_path: Path
) -> None:
    other = tmp_path / "regdb"
    shutil.copytree(tiny_regdb, other)
    for name in ("test_visible_1.txt", "test_thermal_1.txt"):
        lines = (other / "idx" / name).read_text().splitlines()
        (other / "idx" / name).write_text("\n".join(lines[::-1]) + "\n")
    with pytest.raises(HarnessError, match=r"its lists of regdb, .* are not those of the runs"):
        ranked_lists(find_runs([two[0]]).runs, None, "last", str(other))
    copy = tmp_path / two[0].name
    shutil.copytree(two[0], copy)
    with np.load(copy / "ranks.npz") as file:
        kept = {name: file[name] for name in file.files if not name.endswith("first_ten_rows")}
    np.savez(copy / "ranks.npz", **kept)
    with pytest.raises(HarnessError, match="has no first_ten_rows under last/regdb/"):
        ranked_lists(find_runs([finish(copy)]).runs, None, "last", str(tiny_regdb))
    quiet = Reporter.__new__(Reporter)
    with pytest.raises(HarnessError, match="give one run"):
        space_of(Wanted((), sources=Sources()), "test", quiet)
