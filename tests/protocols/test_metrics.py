"""The fast metrics against the slow reference and the protocol's invariances; refusals."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.base import DataError, Protocol, Scores
from protocols.metrics import ShortGalleryWarning, TieWarning, cmc_of, distances
from protocols.regdb import RegDB
from protocols.sysu_mm01 import SysuAll, SysuIndoor
from tests.reference.metrics import RULES, slow_scores
from tests.reference.public_metrics import public_scores

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

    def score_tensor(self, kind: str, device: str = "cpu") -> Scores:
        return PROTOCOLS[kind].score(
            torch.as_tensor(self.distance, device=device),
            self.query_ids,
            self.gallery_ids,
            self.query_cams,
            self.gallery_cams,
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
        case.distance, case.query_ids, case.gallery_ids, case.query_cams, case.gallery_cams, RULES[kind]
    )
    np.testing.assert_allclose(found.cmc, slow.cmc, atol=1e-12)
    np.testing.assert_allclose(found.average_precision, slow.average_precision, atol=1e-12)
    assert found.mAP == pytest.approx(slow.mAP, abs=1e-12)
    assert found.mINP == pytest.approx(slow.mINP, abs=1e-12)
    assert found.mAP_pessimistic == pytest.approx(slow.mAP_pessimistic, abs=1e-12)
    assert found.tied_queries == slow.tied
    for q, expected in enumerate(slow.hits):
        assert found.hits[found.hit_offsets[q] : found.hit_offsets[q + 1]].tolist() == expected
    assert found.first_rank.tolist() == slow.first_rank
    for q, expected in enumerate(slow.first_rows):
        assert found.first_rows[q, : len(expected)].tolist() == expected
        assert (found.first_rows[q, len(expected) :] == -1).all()
        np.testing.assert_array_equal(found.first_distances[q, : len(expected)], case.distance[q, expected])
    np.testing.assert_array_equal(cmc_of(found.first_rank), found.cmc)


@quiet
@pytest.mark.parametrize("kind", PROTOCOLS)
@given(case=cases())
@settings(max_examples=50, deadline=None)
def test_equals_the_algorithm_of_public_scripts(kind: str, case: Case) -> None:
    assume(has_match(case, kind))
    found = case.score(kind)
    public = public_scores(
        case.distance, case.query_ids, case.gallery_ids, case.query_cams, case.gallery_cams, RULES[kind]
    )
    np.testing.assert_allclose(found.cmc, public.cmc, atol=1e-12)
    assert (found.mAP, found.mINP) == pytest.approx((public.mAP, public.mINP), abs=1e-12)


def identical(a: Scores, b: Scores) -> None:
    """Every field, to the bit; NaN equals NaN."""
    for field in fields(Scores):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)
        assert np.asarray(getattr(a, field.name)).dtype == np.asarray(getattr(b, field.name)).dtype


@quiet
@pytest.mark.parametrize("kind", PROTOCOLS)
@given(case=cases(), cells=st.sampled_from([1, 100, 2**22]))
@settings(max_examples=100, deadline=None)
def test_tensor_path_is_identical(kind: str, case: Case, cells: int) -> None:
    """Whatever the ties, duplicates, hidden cameras, queries without a match, and block size."""
    with mock.patch("protocols.device_metrics.CELLS", cells):
        if not has_match(case, kind):
            with pytest.raises(DataError, match="has a match"):
                case.score_tensor(kind)
            return
        identical(case.score_tensor(kind), case.score(kind))


@quiet
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", PROTOCOLS)
@pytest.mark.parametrize("levels", [2, 300, 0])
def test_cuda_is_identical_to_the_cpu(kind: str, levels: int) -> None:
    rng = np.random.default_rng(levels)
    q, g = 700, 3010
    distance = rng.integers(0, levels, (q, g)) * 1.0 if levels else rng.standard_normal((q, g))
    distance[rng.random((q, g)) < 0.1] = -0.0
    people = rng.integers(0, 96, q), rng.integers(0, 90, g)
    case = Case(distance, *people, rng.choice([3, 6], q), rng.choice([1, 2, 4, 5], g))
    identical(case.score_tensor(kind, "cuda"), case.score(kind))


@quiet
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32])
def test_tensors_of_other_types(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(1)
    case = replace(plain(5, 30), distance=rng.integers(-9, 9, (5, 30)).astype(float))
    other = PROTOCOLS["regdb"].score(
        torch.tensor(case.distance).to(dtype),
        case.query_ids,
        case.gallery_ids,
        case.query_cams,
        case.gallery_cams,
    )
    identical(other, case.score("regdb"))


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


@quiet
@pytest.mark.parametrize("camera_2", ["of the match", "of all"])
def test_a_query_that_loses_its_match_or_its_gallery_is_left_out(camera_2: str) -> None:
    """Query 1 (camera 3) has none left, query 2 (camera 6) keeps it, query 3's identity is in no gallery."""
    case = Case(
        np.array([[0.0, 1.0]] * 3),
        np.array([7, 7, 9]),
        np.array([7, 8]),
        np.array([3, 6, 6]),
        np.array([2, 1 if camera_2 == "of the match" else 2]),
    )
    found = case.score("sysu")
    assert (found.n_query, found.n_valid, found.mAP, found.mINP, found.cmc[0]) == (3, 1, 1, 1, 1)
    assert np.isnan(found.average_precision).tolist() == [True, False, True]


