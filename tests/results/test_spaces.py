"""Pairs, projections and fragments against slow references, and their figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from results.errors import ResultsError
from results.figures import Points, RankedRow, Tile, distances, embedding, ranked, split
from results.figures.ranked import shortened
from results.figures.style import WIDTHS, to_bytes
from results.spaces import Fragments, fragments, pair_distances, project, some_identities

RNG = np.random.default_rng(0)
N = 60
IDENTITY = np.repeat(np.arange(10), 6)
CAMERA = np.tile([1, 2, 3, 3, 1, 2], 10)
MODALITY = (CAMERA == 3).astype(np.int64)
FEATURES = RNG.normal(size=(10, 8))[IDENTITY] + RNG.normal(size=(N, 8))
FEATURES /= np.linalg.norm(FEATURES, axis=1, keepdims=True)
LABELS = np.where(RNG.random(N) < 0.2, -1, IDENTITY // 2 * 3 + CAMERA % 2)


def test_pairs_are_counted_once_by_identity_and_modality() -> None:
    found = pair_distances(FEATURES, IDENTITY, MODALITY)
    wanted: dict[tuple[bool, bool], list[float]] = {}
    for i, j in itertools.combinations(range(N), 2):
        key = (bool(IDENTITY[i] == IDENTITY[j]), bool(MODALITY[i] != MODALITY[j]))
        wanted.setdefault(key, []).append(1 - float(FEATURES[i] @ FEATURES[j]))
    for (same, across), values in wanted.items():
        counts = (found.same if same else found.different)[int(across)]
        np.testing.assert_array_equal(counts, np.histogram(values, found.edges)[0])
    for across in (0, 1):
        near, far = np.array(wanted[True, bool(across)]), np.array(wanted[False, bool(across)])
        share = (near[:, None] < far).mean()
        assert found.nearer(across) == pytest.approx(share, abs=0.01)  # pairs within a bin count half


def test_no_pairs_of_one_identity_give_no_share() -> None:
    found = pair_distances(FEATURES[:2], np.array([1, 2]), np.array([0, 1]))
    assert found.different[1].sum() == 1
    assert np.isnan(found.nearer(0))
    assert np.isnan(found.nearer(1))


def test_fragments_are_those_of_all_pairs() -> None:
    found = fragments(LABELS, IDENTITY, CAMERA)
    for (i, a), (j, b) in itertools.product(enumerate(found.cameras), repeat=2):
        pairs = [
            LABELS[x] == LABELS[y] >= 0
            for x, y in itertools.permutations(range(N), 2)
            if IDENTITY[x] == IDENTITY[y] and CAMERA[x] == a and CAMERA[y] == b
        ]
        assert found.together[i, j] == pytest.approx(np.mean(pairs))
    clusters = [len({*LABELS[(one == IDENTITY) & (LABELS >= 0)].tolist()}) for one in range(10)]
    assert found.clusters.tolist() == clusters
    assert found.noise == pytest.approx((LABELS < 0).mean())


def test_fragments_of_noise_and_of_single_images() -> None:
    found = fragments(np.full(3, -1), np.array([4, 4, 5]), np.array([1, 2, 2]))
    np.testing.assert_array_equal(found.together, [[np.nan, 0], [0, np.nan]])
    assert found.clusters.tolist() == [0, 0]
    assert found.noise == 1


def test_principal_components_keep_most_of_the_variance_and_repeat() -> None:
    points = project(FEATURES, "pca", 0)
    kept = np.linalg.eigvalsh(np.cov(FEATURES.T))[-2:]
    np.testing.assert_allclose(np.var(points, axis=0, ddof=1), kept[::-1])
    np.testing.assert_array_equal(project(FEATURES, "tsne", 3), project(FEATURES, "tsne", 3))
    with pytest.raises(ResultsError, match="--by umap: expected pca or tsne"):
        project(FEATURES, "umap", 0)
    with pytest.raises(ResultsError, match="3 images are too few"):
        project(FEATURES[:3], "pca", 0)


def test_identities_of_both_modalities_come_first() -> None:
    modality = np.where(IDENTITY < 7, 0, MODALITY)
    rows = list(some_identities(IDENTITY, modality, 3, seed=1))
    assert sorted({*IDENTITY[rows].tolist()}) == [7, 8, 9]
    assert len(rows) == 18
    assert len({*IDENTITY[list(some_identities(IDENTITY, modality, 20, 0))].tolist()}) == 10


def image(camera: int, right: bool | None = None) -> Tile:
    modality = "infrared" if camera == 3 else "visible"
    pixels = np.full((16, 8, 3), 40 * camera, dtype=np.uint8)
    return Tile(
        f"cam{camera}/0001/a_rather_long_name_of_an_image_0001.jpg", camera, modality, pixels, right, 0.5
    )


ROWS = [
    RankedRow(image(3), tuple(image(1 + i % 2, i % 3 == 0) for i in range(10)), "dmic: AP 12.3 %"),
    RankedRow(image(3), (image(1, False),), "$x_1$: no match in the gallery"),
]
BOTH = {"before": fragments(LABELS, IDENTITY, CAMERA), "after": fragments(IDENTITY, IDENTITY, CAMERA)}
DRAWN: dict[str, Callable[[int], Figure]] = {
    "embedding": lambda columns: embedding(
        Points(project(FEATURES, "pca", 0), IDENTITY, MODALITY, CAMERA),
        ("one", "two"),
        "Filled: visible.",
        columns,
    ),
    "distances": lambda columns: distances(
        pair_distances(FEATURES, IDENTITY, MODALITY), "All pairs.", columns
    ),
    "split": lambda columns: split(BOTH, {1: 0, 2: 0, 3: 1}, "By k1 5.", columns),
    "ranked": lambda columns: ranked(ROWS, "Two queries.", columns),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_a_figure_is_as_wide_as_asked_repeats_and_keeps_its_texts_inside(kind: str) -> None:
    for columns, inches in WIDTHS.items():
        figure = DRAWN[kind](columns)
        width, height = figure.get_size_inches()
        assert width == pytest.approx(inches)
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        assert min(box.x0, box.y0) > -0.02, columns
        assert box.x1 < width + 0.02, columns
        assert box.y1 < height + 0.02, columns
    assert to_bytes(DRAWN[kind](1), ".svg") == to_bytes(DRAWN[kind](1), ".svg")


def test_right_and_wrong_differ_by_more_than_colour() -> None:
    axis = ranked(ROWS, "", 2).axes[0]
    marks = [text.get_text() for text in axis.texts if text.get_text() in "✓✗"]
    styles = [patch.get_linestyle() for patch in axis.patches]
    assert marks == [*list("✓✗✗✓✗✗✓✗✗✓"), "✗"]
    assert styles.count("--") == marks.count("✗")


def test_a_matrix_says_each_share_and_the_bars_add_up() -> None:
    before, _, bars = split(BOTH, {1: 0, 2: 0, 3: 1}, "", 2).axes
    shown = [text.get_text() for text in before.texts]
    assert shown == [f"{100 * share:.0f}" for share in BOTH["before"].together.ravel()]
    heights = [bar.get_height() for bar in bars.patches]
    assert sum(heights) == pytest.approx(200)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ResultsError, match="no two images"):
        distances(pair_distances(FEATURES[:1], IDENTITY[:1], MODALITY[:1]), "")
    with pytest.raises(ResultsError, match="no query"):
        ranked([], "")
    none = Fragments((1,), np.full((1, 1), np.nan), np.zeros(1, dtype=np.int64), 1.0)
    assert split({"before": none}, {1: 0}, "").axes[0].texts[0].get_text() == "–"


def test_the_end_of_a_long_path_is_kept() -> None:
    assert shortened("cam1/0001/0001.jpg", 20) == ["cam1/0001/0001.jpg"]
    lines = shortened("a" * 50 + "/0001.jpg", 12)
    assert len(lines) <= 3
    assert "".join(lines).startswith("…")
    assert "".join(lines).endswith("/0001.jpg")
