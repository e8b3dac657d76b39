"""The sampler: what a batch holds, label by label (cluster contrast, SpCL, AGW, OTLA)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.errors import MethodError
from methods.parts.samplers import (
    Deck,
    gallery_with_singletons,
    paired_batches,
    random_multiple_gallery,
    shared_label_batches,
)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


samples = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, 4, 7]), st.integers(0, 2)), min_size=1, max_size=40
).map(lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True)))


def check_instances(positions: np.ndarray, label: np.ndarray, camera: np.ndarray, cross: bool) -> None:
    """Check one label's anchor and companions against the rules."""
    anchor, companions = positions[0], positions[1:]
    mine = np.flatnonzero(label == label[anchor])
    assert set(companions) <= set(mine)
    others = mine[camera[mine] != camera[anchor]] if cross else mine[:0]
    pool = others if len(others) else mine[mine != anchor]
    if not len(pool):
        assert (companions == anchor).all()
        return
    assert set(companions) <= set(pool)
    if len(pool) >= len(positions):
        assert len(set(companions)) == len(companions)


@settings(max_examples=50, deadline=None)
@given(
    samples=samples, p=st.integers(1, 7), k=st.integers(1, 5), seed=st.integers(0, 99), cross=st.booleans()
)
def test_batches_hold_p_labels_and_k_instances(
    samples: tuple[np.ndarray, np.ndarray], p: int, k: int, seed: int, cross: bool
) -> None:
    label, camera = samples
    n_labels = len(set(label))
    p_found = min(p, n_labels)
    drawn = random_multiple_gallery(label, camera, p, k, 12, generator(seed), cross_camera=cross)
    assert drawn.shape == (12, p_found * k)
    assert drawn.dtype == np.int64
    blocks = drawn.reshape(12, p_found, k)
    for batch in blocks:
        assert len(set(label[batch[:, 0]])) == p_found
        for positions in batch:
            check_instances(positions, label, camera, cross)
    # every permutation gives floor(labels / P) batches without a repeated label; the rest is dropped
    per_permutation = n_labels // p_found
    for start in range(0, 12 - per_permutation + 1, per_permutation):
        anchors = label[blocks[start : start + per_permutation, :, 0].ravel()]
        assert len(set(anchors)) == len(anchors)


@settings(max_examples=50, deadline=None)
@given(samples=samples, size=st.integers(1, 30), k=st.integers(1, 5), seed=st.integers(0, 99))
def test_singletons_are_drawn_once(
    samples: tuple[np.ndarray, np.ndarray], size: int, k: int, seed: int
) -> None:
    """One pass over the labels, flattened, is cut into batches (quirk Q8)."""
    label, camera = samples
    names, counts = np.unique(label, return_counts=True)
    expected = {int(y): 1 if c == 1 else k for y, c in zip(names, counts, strict=True)}
    total = sum(expected.values())
    drawn = gallery_with_singletons(label, camera, size, k, 9, generator(seed))
    assert drawn.shape == (9, min(size, total))
    per_permutation = total // drawn.shape[1]
    for start in range(0, 9 - per_permutation + 1, per_permutation):
        flat = label[drawn[start : start + per_permutation].ravel()]
        runs = np.split(flat, np.flatnonzero(np.diff(flat)) + 1)
        assert len({int(run[0]) for run in runs}) == len(runs)
        for run in runs[:-1]:
            assert len(run) == expected[int(run[0])]
        assert len(runs[-1]) <= expected[int(runs[-1][0])]


def test_a_label_straddles_two_batches() -> None:
    label, camera = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    drawn = gallery_with_singletons(label, camera, 6, 4, 2, generator(0))
    assert label[drawn[0, -1]] == label[drawn[1, 0]]


def test_another_camera_is_always_preferred() -> None:
    label, camera = np.zeros(8, dtype=np.int64), np.array([0] * 7 + [1])
    drawn = random_multiple_gallery(label, camera, 1, 4, 300, generator(0))
    assert (camera[drawn[:, 1:]] != camera[drawn[:, :1]]).all()
    apart = random_multiple_gallery(label, camera, 1, 4, 300, generator(0), cross_camera=False)
    assert (camera[apart[:, 1:]] == camera[apart[:, :1]]).any()


@pytest.mark.parametrize(("pool", "repeats"), [(3, True), (4, False)])
def test_the_threshold_of_drawing_with_replacement(pool: int, repeats: bool) -> None:
    """K = 4: three candidates for three places are drawn with replacement, four are not (quirk Q7)."""
    label = np.zeros(pool + 1, dtype=np.int64)
    camera = np.array([0] + [1] * pool)
    drawn = random_multiple_gallery(label, camera, 1, 4, 400, generator(1))
    from_camera_1 = drawn[camera[drawn[:, 0]] == 0][:, 1:]
    assert len(from_camera_1) > 20
    assert any(len(set(row)) < 3 for row in from_camera_1) == repeats


