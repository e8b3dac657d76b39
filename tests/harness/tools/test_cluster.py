"""``reidbench cluster``, ``variants`` and ``time``: what they write, and what they refuse."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from harness.cli.app import main
from harness.errors import HarnessError
from harness.tools.cluster import ClusterConfig, cluster_file, configuration
from harness.tools.reference_core import reference_clusters
from harness.tools.samples import read_samples
from harness.tools.time import (
    Plan,
    draw,
    measure,
    parse_rivals,
    parse_sizes,
    power_law,
    synthetic_features,
    with_ratios,
)
from harness.tools.time_methods import measure_methods, parse_methods
from harness.tools.variants import variants_of_file
from methods.clustering import MeanExpansion, jaccard_clusters
from tests.methods.clustering.cases import blobs


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]
CPU = torch.device("cpu")
ORACLE = Path(__file__).parents[2] / "data" / "clustering" / "regdb.npz"
OF_ORACLE = ("k1=20", "k2=6", "eps=0.3")


@pytest.fixture
def reidbench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process: importing everything anew takes longer than the work."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as end:
            main([str(part) for part in arguments])
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return call


def saved(folder: Path, **changes: Any) -> Path:
    """Features of 60 samples with everything that is known of them; None removes an array."""
    rng = np.random.default_rng(0)
    content = {
        "features": blobs(60, 8, 6, 0.2, 0).numpy(),
        "modality": rng.integers(0, 2, 60),
        "camera": rng.integers(0, 4, 60),
        "identity": rng.integers(0, 6, 60),
    } | changes
    np.savez(folder / "f.npz", **{key: value for key, value in content.items() if value is not None})
    return folder / "f.npz"


@pytest.mark.parametrize(
    ("expansion", "labels"),
    [
        ("plain", "labels"),
        ("none", "labels"),
        ("modality-mean", "labels_modality_mean"),
        ("mie", "labels_mie"),
        ("capped", "labels_capped"),
    ],
)
def test_labels_of_public_code(expansion: str, labels: str) -> None:
    with np.load(ORACLE) as oracle:
        sets = [f"expansion={expansion}", *OF_ORACLE]
        cap = [f"cap={oracle['cap']}"] if expansion == "capped" else []
        outcome = cluster_file(ORACLE, configuration([*sets, *cap]), CPU)
        np.testing.assert_array_equal(outcome.labels, oracle[labels])


def test_command_prints_quality_and_writes_labels(reidbench: Command, tmp_path: Path) -> None:
    sets = [part for one in ("expansion=mie", *OF_ORACLE) for part in ("--set", one)]
    done = reidbench("cluster", ORACLE, *sets, "--device", "cpu", "--out", tmp_path / "labels.csv")
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(tmp_path / "labels.csv")
    assert frame.columns.to_list() == ["index", "label"]
    assert frame["index"].to_list() == list(range(700))
    with np.load(ORACLE) as oracle:
        assert frame["label"].to_list() == oracle["labels_mie"].tolist()
    for word in ("clusters 42", "noise    28", "ARI", "NMI", "precision", "recall", "within a camera"):
        assert word in done.stdout


def test_command_refuses_in_one_line(reidbench: Command, tmp_path: Path) -> None:
    done = reidbench("cluster", saved(tmp_path), "--set", "k1=61")
    assert done.returncode == 2
    assert "k1 = 61" in done.stderr
    assert "f.npz" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("clusterer", ["dbscan", "hdbscan", "agglomerative", "infomap"])
@pytest.mark.parametrize("expansion", ["plain", "camera-aware"])
def test_every_clusterer_on_every_kind_of_distance(tmp_path: Path, clusterer: str, expansion: str) -> None:
    if clusterer == "infomap":
        pytest.importorskip("infomap")
    config = configuration([f"clusterer={clusterer}", f"expansion={expansion}", "k1=10"])
    outcome = cluster_file(saved(tmp_path), config, CPU)
    assert outcome.labels.shape == (60,)
    assert outcome.quality["clusters"] == outcome.labels.max() + 1 > 0
    assert any(line.startswith("sizes") for line in outcome.lines())


def test_without_identity_there_is_no_quality(tmp_path: Path) -> None:
    path = saved(tmp_path, identity=None, modality=None, camera=None)
    outcome = cluster_file(path, configuration(["k1=10"]), CPU)
    assert outcome.quality == {}
    assert not any(line.startswith("ARI") for line in outcome.lines())


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_features_of_any_float_type(tmp_path: Path, dtype: type) -> None:
    path = saved(tmp_path, features=blobs(60, 8, 6, 0.2, 0).numpy().astype(dtype))
    assert read_samples(path, CPU).features.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "sets", "words"),
    [
        ({"features": None}, [], ["'features'", "missing"]),
        ({"features": np.ones((60, 8), np.float32)}, [], ["unit length", "sample 0", "L2"]),
        ({"features": np.full((60, 8), np.nan, np.float32)}, [], ["NaN", "sample 0"]),
        ({"features": np.ones((60, 8), int)}, [], ["features", "int64"]),
        ({"features": np.ones(60, np.float32)}, [], ["features", "(60,)"]),
        ({"features": np.ones((0, 8), np.float32)}, [], ["features", "(0, 8)"]),
        ({"features": np.array([[None] * 8] * 60)}, [], ["plain arrays"]),
        ({"modality": None}, ["expansion=mie"], ["mie", "'modality'"]),
        ({"camera": None}, ["expansion=capped"], ["capped", "'camera'"]),
        ({"camera": None, "modality": None}, ["expansion=mie"], ["'modality' and 'camera'"]),
        ({"camera": None}, ["expansion=camera-aware"], ["camera-aware", "'camera'"]),
        ({"camera": np.ones(59, int)}, [], ["camera", "59", "60"]),
        ({"identity": np.ones(60) / 3}, [], ["identity", "integers"]),
        ({}, ["k1=61"], ["k1 = 61", "60"]),
        ({}, ["k1=5"], ["k2 = 6", "k1 = 5"]),
    ],
)
def test_bad_files(tmp_path: Path, changes: dict[str, Any], sets: list[str], words: list[str]) -> None:
    with pytest.raises(HarnessError) as caught:
        cluster_file(saved(tmp_path, **changes), configuration(sets), CPU)
    for word in ["f.npz", *words]:
        assert word in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no such file"):
        cluster_file(tmp_path / "a.npz", ClusterConfig(), CPU)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["exansion=mie"], ["exansion", "'expansion'"]),
        (["expansion=mei"], ["expansion=mei", "'mie'"]),
        (["clusterer=kmeans"], ["kmeans", "dbscan"]),
        (["k1=many"], ["k1", "many"]),
        (["k1=0"], ["k1", "0"]),
        (["eps=1.2"], ["eps", "1.2"]),
        (["eps=nan"], ["eps"]),
        (["min_samples=0"], ["min_samples"]),
        (["k1"], ["key=value"]),
    ],
)
def test_bad_settings(sets: list[str], words: list[str]) -> None:
    with pytest.raises(HarnessError) as caught:
        configuration(sets)
    for word in words:
        assert word in str(caught.value)


def test_settings_that_change_nothing_are_named() -> None:
    assert configuration(["cap=3", "k1=10"]).unused == ["cap"]
    assert configuration(["expansion=camera-aware", "k1=10", "k1_intra=3"]).unused == ["k1"]
    assert configuration(["clusterer=hdbscan", "eps=0.5"]).unused == ["eps"]
    assert configuration(["expansion=capped", "cap=3", "pool=8"]).unused == []


def test_variants_cover_the_grid_and_say_what_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("infomap")
    said: list[str] = []
    path = saved(tmp_path, modality=None)
    frame = variants_of_file(path, ["k1=10"], "0.4,0.6", CPU, said.append)
    assert set(frame["expansion"]) == {"plain", "camera-aware"}
    assert len(frame) == 2 * (3 * 2 + 1)
    assert sorted(line.split()[0] for line in said) == ["capped", "mie", "modality-mean"]
    one = configuration(["k1=10", "eps=0.4", "clusterer=infomap"])
    quality = cluster_file(path, one, CPU).quality
    row = frame.query("expansion == 'plain' and clusterer == 'infomap' and eps == 0.4").iloc[0]
    for key in ("ari", "nmi", "pair_f1", "fragmentation", "clusters", "noise"):
        assert row[key] == quality[key]
    with pytest.raises(HarnessError, match="varies"):
        variants_of_file(path, ["eps=0.3"], "0.4", CPU, said.append)
    with pytest.raises(HarnessError, match="eps"):
        variants_of_file(path, [], "0.4,2", CPU, said.append)


def test_variants_without_identities_have_counts_only(tmp_path: Path) -> None:
    path = saved(tmp_path, identity=None)
    frame = variants_of_file(path, ["k1=10"], "0.5", CPU, lambda _line: None)
    assert "ari" not in frame
    assert {"clusters", "noise", "graph_s", "cluster_s"} <= set(frame)


def test_time_command_writes_table_and_figure(reidbench: Command, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    files = ("--out", tmp_path / "t.csv", "--figure", tmp_path / "t.png")
    sizes = ("--n", "300,600,900", "--dim", 32, "--k1", 10, "--repeat", 2, "--reference-limit", 600)
    done = reidbench("time", *sizes, "--device", "cpu", *files)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("labels equal") == 2
    frame = pd.read_csv(tmp_path / "t.csv").set_index(["n", "implementation", "stage"]).sort_index()
    assert set(frame.loc[900].index.get_level_values(0)) == {"reidbench", "reference", "faiss"}
    assert frame.loc[(900, "reference")]["extrapolated"].all()
    assert not frame.loc[600]["extrapolated"].any()
    ours = frame.loc[(600, "reidbench")]
    assert (ours["wall_min_s"] <= ours["wall_median_s"]).all()
    assert ours["share"]["whole"] == 1
    ratio = frame.loc[(600, "reference")]["wall_median_s"] / ours["wall_median_s"]
    np.testing.assert_allclose(ours["vs_reference"], ratio[ours.index])
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("method", "stages"),
    [("nulc", {"associate", "refine"}), ("rpnr", {"associate", "refine"}), ("mmm", {"associate"})],
)
def test_association_of_a_method_stands_beside_its_search(method: str, stages: set[str]) -> None:
    said: list[str] = []
    plan = Plan(dim=32, k1=8, k2=3, eps=0.6, repeat=2, seed=0, reference_limit=0)
    frame = measure_methods(plan, [method], [600], CPU, said.append)
    assert set(frame["implementation"]) == {method}
    assert set(frame["stage"]) >= stages | {"neighbours", "cluster", "whole"}
    wall = frame.set_index("stage")["wall_median_s"]
    assert (wall[sorted(stages)] > 0).all()
    share = wall[sorted(stages)].sum() / wall["neighbours"]
    assert said[0].startswith(f"{method}, n 600: association ")
    assert f", {share:.0%} of the search" in said[0]


def test_methods_to_time_are_known_and_have_enough_samples() -> None:
    with pytest.raises(HarnessError, match="nulc"):
        parse_methods("nulk")
    plan = Plan(dim=32, k1=8, k2=3, eps=0.6, repeat=1, seed=0, reference_limit=0)
    with pytest.raises(HarnessError, match="--method nulc --n 40"):
        measure_methods(plan, ["nulc"], [40], CPU, print)


def test_reference_is_the_same_algorithm() -> None:
    features = synthetic_features(400, 64, 1)
    for k1, k2 in ((10, 1), (20, 6)):
        found = jaccard_clusters(features, k1=k1, eps=0.6, min_samples=4, expansion=MeanExpansion(k2))
        labels = reference_clusters(features.numpy(), k1=k1, k2=k2, eps=0.6, min_samples=4)
        assert found.labels.tolist() == labels.tolist()


def test_extrapolation_follows_a_power_law() -> None:
    part = pd.DataFrame({"n": [100, 200, 400], "stage": "jaccard"})
    for power, name in ((2, "wall_min_s"), (1, "wall_median_s"), (3, "peak_mib")):
        part[name] = 1e-3 * part["n"] ** float(power)
    row = power_law(part, 1000)
    assert row["wall_min_s"] == pytest.approx(1e3)
    assert row["wall_median_s"] == pytest.approx(1)
    assert row["peak_mib"] == pytest.approx(1e6)
    assert row["extrapolated"]


def test_extrapolation_runs_the_sizes_it_lacks(tmp_path: Path) -> None:
    said: list[str] = []
    plan = Plan(dim=16, k1=8, k2=3, eps=0.6, repeat=1, seed=0, reference_limit=200)
    frame = measure(plan, [400], ["reference"], CPU, said.append)
    assert set(frame["n"]) == {400}
    assert frame.query("implementation == 'reference'")["extrapolated"].all()
    assert any("[100, 200]" in line for line in said)
    draw(frame, tmp_path / "f.png")


def test_stages_of_nothing_have_no_ratio() -> None:
    alone = pd.DataFrame(
        {
            "n": [10],
            "implementation": ["reidbench"],
            "stage": ["whole"],
            "wall_min_s": [1.0],
            "wall_median_s": [2.0],
            "peak_mib": [0.0],
            "extrapolated": [False],
        }
    )
    row = with_ratios(alone).iloc[0]
    assert row["share"] == 1
    assert np.isnan(row["vs_reference"])


def test_sizes_and_rivals() -> None:
    assert parse_sizes("400,200,400") == [200, 400]
    assert parse_rivals("reference, faiss") == ["reference", "faiss"]
    assert parse_rivals("none") == []
    for text in ("many", "1", "5,-3", ""):
        with pytest.raises(HarnessError, match="--n"):
            parse_sizes(text)
    with pytest.raises(HarnessError, match="'faiss'"):
        parse_rivals("fais")
