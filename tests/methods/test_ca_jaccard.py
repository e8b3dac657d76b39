"""CA-Jaccard: the distance by plain loops (one camera, two, a camera with one image), the warm-up, the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.cluster import DBSCAN
from torch.nn.functional import normalize

from harness.runs.configuration import resolve
from methods.base import Epoch, FeatureBank, Stage
from methods.ca_jaccard import CAJaccard, CAJaccardConfig
from methods.cluster_contrast import ClusterContrast, ClusterContrastConfig
from methods.clustering import CameraAware, Clustering, camera_aware_clusters, camera_aware_graph
from methods.errors import MethodError
from tests.methods.contrast_cases import stub_network
from tests.methods.episodes import bank, batch, identity, pairwise, shuffled, take_step, train, training_data

__all__ = ["stub_network"]

SMALL = {
    "k1_intra": 3,
    "k1_inter": 4,
    "k2_intra": 2,
    "k2_inter": 2,
    "eps": 0.6,
    "epochs": 2,
    "iterations": 2,
    "labels_per_batch": 3,
    "instances": 2,
    "min_samples": 2,
}
STAGE = Stage("train", 50, 2)
START, SECOND = Epoch(0, STAGE, 0), Epoch(1, STAGE, 1)


def naive_distances(
    features: np.ndarray, camera: np.ndarray, k1: tuple[int, int], k2: tuple[int, int], fill: bool = False
) -> np.ndarray:
    """CA-Jaccard as its paper tells it, sample by sample; `fill` goes on with the other cameras."""
    n = len(features)
    d = 2 - 2 * features @ features.T
    ranked = [sorted(range(n), key=lambda j: (j != i, d[i, j], j)) for i in range(n)]
    intra = [[j for j in ranked[i] if camera[j] == camera[i]] for i in range(n)]
    inter = [[j for j in ranked[i] if camera[j] != camera[i]] for i in range(n)]
    if fill:
        intra, inter = (
            [a + b for a, b in zip(*lists, strict=True)] for lists in ((intra, inter), (inter, intra))
        )
    v = np.zeros((n, n))
    for i in range(n):
        mutual = [j for j in intra[i][: k1[0] + 1] if i in intra[j][: k1[0] + 1]]
        mutual += [j for j in inter[i][: k1[1] + 1] if i in inter[j][: k1[1] + 1]]
        mutual = sorted(set(mutual))
        v[i, mutual] = np.exp(-d[i, mutual]) / np.exp(-d[i, mutual]).sum()
    expanded = np.stack([v[intra[i][: k2[0]] + inter[i][: k2[1]]].mean(0) for i in range(n)])
    shared = np.minimum(expanded[:, None], expanded[None]).sum(2)
    return np.maximum(0, 1 - shared / (2 - shared))


CAMERAS = {
    "one camera": np.zeros(60, np.int64),
    "two cameras": np.arange(60) % 2,
    "a camera with one image": np.where(np.arange(60) == 7, 9, np.arange(60) % 3),
    "two images elsewhere": np.where(np.arange(60) < 2, 1, 0),
}


def clumped(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, 16, generator=generator)
    return normalize(centres.repeat(6, 1) + 0.6 * torch.randn(60, 16, generator=generator))


@pytest.mark.parametrize("case", CAMERAS)
def test_distances_are_the_naive_ones(case: str) -> None:
    features, camera = clumped(), CAMERAS[case]
    expected = naive_distances(features.double().numpy(), camera, (5, 20), (2, 4))
    graph, _ = camera_aware_graph(features, CameraAware(torch.from_numpy(camera)), radius=0.9)
    found = np.ones((60, 60))
    found[graph.rows.numpy(), graph.indices.numpy()] = graph.values.numpy()
    expected[expected > 0.9] = 1
    assert (expected < 1).sum() > 60
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("case", CAMERAS)
def test_pseudo_labels_are_dbscan_on_the_naive_distances(case: str) -> None:
    features, camera = clumped(), CAMERAS[case]
    # where there is one camera only, lists are as long as the settings say all the same
    fill, eps = case == "one camera", 0.25 if case == "one camera" else 0.4
    method = CAJaccard(CAJaccardConfig(eps=eps), training_data())
    rows = FeatureBank(
        features, torch.zeros(60, dtype=torch.int64), torch.from_numpy(camera), torch.arange(60)
    )
    for epoch, k2 in ((START, (3, 3)), (SECOND, (2, 4))):
        expected = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit(
            naive_distances(features.double().numpy(), camera, (5, 20), k2, fill)
        )
        found = method.begin_epoch(epoch, rows).labels["joint"]
        assert found.tolist() == expected.labels_.tolist()
        assert found.max() > 0


def test_warm_up_overwrites_both_k2_in_the_first_epoch_only() -> None:
    method = CAJaccard(CAJaccardConfig(), training_data())
    counts = [method.begin_epoch(Epoch(e, STAGE, e), bank()).record for e in range(3)]
    assert [(c["k2_intra"], c["k2_inter"]) for c in counts] == [(3, 3), (2, 4), (2, 4)]
    without = CAJaccard(CAJaccardConfig(warm_up_k2=0), training_data())
    assert without.begin_epoch(START, bank()).record["k2_inter"] == 4


def test_dual_on_one_camera_a_modality_has_lists_as_long_as_its_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[CameraAware] = []

    def noted(features: torch.Tensor, settings: CameraAware, **more: float) -> Clustering:
        seen.append(settings)
        return camera_aware_clusters(features, settings, **more)

    monkeypatch.setattr("methods.ca_jaccard.camera_aware_clusters", noted)
    method = CAJaccard(CAJaccardConfig(spaces="dual"), training_data(identities=12))
    rows = bank(identities=12)
    method.begin_epoch(SECOND, rows)
    assert len(seen) == 2
    for settings, modality in zip(seen, (0, 1), strict=True):
        _, lists = camera_aware_graph(rows.of(modality).features, settings, radius=0.6)
        # k1_intra + 1 and k1_inter + 1 neighbours
        assert ((lists.index >= 0).sum(1) == 6 + 21).all()


def test_public_fills_the_lists_of_small_cameras() -> None:
    features, camera = clumped(), torch.from_numpy(CAMERAS["two images elsewhere"])
    rows = FeatureBank(features, torch.zeros(60, dtype=torch.int64), camera, torch.arange(60))
    own, public = (
        CAJaccard(CAJaccardConfig(**values, eps=0.3), training_data())
        .begin_epoch(SECOND, rows)
        .labels["joint"]
        for values in ({}, CAJaccard.presets["public"]["*"])
    )
    filled = CameraAware(camera, fill_lists=True)
    expected = camera_aware_clusters(features, filled, eps=0.3, min_samples=4).labels
    assert torch.equal(public, expected)
    assert not torch.equal(public, own)


@pytest.mark.parametrize("spaces", ["joint", "dual"])
def test_an_epoch_finds_the_identities_and_trains(spaces: str) -> None:
    method = CAJaccard(CAJaccardConfig(**SMALL, spaces=spaces), training_data(cameras=2))
    epoch = SECOND
    plan = method.begin_epoch(epoch, bank(cameras=2))
    truth = identity()
    for labels in plan.labels.values():
        inside = labels > -2
        assert torch.equal(pairwise(labels[inside]), pairwise(truth[inside]))
    assert set(train(method, plan, epoch)) == {f"cluster_{space}" for space in plan.labels}


@pytest.mark.parametrize("variant", [{}, {"spaces": "dual"}, {"spaces": "dual", "augmented_view": True}])
def test_everything_but_the_clustering_is_cluster_contrast(
    variant: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("forward", "optimisers"):
        assert getattr(CAJaccard, name) is getattr(ClusterContrast, name)
    shared = {name: value for name, value in SMALL.items() if name in ClusterContrastConfig.model_fields}
    methods: list[CAJaccard | ClusterContrast] = [
        CAJaccard(CAJaccardConfig(**SMALL | variant), training_data(cameras=2)),
        ClusterContrast(ClusterContrastConfig(**shared | variant), training_data(cameras=2)),
    ]
    # the same clusters for both
    for module, clusters in (
        ("ca_jaccard", "camera_aware_clusters"),
        ("cluster_contrast", "jaccard_clusters"),
    ):
        monkeypatch.setattr(
            f"methods.{module}.{clusters}",
            lambda features, *_, **__: Clustering(torch.arange(len(features)) // 5 % 6, 6, 0.0, 0.0),
        )
    own, other = (one_step(method) for method in methods)
    assert own == other
    assert methods[0].stages(methods[0].config) == methods[1].stages(methods[1].config)


def one_step(method: CAJaccard | ClusterContrast) -> dict[str, object]:
    """Plan an epoch and take a step; return all that this decides and moves."""
    plan = method.begin_epoch(SECOND, bank(cameras=2))
    _, terms = take_step(method, batch(method, plan), SECOND)
    streams = [
        {
            name: value.tolist() if isinstance(value, torch.Tensor) else value
            for name, value in vars(one).items()
        }
        for one in plan.streams
    ]
    return {
        "labels": {name: labels.tolist() for name, labels in plan.labels.items()},
        "streams": streams,
        "steps": plan.steps,
        "iterations": plan.iterations,
        "terms": {name: float(term.detach()) for name, term in terms.items()},
        "centroids": {name: memory.centroids.tolist() for name, memory in method.memories.items()},
    }


def test_all_noise_skips_the_epoch_and_names_the_settings() -> None:
    method = CAJaccard(CAJaccardConfig(**SMALL | {"eps": 1e-6}), training_data())
    plan = method.begin_epoch(START, shuffled(bank()))
    assert plan.iterations == 0
    assert not plan.streams
    for word in ("eps", "k1_inter", "fewer than two clusters"):
        assert word in plan.skipped


def test_one_cluster_skips_the_epoch() -> None:
    method = CAJaccard(CAJaccardConfig(**SMALL | {"eps": 1.0}), training_data())
    plan = method.begin_epoch(START, bank())
    assert "joint: 1" in plan.skipped


@pytest.mark.parametrize("name", ["k1_intra", "k1_inter"])
def test_more_neighbours_than_images_are_refused(name: str) -> None:
    method = CAJaccard(CAJaccardConfig(**SMALL | {name: 61}), training_data())
    with pytest.raises(MethodError, match=f"{name} = 61"):
        method.begin_epoch(START, bank())


def test_plain_k1_is_no_setting_of_the_distance() -> None:
    with pytest.raises(ValidationError, match="k1"):
        CAJaccardConfig(k1=30)


@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_presets_are_valid_and_published(dataset: str) -> None:
    for name in CAJaccard.presets:
        preset, variant = (name, None) if name in ("paper", "demo") else ("paper", name)
        assert isinstance(resolve(CAJaccard, dataset, preset, variant, [])[0], CAJaccardConfig)
    config = resolve(CAJaccard, dataset, "paper", None, [])[0].model_dump()
    published = {"k1_intra": 5, "k1_inter": 20, "k2_intra": 2, "k2_inter": 4, "memory_momentum": 0.1}
    assert published.items() <= config.items()
    assert (config["eps"], config["iterations"]) == ((0.6, 200) if dataset == "sysu-mm01" else (0.3, 100))