def test_ties_warn_with_their_count_and_go_by_gallery_order() -> None:
    case = replace(plain(1), distance=np.zeros((1, 4)), query_ids=np.array([1]))
    with pytest.warns(TieWarning, match=r"1 of 1 .* mAP 50.00, and 41.67 if wrong ones came first"):
        found = case.score("regdb")
    assert found.hits.tolist() == [2, 4]
    assert found.mAP_pessimistic == pytest.approx((1 / 3 + 2 / 4) / 2)


@quiet
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_signed_zeros_are_equal(zero: float) -> None:
    case = replace(plain(1, 2), distance=np.array([[0.0, zero]]), query_ids=np.array([1]))
    assert case.score("regdb").hits.tolist() == [2]
    assert case.score_tensor("regdb").hits.tolist() == [2]


@quiet
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(bad: float) -> None:
    case = plain()
    case.distance[1, 2] = bad
    with pytest.raises(DataError, match=r"1 of 3 rows have NaN or infinite values, the first is row 1"):
        case.score("regdb")
    with pytest.raises(DataError, match=r"1 of 3 rows have NaN or infinite values, the first is row 1"):
        case.score_tensor("regdb")


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
    with pytest.raises(DataError, match=message):
        replace(plain(), **change).score_tensor("sysu")


@quiet
def test_cameras_must_be_those_of_the_protocol() -> None:
    """Indoor search knows cameras 1 and 2 in the gallery; queries are infrared in both modes."""
    case, indoor = replace(plain(), gallery_cams=np.array([1, 2, 4, 5])), SysuIndoor()
    arrays = (case.distance, case.query_ids, case.gallery_ids)
    assert case.score("sysu").n_gallery == 4
    with pytest.raises(DataError, match=r"gallery_cams: \[4, 5\].*\(1, 2\).*sysu-indoor"):
        indoor.score(*arrays, case.query_cams, case.gallery_cams)
    with pytest.raises(DataError, match=r"query_cams: \[1\].*\(3, 6\).*sysu-indoor"):
        indoor.score(*arrays, np.array([1, 3, 6]), np.array([1, 2, 1, 2]))


@quiet
@pytest.mark.parametrize(("q", "g", "message"), [(0, 4, "zero queries"), (3, 0, "gallery is empty")])
def test_empty_sides(q: int, g: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plain(q, g).score("regdb")
    with pytest.raises(DataError, match=message):
        plain(q, g).score_tensor("regdb")


def test_distances_refuse_bad_features() -> None:
    good = np.eye(3)
    with pytest.raises(DataError, match=r"\(3, 3\).*\(3, 2\).*width"):
        distances(good, np.ones((3, 2)))
    with pytest.raises(DataError, match="gallery_features: 1 of 2 rows have zero norm, the first is row 1"):
        distances(good, np.array([[1.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(DataError, match="query_features: 1 of 3 rows have NaN"):
        distances(np.where(good == 1, [[np.nan], [1], [1]], 0), good)
    np.testing.assert_array_equal(distances(good.astype(np.float32), good), -good)
