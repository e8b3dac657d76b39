"""``reidbench evaluate``: features and networks of strangers become runs that every command takes."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.tools.networks import open_network
from results import find_runs

pytestmark = pytest.mark.slow
Command = Callable[..., subprocess.CompletedProcess[str]]
NETWORK = """
import torch

def pooled(images):
    return torch.nn.functional.adaptive_avg_pool2d(images, (4, 2)).flatten(1)

def by_modality(images, modality):
    return pooled(images) + modality[:, None]

def broken(images):
    raise RuntimeError("out of ideas")

def flat(images):
    return images.sum()
"""
SIZE = ("--height", "32", "--width", "16", "--device", "cpu")


@pytest.fixture
def words(tiny_regdb: Path) -> tuple[object, ...]:
    return ("--protocol", "regdb", "--data", tiny_regdb, "--supervision", "usl", "--trial", "1")


def test_extracted_features_score_as_the_run_and_stand_beside_it(
    reidbench: Command, two: tuple[Path, Path], tiny_regdb: Path, words: tuple[object, ...]
) -> None:
    done = reidbench("extract", two[0], "--part", "test", "--data", tiny_regdb, "--out", "f.npz")
    assert done.returncode == 0, done.stderr
    done = reidbench("evaluate", "f.npz", "--name", "mine 2.0", *words)
    assert done.returncode == 0, done.stderr
    (run,) = find_runs([Path("runs")]).runs
    (ours,) = find_runs([two[0]]).runs
    keys = ["protocol", "setting", "trial", "metric", "list_digest"]
    last = ours.metrics[ours.metrics["checkpoint"] == "last"].set_index(keys)["value"]
    mine = run.metrics.set_index(keys)["value"]
    assert mine.to_dict() == pytest.approx(last.to_dict(), abs=1e-6)
    assert set(run.metrics["method"]) == {"mine 2.0"}
    done = reidbench("verify", "--quick", "runs")
    assert done.returncode == 0, done.stdout
    done = reidbench("run", "--from", run.path / "manifest.json")
    assert done.returncode == 2
    assert "nothing was trained here; this scores it again: reidbench evaluate f.npz" in done.stderr
    assert reidbench("bundle", "runs", "--out", "mine.zip").returncode == 0
    done = reidbench("table", "mine.zip", two[0])
    assert "mine 2.0" in done.stdout
    done = reidbench("compare", "mine 2.0", "cluster-contrast", "--runs", "mine.zip", "--runs", two[0])
    assert "no difference: every person is found equally well" in done.stdout, done.stderr
    with np.load("f.npz") as file:
        paths, features = file["paths"], file["features"]
    nothing = np.where(np.arange(len(features))[:, None] == 2, np.nan, features)
    for name, arrays, said in (
        ("few.npz", {"paths": paths[5:], "features": features[5:]}, "has no features of 5 of the"),
        ("other.npz", {"paths": paths, "features": features[:9]}, "features 9 rows"),
        ("nan.npz", {"paths": paths, "features": nothing}, f"the first is that of {paths[2]}"),
        ("none.npz", {"features": features}, "the array 'paths' is missing"),
        ("flat.npz", {"paths": paths, "features": features[:, 0]}, "a row of numbers an image"),
        (
            "twice.npz",
            {"paths": np.append(paths, paths[:1]), "features": np.append(features, features[1:2], axis=0)},
            f"are both of {paths[0]}, and differ",
        ),
    ):
        np.savez(name, **arrays)
        done = reidbench("evaluate", name, "--name", "bad", *words)
        assert done.returncode == 2, name
        assert said in done.stderr, done.stderr
    for more, said in (
        (("--name", "dmic:x"), "that is a method of reidbench"),
        (("--name", "a/b"), "expected up to 40 letters"),
        (("--name", "x", "--division", "half"), "--division half: expected closed, open"),
        (("--name", "x", "--trial", "11"), "trials are 1 to 10"),
    ):
        done = reidbench("evaluate", "f.npz", *words, *more)
        assert done.returncode == 2
        assert said in done.stderr, done.stderr
    done = reidbench("evaluate", "f.npz", "--name", "x", *words[:6])
    assert "say with --trial which training" in done.stderr
    assert len(find_runs([Path("runs")]).runs) == 1


def test_networks_are_run_over_the_lists(
    reidbench: Command, words: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("anetwork.py").write_text(NETWORK)
    monkeypatch.setattr(sys, "path", [*sys.path])
    done = reidbench("evaluate", "anetwork:pooled", "--name", "pooled", *words, *SIZE)
    assert done.returncode == 0, done.stderr
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((4, 2)), torch.nn.Flatten())
    torch.jit.trace(pool, torch.zeros(2, 3, 32, 16)).save("model.ts")
    done = reidbench("evaluate", "model.ts", "--name", "script", *words, *SIZE)
    assert done.returncode == 0, done.stderr
    runs = {run.manifest["spec"]["label"]: run for run in find_runs([Path("runs")]).runs}
    one, other = (runs[name].metrics["value"].tolist() for name in ("pooled", "script"))
    assert one == pytest.approx(other, abs=1e-9)
    assert runs["pooled"].manifest["command"].startswith("reidbench evaluate anetwork:pooled --name pooled")
    Path("no.ts").write_bytes(b"none")
    for source, said in (
        ("anetwork:broken", "RuntimeError: out of ideas"),
        ("anetwork:flat", "images the network gives ()"),
        ("anetwork:none", "anetwork has no function none"),
        ("nowhere:f", "the module cannot be imported: ModuleNotFoundError"),
        ("none.ts", "none.ts: no such file"),
        ("no.ts", "no.ts is no TorchScript model"),
        ("features.csv", "expected FEATURES.npz, module:function"),
    ):
        done = reidbench("evaluate", source, "--name", "x", *words, *SIZE)
        assert done.returncode == 2, source
        assert said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_a_network_gets_the_modality_if_it_takes_two(
    reidbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bnetwork.py").write_text(NETWORK)
    network, _ = open_network("bnetwork:by_modality", torch.device("cpu"))
    images, modality = torch.zeros(2, 3, 8, 4), torch.tensor([0, 1])
    assert network(images, modality).sum(dim=1).tolist() == [0, 24]

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            self.path = path

        def get_inputs(self) -> list[types.SimpleNamespace]:
            return [types.SimpleNamespace(name="images")]

        def run(self, names: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [given["images"].mean(axis=(2, 3)) + 1]

    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Session))
    Path("m.onnx").write_bytes(b"x")
    network, digest = open_network("m.onnx", torch.device("cpu"))
    assert network(images, modality).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert len(digest) == 64
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="pip install onnxruntime"):
        open_network("m.onnx", torch.device("cpu"))


@pytest.mark.parametrize("names", [["images"], ["images", "modality"]])
def test_an_onnx_model_is_run_by_onnxruntime(tmp_path: Path, names: list[str]) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    number, make = onnx.TensorProto, onnx.helper
    shapes = {"images": (number.FLOAT, ["n", 3, 8, 4]), "modality": (number.INT64, ["n"])}
    nodes = [make.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0)]
    if "modality" in names:
        nodes += [
            make.make_node("Cast", ["modality"], ["number"], to=number.FLOAT),
            make.make_node("Unsqueeze", ["number", "one"], ["column"]),
            make.make_node("Add", ["mean", "column"], ["sum"]),
        ]
    graph = make.make_graph(
        nodes,
        "mean",
        [make.make_tensor_value_info(name, *shapes[name]) for name in names],
        [make.make_tensor_value_info(nodes[-1].output[0], number.FLOAT, ["n", 3])],
        [make.make_tensor("one", number.INT64, [1], [1])],
    )
    path = tmp_path / "m.onnx"
    opset = [make.make_opsetid("", 13)]
    path.write_bytes(make.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    network, _ = open_network(str(path), torch.device("cpu"))
    found = network(torch.ones(2, 3, 8, 4), torch.tensor([0, 1]))
    assert found.tolist() == [[1, 1, 1], [1 + ("modality" in names)] * 3]
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="is no ONNX model"):
        open_network(str(path), torch.device("cpu"))
