"""Comparisons whose recorded files are not shipped: on files made by this project's code, with the described keys.

They show that a comparison reads its file and finds no difference where there is none, not what the public code does.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from methods.association.transport import MeanPredictions
from methods.base import FeatureBank
from methods.clustering import (
    LARGEST_RADIUS,
    CameraAware,
    MeanExpansion,
    camera_aware_clusters,
    camera_aware_graph,
    density_clusters,
    jaccard_graph,
)
from methods.parts import views
from methods.parts.backbone import NonLocal
from methods.parts.config import SelfPacedConfig
from methods.parts.hybrid_memory import HybridMemory
from methods.parts.samplers import paired_batches, shared_label_batches
from tests.oracles.compare_iterations import CLUSTERING
from tests.oracles.compare_pca_inputs import augmentation as views_of_pca
from tests.oracles.compare_shared import augmentation, jitter, non_local_block
from tests.oracles.compare_steps_of_spcl_otla_agw import (
    agw_sampler,
    camera_aware_distance,
    otla_sampler,
    otla_sinkhorn,
    pair_statistics,
    spcl_select,
)
from tests.oracles.frozen import Keyed, Replay, bank_features, pixels_of, planes, seeded_state, stable
from tests.oracles.trajectories import wave
from tests.reference.views import draw_one

IDENTITY = np.arange(120) % 12
VISIBLE, INFRARED = np.repeat(np.arange(10), 20), np.arange(120) % 10


def test_spcl_select() -> None:
    memory = HybridMemory(SelfPacedConfig(k1=12, k2=4, eps=0.5, eps_gap=0.05))
    features = bank_features(0, IDENTITY, 16, 0.5)
    nothing = torch.zeros(120, dtype=torch.int64)
    memory.cluster(FeatureBank(features, nothing, nothing, torch.arange(120)))
    graph, _ = jaccard_graph(features, k1=12, radius=0.55, expansion=MeanExpansion(4))
    made = {
        "a/features": features.numpy()[None],
        "a/camera": nothing.numpy(),
        "a/setting": np.array([12, 4, 0.5, 0.05]),
        "a/raw": np.array([[density_clusters(graph, r, 4).numpy() for r in (0.5, 0.45, 0.55)]]),
        "a/labels": memory.classes.numpy()[None],
        "a/threshold": np.array([memory.threshold]),
    }
    assert spcl_select(made)["classes"] == 0
    with pytest.raises(AssertionError, match="classes"):
        spcl_select(made | {"a/labels": made["a/labels"] + 1})


def test_camera_aware_distance() -> None:
    features, camera = bank_features(0, IDENTITY, 16, 0.5), np.arange(120) % 3
    settings, dense = CameraAware(torch.from_numpy(camera)), np.ones((120, 120))
    graph, _ = camera_aware_graph(features, settings, radius=LARGEST_RADIUS)
    dense[graph.rows.numpy(), graph.indices.numpy()] = graph.values.numpy()
    made = {
        "a/features": features.numpy(),
        "a/camera": camera.astype(np.int8),
        "a/setting": np.array([5, 20, 2, 4, 0]),
        "a/distance": dense[np.triu_indices(120)].astype(np.float32),
        "a/eps": np.array([0.4]),
        "a/labels": camera_aware_clusters(features, settings, eps=0.4, min_samples=4).labels.numpy()[None],
    }
    assert camera_aware_distance(made) == {"distances": 0, "labels": 0}
    with pytest.raises(AssertionError, match="distances"):
        camera_aware_distance(made | {"a/setting": np.array([5, 20, 2, 3, 0])})


def test_otla_sinkhorn() -> None:
    generator = np.random.RandomState(1)
    logits = generator.randn(4, 32, 6).astype(np.float32)
    index, before = generator.randint(0, 50, 128), generator.randint(0, 6, 50)
    mean = MeanPredictions(50, 6, torch.device("cpu"))
    mean.add(torch.from_numpy(index), torch.from_numpy(logits.reshape(128, 6)))
    labels = mean.labels(torch.from_numpy(before), 25.0, 0.1).numpy()
    made = {"a/logits": logits, "a/index": index, "a/before": before, "a/labels": labels}
    assert otla_sinkhorn(made | {"a/failed": np.array(0)}) == {"labels": 0}
    with pytest.raises(AssertionError, match="labels"):
        otla_sinkhorn(made | {"a/failed": np.array(0), "a/labels": before})
    assert otla_sinkhorn(made | {"a/failed": np.array(1), "a/labels": before}) == {}


def test_samplers() -> None:
    sides = {"a/visible": VISIBLE, "a/infrared": INFRARED}
    drawn = shared_label_batches(VISIBLE, INFRARED, 8, 4, 200 // 32 + 1, Keyed(5))  # type: ignore[arg-type]
    assert agw_sampler(sides | {"a/batches": drawn}) == {"batches": 0}
    averages = []
    for blind in (True, False):
        rows = [
            paired_batches(VISIBLE, INFRARED, 4, 8, 200 // 32 + 1, np.random.default_rng(i), blind=blind)
            for i in range(150)
        ]
        averages.append(np.mean([pair_statistics(row, VISIBLE, INFRARED, blind) for row in rows], 0))
    made = sides | {"a/times": np.array(1), "a/statistics": np.stack(averages)}
    assert otla_sampler(made) == {"averages": 0}
    with pytest.raises(AssertionError, match="averages"):
        otla_sampler(made | {"a/statistics": np.stack(averages[::-1])})


def test_augmentation_and_jitter() -> None:
    made = {}
    for name in ("plain", "weak", "channel-adapt-gray", "grey-erasing", "erasing", "channel-exchange#2"):
        draws = stable(0, name, "u").rand(420)
        draws[1 if name in ("grey-erasing", "erasing") else 3] *= 1 if name == "weak" else 0.4
        pixels = pixels_of(0, name in ("channel-adapt-gray", "erasing"))
        drawn = draw_one(views.RECIPES[name.split("#")[0]], pixels.shape[:2], Replay(draws))
        image = views.apply_views(planes(pixels), drawn)
        at = stable(0, name, "at").randint(0, image.numel(), 900)
        made[f"{name}/out"] = image.flatten()[torch.from_numpy(at)].numpy()[None]
    assert augmentation(made) == {"pixels": 0}
    with pytest.raises(AssertionError, match="plain 0 pixels"):
        augmentation({"plain/out": made["plain/out"] + 0.01})
    chosen = stable(3, "jat").randint(0, 288 * 144, 700)
    same = {"3/factors": np.array([1.0, 1, 1, 0]), "3/order": np.arange(4)}
    assert (
        jitter(same | {"3/out": pixels_of(3, infrared=True).reshape(-1, 3)[chosen]})["grey levels, mean"] < 1
    )


def test_views_of_pca() -> None:
    spots = np.array([[3, 4], [200, 100], [150, 70]])
    made = {"tapes": np.random.RandomState(0).rand(3, 420), "spots": spots}
    image = (127.5 + wave(288 * 144 * 3, 0.7, 127)).round().astype(np.uint8).reshape(288, 144, 3)
    for name in ("plain", "channel-exchange", "channel-adapt-gray"):
        shown = np.repeat(image[..., :1], 3, 2) if name == "channel-adapt-gray" else image
        drawn = [draw_one(views.RECIPES[name], (288, 144), Replay(tape)) for tape in made["tapes"]]
        seen = [views.apply_views(planes(shown), one)[0].numpy() for one in drawn]
        made[name] = np.stack([np.append(x.mean((1, 2)), x[:, spots[:, 0], spots[:, 1]]) for x in seen])
    assert views_of_pca(made) == {"pixels": 0}
    with pytest.raises(AssertionError, match="plain 0 pixels"):
        views_of_pca(made | {"plain": made["plain"] + 0.01})


def test_iterations_replace_the_clustering_where_it_is() -> None:
    for module in CLUSTERING:
        assert hasattr(importlib.import_module(module), "jaccard_clusters"), module


def test_non_local_block() -> None:
    public = {"theta": "theta", "phi": "phi", "g": "g.0", "out": "W.0", "bn": "W.1"}

    def key(prefix: str, name: str) -> str:
        module, what = name.rsplit(".", 1)
        return f"a/{prefix}:{public[module]}.{what}"

    net, generator = NonLocal(8).double(), torch.Generator().manual_seed(0)
    state = seeded_state(net, 3)
    net.load_state_dict(state)
    x, r = torch.randn(2, 2, 8, 4, 3, generator=generator, dtype=torch.double)
    made = {key("w", name): value.numpy().copy() for name, value in state.items()}
    made |= {"a/x": x.numpy().copy(), "a/r": r.numpy(), "a/eval": net.eval()(x).detach().numpy()}
    x.requires_grad_()
    y = net.train()(x)
    (y * r).sum().backward()
    assert x.grad is not None
    made |= {"a/train": y.detach().numpy(), "a/grad_x": x.grad.numpy()}
    made |= {"a/mean": net.bn.running_mean.numpy(), "a/var": net.bn.running_var.numpy()}
    made |= {key("g", name): p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}
    assert max(non_local_block(made).values()) == 0
    with pytest.raises(AssertionError, match="statistics"):
        non_local_block(made | {"a/mean": made["a/mean"] + 1e-6})