def test_anchors_and_labels_are_uniform() -> None:
    label = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    drawn = random_multiple_gallery(label, np.zeros(8, dtype=np.int64), 1, 2, 3000, generator(2))
    anchors = np.bincount(drawn[:, 0], minlength=8)
    expected = np.array([250.0] * 4 + [500.0] * 4)
    assert (abs(anchors - expected) < 5 * np.sqrt(expected)).all()
    first_of_a_permutation = np.bincount(label[drawn[::3, 0]], minlength=3)
    assert (abs(first_of_a_permutation - 1000 / 3) < 5 * np.sqrt(1000 / 3)).all()


def test_the_seed_decides() -> None:
    label, camera = np.repeat(np.arange(9), 5), np.tile(np.arange(5), 9)
    one, same, other = (random_multiple_gallery(label, camera, 4, 4, 6, generator(s)) for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("draw", [random_multiple_gallery, gallery_with_singletons])
def test_unusable_streams_are_refused(draw) -> None:
    none, two = np.zeros(0, dtype=np.int64), np.array([0, -1])
    with pytest.raises(MethodError, match="0 labels"):
        draw(none, none, 4, 4, 1, generator(0))
    with pytest.raises(MethodError, match="noise"):
        draw(two, two, 4, 4, 1, generator(0))
    with pytest.raises(MethodError, match="4 x 0"):
        draw(np.zeros(2, dtype=np.int64), two, 4, 0, 1, generator(0))


def test_a_deck_is_dealt_out_before_it_is_shuffled_anew() -> None:
    deck = Deck(np.arange(5), generator(0))
    dealt = np.concatenate([deck.take(3) for _ in range(5)]).reshape(3, 5)
    assert all(sorted(row) == list(range(5)) for row in dealt)
    assert len({tuple(row) for row in dealt}) > 1


VISIBLE = np.array([0, 0, 0, 1, 1, 2, 2, 2, -1])
INFRARED = np.array([0, 1, 1, 1, 3, -1, 0])


def test_shared_batches_show_the_labels_of_both_sides_at_the_same_positions() -> None:
    drawn = shared_label_batches(VISIBLE, INFRARED, 5, 3, 20, generator(0))
    # only labels 0 and 1 are on both sides
    assert drawn.shape == (20, 12)
    first, second = VISIBLE[drawn[:, :6]], INFRARED[drawn[:, 6:]]
    assert (first == second).all()
    assert all(set(row) == {0, 1} for row in first)
    with pytest.raises(MethodError, match="share no label"):
        shared_label_batches(np.array([0]), np.array([1]), 2, 2, 1, generator(0))


def test_paired_batches_pair_classes_without_replacement() -> None:
    drawn = paired_batches(VISIBLE, INFRARED, 2, 3, 20, generator(0), blind=False)
    assert drawn.shape == (20, 12)
    first, second = VISIBLE[drawn[:, :6]], INFRARED[drawn[:, 6:]]
    assert (first == second).all()
    assert all(set(row) == {0, 1} for row in first)
    # three places, three images of class 0: each time all of them
    zero = drawn[:, :6][first == 0].reshape(20, 3)
    assert all(set(row) == {0, 1, 2} for row in zero)
    # three places, two images: both come before one comes again
    assert all(len(set(row)) == 2 for row in drawn[:, 6:][second == 0].reshape(20, 3))


def test_blind_batches_look_at_visible_classes_only() -> None:
    drawn = paired_batches(VISIBLE, INFRARED, 2, 7, 6, generator(0), blind=True)
    first = VISIBLE[drawn[:, :14]].reshape(6, 2, 7)
    assert (first == first[:, :, :1]).all()
    # classes without replacement: two permutations of three classes in three batches
    assert sorted(first[:3, :, 0].ravel()) == [0, 0, 1, 1, 2, 2]
    # seven infrared images, noise included, are one deck: whole decks have been dealt out
    assert (np.bincount(drawn[:, 14:].ravel(), minlength=7) == 12).all()
    # with replacement: seven places, at most three images
    assert any(len(set(row)) < len(set(drawn[:, :14].ravel())) for row in drawn[:, :14].reshape(12, 7))
    with pytest.raises(MethodError, match="no class"):
        paired_batches(VISIBLE, np.zeros(0, dtype=np.int64), 2, 2, 1, generator(0), blind=True)
