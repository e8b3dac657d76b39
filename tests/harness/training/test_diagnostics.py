from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from harness.training.diagnostics import cluster_quality
from tests.reference import diagnostics as slow

rows = st.lists(
    st.tuples(st.integers(-1, 4), st.integers(0, 4), st.integers(1, 3), st.integers(0, 1)),
    min_size=2,
    max_size=24,
)


@settings(max_examples=50, deadline=None)
@given(rows)
def test_equal_to_pair_counting(cases: list[tuple[int, int, int, int]]) -> None:
    labels, identity, camera, modality = (np.array(column) for column in zip(*cases, strict=True))
    found = cluster_quality(labels, identity, camera, modality)
    people, cams, kinds = identity.tolist(), camera.tolist(), modality.tolist()
    precision, recall, f1 = slow.pair_scores(labels.tolist(), people)
    expected = {
        "ari": slow.adjusted_rand(labels.tolist(), people),
        "pair_precision": precision,
        "pair_recall": recall,
        "pair_f1": f1,
        "fragmentation": slow.fragmentation(labels.tolist(), [(i,) for i in people]),
        "fragmentation_camera": slow.fragmentation(labels.tolist(), list(zip(people, cams, strict=True))),
        "fragmentation_modality": slow.fragmentation(labels.tolist(), list(zip(people, kinds, strict=True))),
        "purity": slow.purity(labels.tolist(), people),
        "purity_across_modalities": slow.purity_across(labels.tolist(), people, kinds),
        **{
            f"purity_{name}_camera_{number}": slow.purity(
                labels[(modality == side) & (camera == number)].tolist(),
                identity[(modality == side) & (camera == number)].tolist(),
            )
            for side, name in enumerate(("visible", "infrared"))
            for number in sorted({c for c, k in zip(cams, kinds, strict=True) if k == side})
        },
        "noise": float((labels == -1).sum()),
        "clusters": float(len(set(labels.tolist()) - {-1})),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, nan_ok=True)
    assert {key for key in found if key.startswith("purity")} <= expected.keys()


def test_noise_samples_are_singletons_for_nmi() -> None:
    identity = np.array([0, 0, 1, 1, 2])
    found = cluster_quality(np.array([0, 0, -1, -1, 1]), identity)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(identity, [0, 0, 1, 2, 3]))


@pytest.mark.parametrize("shape", ["alike", "one cluster", "one person", "all apart"])
def test_agreement_is_scikit_learns(shape: str) -> None:
    rng = np.random.default_rng(5)
    identity = rng.integers(0, 1 if shape == "one person" else 30, 300)
    labels = np.where(rng.random(300) < 0.7, identity, rng.integers(0, 40, 300))
    labels = {"one cluster": labels * 0, "all apart": np.arange(300)}.get(shape, labels)
    found = cluster_quality(labels, identity)
    assert found["ari"] == adjusted_rand_score(identity, labels)
    # the order of its sum is SciPy's, which may change it
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(identity, labels), rel=1e-14, abs=0)


def test_perfect_labels() -> None:
    identity = np.array([7, 7, 9, 9, 9])
    found = cluster_quality(np.array([1, 1, 0, 0, 0]), identity)
    for key in ("ari", "nmi", "pair_precision", "pair_recall", "pair_f1", "fragmentation"):
        assert found[key] == pytest.approx(1)
    assert (found["size_min"], found["size_median"], found["size_max"]) == (2, 2.5, 3)


@pytest.mark.parametrize("labels", [[], [-1, -1, -1]])
def test_nothing_clustered(labels: list[int]) -> None:
    found = cluster_quality(np.array(labels, dtype=np.int64), np.zeros(len(labels), dtype=np.int64))
    assert (found["clusters"], found["noise"], found["size_max"], found["fragmentation"]) == (
        0,
        len(labels),
        0,
        0,
    )
    assert found["pair_recall"] == (0.0 if labels else 1.0)


def test_fragmentation_says_where_an_identity_falls_apart() -> None:
    """One person, one cluster a camera: two clusters in all, one within a camera."""
    found = cluster_quality(np.array([0, 0, 1, 1]), np.zeros(4, dtype=np.int64), np.array([1, 1, 2, 2]))
    assert (found["fragmentation"], found["fragmentation_camera"]) == (2, 1)


def test_purity_says_whether_clusters_mix_people_within_cameras_or_across_modalities() -> None:
    """Two people; visible images are apart, infrared ones are exchanged."""
    identity, modality = np.array([0, 0, 1, 1] * 2), np.repeat([0, 1], 4)
    labels = np.array([0, 0, 1, 1, 1, 1, 0, 0])
    found = cluster_quality(labels, identity, np.repeat([1, 3], 4), modality)
    assert found["purity"] == 0.5
    assert (found["purity_visible_camera_1"], found["purity_infrared_camera_3"]) == (1, 1)
    assert found["purity_across_modalities"] == 0
    without = cluster_quality(labels, identity, np.repeat([1, 3], 4))
    assert without["purity_camera_3"] == 1
    assert "purity_across_modalities" not in without
