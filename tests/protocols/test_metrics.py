"""The fast metrics against the slow reference and the protocol's invariances; refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.base import DataError, Protocol, Scores
from protocols.metrics import ShortGalleryWarning, TieWarning, distances
from protocols.regdb import RegDB
from protocols.sysu_mm01 import SysuAll
from tests.reference.metrics import slow_scores

PROTOCOLS: dict[str, Protocol] = {"sysu": SysuAll(), "regdb": RegDB()}
quiet = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Case:
    distance: npt.NDArray[np.float64]
    query_ids: npt.NDArray[np.int64]
    gallery_ids: npt.NDArray[np.int64]
    query_cams: npt.NDArray[np.int64]
    gallery_cams: npt.NDArray[np.int64]

    def score(self, kind: str) -> Scores:
        return PROTOCOLS[kind].score(
            self.distance, self.query_ids, self.gallery_ids, self.query_cams, self.gallery_cams
        )


@st.composite
def cases(draw: st.DrawFn, *, ties: bool | None = None) -> Case:
    q, g = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    identities = draw(st.integers(1, 25))
    levels = draw(st.sampled_from([1, 2, 5])) if draw(st.booleans()) and ties is not False else 0
    distance = rng.integers(0, levels, (q, g)).astype(float) if levels else rng.standard_normal((q, g))
    gallery_cameras = draw(st.sampled_from([[2], [1, 2], [1, 2, 4, 5]]))
    query_cameras = draw(st.sampled_from([[3], [6], [3, 6]]))
    return Case(
        distance,
        rng.integers(0, identities, q),
        rng.integers(0, identities, g),
        rng.choice(query_cameras, q),
        rng.choice(gallery_cameras, g),
    )


def has_match(case: Case, kind: str) -> bool:
    hidden = (case.query_cams[:, None] == 3) & (case.gallery_cams == 2) & (kind == "sysu")
    return bool(((case.query_ids[:, None] == case.gallery_ids) & ~hidden).any())


@quiet
@pytest.mark.parametrize("kind", PROTOCOLS)
@given(case=cases())
@settings(max_examples=50, deadline=None)
def test_equals_slow_reference(kind: str, case: Case) -> None:
    if not has_match(case, kind):
        with pytest.raises(DataError, match="has a match"):
            case.score(kind)
        return
    found = case.score(kind)
    slow = slow_scores(
        case.distance, case.query_ids, case.gallery_ids, case.query_cams, case.gallery_cams, kind
    )
    np.testing.assert_allclose(found.cmc, slow.cmc, atol=1e-12)
    np.testing.assert_allclose(found.average_precision, slow.average_precision, atol=1e-12)
    assert found.mAP == pytest.approx(slow.mAP, abs=1e-12)
    assert found.mINP == pytest.approx(slow.mINP, abs=1e-12)
    assert found.mAP_pessimistic == pytest.approx(slow.mAP_pessimistic, abs=1e-12)
    assert found.tied_queries == slow.tied
    for q, expected in enumerate(slow.hits):
        assert found.hits[found.hit_offsets[q] : found.hit_offsets[q + 1]].tolist() == expected


def same(a: Scores, b: Scores) -> None:
    np.testing.assert_allclose(a.cmc, b.cmc, atol=1e-12)
    assert (a.mAP, a.mINP) == pytest.approx((b.mAP, b.mINP), abs=1e-12)


@quiet
@pytest.mark.parametrize("kind", PROTOCOLS)
@given(case=cases(ties=False), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_invariances(kind: str, case: Case, seed: int) -> None:
    assume(has_match(case, kind))
    rng = np.random.default_rng(seed)
    expected = case.score(kind)
    q, g = rng.permutation(len(case.query_ids)), rng.permutation(len(case.gallery_ids))
    names = rng.permutation(1000)
    shuffled = Case(
        case.distance[q][:, g],
        case.query_ids[q],
        case.gallery_ids[g],
        case.query_cams[q],
        case.gallery_cams[g],
    )
    same(shuffled.score(kind), expected)
    same(replace(case, distance=case.distance * 4).score(kind), expected)
    relabelled = replace(case, query_ids=names[case.query_ids], gallery_ids=names[case.gallery_ids])
    same(relabelled.score(kind), expected)


def plain(q: int = 3, g: int = 4) -> Case:
    return Case(
        np.arange(q * g, dtype=float).reshape(q, g),
        np.arange(q) % 2,
        np.arange(g) % 2,
        np.full(q, 6),
        np.full(g, 1),
    )


@quiet
@pytest.mark.parametrize("kind", PROTOCOLS)
def test_perfect_distance(kind: str) -> None:
    case = plain()
    perfect = (case.query_ids[:, None] != case.gallery_ids).astype(float)
    found = replace(case, distance=perfect).score(kind)
    assert found.mAP == found.mINP == 1
    assert found.cmc.tolist() == [1.0] * 20


@quiet
def test_regdb_other_direction_is_the_transpose() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 12, 5))
    ids = np.arange(12) % 4
    forward = Case(distances(a, b), ids, ids, np.ones(12, int), np.full(12, 2))
    back = replace(forward, distance=distances(b, a))
    same(back.score("regdb"), replace(forward, distance=forward.distance.T).score("regdb"))


def test_camera_3_does_not_see_camera_2() -> None:
    case = Case(
        np.array([[0.0, 1.0, 2.0]] * 2),
        np.array([7, 7]),
        np.array([5, 7, 8]),
        np.array([3, 6]),
        np.array([2, 1, 1]),
    )
    with pytest.warns(ShortGalleryWarning):
        found = case.score("sysu")
    assert found.hits.tolist() == [1, 2]


def test_ties_warn_with_their_count_and_go_by_gallery_order() -> None:
    case = replace(plain(1), distance=np.zeros((1, 4)), query_ids=np.array([1]))
    with pytest.warns(TieWarning, match="1 of 1"):
        found = case.score("regdb")
    assert found.hits.tolist() == [2, 4]
    assert found.mAP_pessimistic == pytest.approx((1 / 3 + 2 / 4) / 2)


@quiet
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_signed_zeros_are_equal(zero: float) -> None:
    case = replace(plain(1, 2), distance=np.array([[0.0, zero]]), query_ids=np.array([1]))
    assert case.score("regdb").hits.tolist() == [2]


@quiet
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(bad: float) -> None:
    case = plain()
    case.distance[1, 2] = bad
    with pytest.raises(DataError, match=r"1 of 3 rows have NaN or infinite values, the first is row 1"):
        case.score("regdb")


@quiet
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_ids": np.arange(2)}, r"\(3, 4\).*2 query ids and 4 gallery ids"),
        ({"query_cams": np.full(2, 6)}, r"query_cams has shape \(2,\).*\(3,\)"),
        ({"gallery_cams": np.full(5, 1)}, r"gallery_cams has shape \(5,\).*\(4,\)"),
        ({"gallery_cams": np.full(4, 3)}, r"gallery_cams: \[3\]"),
        ({"query_ids": np.full(3, 9)}, "none of the 3 queries has a match"),
    ],
)
def test_arrays_that_disagree(change: dict[str, npt.NDArray[np.int64]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(plain(), **change).score("sysu")


@quiet
@pytest.mark.parametrize(("q", "g", "message"), [(0, 4, "zero queries"), (3, 0, "gallery is empty")])
def test_empty_sides(q: int, g: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plain(q, g).score("regdb")


def test_distances_refuse_bad_features() -> None:
    good = np.eye(3)
    with pytest.raises(DataError, match=r"\(3, 3\).*\(3, 2\).*width"):
        distances(good, np.ones((3, 2)))
    with pytest.raises(DataError, match="gallery_features: 1 of 2 rows have zero norm, the first is row 1"):
        distances(good, np.array([[1.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(DataError, match="query_features: 1 of 3 rows have NaN"):
        distances(np.where(good == 1, [[np.nan], [1], [1]], 0), good)
    np.testing.assert_array_equal(distances(good.astype(np.float32), good), -good)
