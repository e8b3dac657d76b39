"""Null cases, independent checks by scipy, and what the intervals cover in simulations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import bootstrap, nct, permutation_test, ttest_rel
from scipy.stats import t as student

from results.errors import ResultsError
from results.intervals import detectable, holm, interval_of, nadeau_bengio
from results.scores import MethodScores, TestSet
from results.statistics import BOTH, ONE_MODEL, TWO_MODELS, TwoMethods, one_method, two_methods
from results.variance import identity_scores, mean_squares, variance_of_difference, variance_of_mean

REPETITIONS = 300


def scores_of(
    scores: np.ndarray, identity: np.ndarray, method: str = "a", seeds: tuple[int, ...] | None = None
) -> MethodScores:
    return MethodScores(
        "p",
        "s",
        method,
        "mAP",
        seeds or tuple(range(len(scores))),
        (0,),
        (TestSet(identity, scores.astype(float)),),
    )


def halves(trials: list[tuple[np.ndarray, np.ndarray]], method: str = "a") -> MethodScores:
    sets = tuple(TestSet(identity, scores.astype(float)) for identity, scores in trials)
    seeds, numbers = range(len(trials[0][1])), range(1, len(trials) + 1)
    return MethodScores("p", "s", method, "mAP", tuple(seeds), tuple(numbers), sets)


def made(seed: int, seeds: int = 3, people: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Identities of unequal numbers of queries, and the scores of two methods."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(people), rng.integers(1, 6, people))
    hard = rng.normal(0, 15, people)[identity]
    a, b = (50 + hard + rng.normal(0, 10, (seeds, len(identity))) for _ in range(2))
    return identity, a, b


def close(one: TwoMethods, other: TwoMethods) -> bool:
    flat = [np.ravel(np.array([v for v in x if not isinstance(v, str)], dtype=object)) for x in (one, other)]
    numbers = [np.array([float(v) for part in x for v in np.ravel(part)]) for x in flat]
    return bool(np.allclose(*numbers, rtol=1e-9, atol=1e-9, equal_nan=True))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_against_a_is_no_difference(seeds: int) -> None:
    identity, a, _ = made(0, seeds)
    found = two_methods(scores_of(a, identity), scores_of(a.copy(), identity, "same"))
    assert (found.difference, found.people.low, found.people.high, found.people.p) == (0, 0, 0, 1)
    assert (found.wins, found.losses, found.ties) == (0, 0, 12)
    trials = [(identity, a), (identity + 3, a)]
    found = two_methods(halves(trials), halves(trials, "same"))
    assert (found.difference, found.people.low, found.people.high, found.people.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("seeds", [1, 3])
def test_exchanged_names_flip_the_sign(seeds: int) -> None:
    identity, a, b = made(1, seeds)
    one = two_methods(scores_of(a, identity), scores_of(b, identity, "b"))
    other = two_methods(scores_of(b, identity, "b"), scores_of(a, identity))
    assert one.difference == -other.difference
    assert (one.people.low, one.people.high) == pytest.approx((-other.people.high, -other.people.low))
    assert one.people.p == pytest.approx(other.people.p)
    assert (one.wins, one.losses) == (other.losses, other.wins)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_order_of_queries_and_the_numbers_of_people_change_nothing(seeds: int) -> None:
    identity, a, b = made(2, seeds)
    one = two_methods(scores_of(a, identity), scores_of(b, identity, "b"))
    rng = np.random.default_rng(0)
    order, names = rng.permutation(len(identity)), rng.permutation(100)
    other = two_methods(
        scores_of(a[:, order], names[identity[order]]), scores_of(b[:, order], names[identity[order]], "b")
    )
    assert close(one, other)
    alone = [one_method(x) for x in (scores_of(a, identity), scores_of(a[:, order], names[identity[order]]))]
    assert alone[0].people == pytest.approx(alone[1].people, nan_ok=True)


def test_one_query_a_person_and_one_seed_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(50, 10, (2, 1, 30))
    identity = np.arange(30)
    found = two_methods(scores_of(a, identity), scores_of(b, identity, "b"))
    plain = ttest_rel(a[0], b[0])
    assert found.people.p == pytest.approx(plain.pvalue)
    interval = plain.confidence_interval(0.95)
    assert (found.people.low, found.people.high) == pytest.approx((interval.low, interval.high))
    assert found.says == TWO_MODELS


def test_repeating_every_query_changes_nothing_but_the_images() -> None:
    identity, a, b = made(4)
    one = two_methods(scores_of(a, identity), scores_of(b, identity, "b"))
    double = np.tile(identity, 2)
    other = two_methods(scores_of(np.tile(a, (1, 2)), double), scores_of(np.tile(b, (1, 2)), double, "b"))
    assert close(one, other)
    assert one_method(scores_of(a, identity)).people == pytest.approx(
        one_method(scores_of(np.tile(a, (1, 2)), double)).people, nan_ok=True
    )


def test_one_seed_leaves_training_unknown() -> None:
    identity, a, b = made(5, 1)
    alone = one_method(scores_of(a, identity))
    assert alone.says == ONE_MODEL
    assert np.isnan(alone.training.low)
    assert np.isnan(alone.components.seed)
    both = two_methods(scores_of(a, identity), scores_of(b, identity, "b"))
    assert both.says == TWO_MODELS
    assert np.isnan(both.training.low)
    assert one_method(scores_of(np.concatenate([a, a + 1]), identity)).says == BOTH


def test_the_bootstrap_over_people_agrees_at_one_seed() -> None:
    identity, a, _ = made(6, 1, people=80)
    found = one_method(scores_of(a, identity))
    sums = np.bincount(identity, a[0])
    counts = np.bincount(identity)

    def ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(sums.sum(axis=axis) / counts.sum(axis=axis))

    drawn = bootstrap(
        (sums, counts), ratio, paired=True, n_resamples=4000, random_state=0, method="percentile"
    )
    assert found.people.error == pytest.approx(drawn.standard_error, rel=0.08)
    assert found.people.low == pytest.approx(drawn.confidence_interval.low, abs=0.8)
    assert found.people.high == pytest.approx(drawn.confidence_interval.high, abs=0.8)


def test_the_permutation_test_over_people_agrees_at_one_seed() -> None:
    identity, a, b = made(7, 1, people=60)
    b = b + 1.5
    found = two_methods(scores_of(a, identity), scores_of(b, identity, "b"))
    sums = np.bincount(identity, (a - b)[0])
    drawn = permutation_test(
        (sums, np.zeros_like(sums)),
        lambda x, y, axis=-1: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=4000,
        vectorized=True,
        random_state=0,
    )
    assert found.people.p == pytest.approx(drawn.pvalue, abs=0.05)


class World(NamedTuple):
    """Standard deviations, in percent."""

    identity: float = 15
    query: float = 22
    seed: float = 0.6
    seed_identity: float = 4
    method_identity: float = 4


def simulated(
    rng: np.random.Generator, world: World, seeds: int, methods: int
) -> tuple[np.ndarray, np.ndarray]:
    """Identities (n,) and the scores (methods, repetitions, seeds, n) of methods that are equally good."""
    people = 96
    identity = np.repeat(np.arange(people), rng.integers(30, 43, people))

    def normal(sd: float, *shape: int) -> np.ndarray:
        return rng.normal(0, sd, shape)

    shared = normal(world.identity, REPETITIONS, 1, people)[..., identity]
    shared = shared + normal(world.query, REPETITIONS, 1, len(identity))
    scores = []
    for _ in range(methods):
        own = normal(world.method_identity, REPETITIONS, 1, people) * (methods > 1)
        own = own + normal(world.seed, REPETITIONS, seeds, 1)
        own = own + normal(world.seed_identity, REPETITIONS, seeds, people)
        scores.append(shared + own[..., identity])
    return identity, np.stack(scores)


@pytest.mark.parametrize(
    "world", [World(), World(identity=4, query=5, seed=3)], ids=["people dominate", "trainings dominate"]
)
def test_intervals_of_one_method_cover_new_people_and_trainings(world: World) -> None:
    identity, scores = simulated(np.random.default_rng(11), world, 3, 1)
    variance = variance_of_mean(identity_scores(scores[0], identity))
    means = scores[0].mean(axis=(1, 2))
    reach = student.ppf(0.975, variance.freedom) * np.sqrt(variance.value)
    covered = float((np.abs(means) <= reach).mean())
    assert 0.91 <= covered <= 0.98


def test_a_test_of_equal_methods_raises_few_false_alarms() -> None:
    identity, scores = simulated(np.random.default_rng(12), World(), 3, 2)
    variance = variance_of_difference(*(identity_scores(one, identity) for one in scores))
    gaps = scores[0].mean(axis=(1, 2)) - scores[1].mean(axis=(1, 2))
    alarms = 2 * student.sf(np.abs(gaps) / np.sqrt(variance.value), variance.freedom) < 0.05
    assert 0.02 <= alarms.mean() <= 0.09


def test_components_are_those_that_the_scores_were_made_with() -> None:
    world = World(seed=3)
    identity, scores = simulated(np.random.default_rng(13), world, 3, 1)
    found = [one_method(scores_of(one, identity)).components for one in scores[0][:40]]
    identities, seed, mixed, query, _ = (np.sqrt(np.mean(np.square(c))) for c in zip(*found, strict=True))
    assert identities == pytest.approx(world.identity, rel=0.1)
    assert seed == pytest.approx(world.seed, rel=0.25)
    assert mixed == pytest.approx(world.seed_identity, rel=0.1)
    assert query == pytest.approx(world.query, rel=0.05)


def test_mean_squares_are_those_of_the_textbook() -> None:
    scores = np.random.default_rng(14).normal(size=(3, 5))
    ms = mean_squares(scores)
    effects = (
        scores.mean() + (scores.mean(1, keepdims=True) - scores.mean()) + (scores.mean(0) - scores.mean())
    )
    assert ms.seed == pytest.approx(5 * scores.mean(1).var(ddof=1))
    assert ms.identity == pytest.approx(3 * scores.mean(0).var(ddof=1))
    assert ms.residual == pytest.approx(((scores - effects) ** 2).sum() / 8)


def test_halves_add_the_variance_of_their_trainings() -> None:
    rng = np.random.default_rng(15)
    trials = []
    for _ in range(10):
        identity = np.repeat(rng.choice(40, 20, replace=False), 3)
        trials.append((identity, rng.normal(50, 10, (1, 60)) + rng.normal(0, 3)))
    other = [
        (identity, scores + rng.normal(1, 2) + rng.normal(0, 4, scores.shape)) for identity, scores in trials
    ]
    found = two_methods(halves(other), halves(trials, "b"))
    means = np.array([x[1].mean() - y[1].mean() for x, y in zip(other, trials, strict=True)])
    assert found.difference == pytest.approx(means.mean())
    assert found.says == BOTH
    assert found.people.error**2 > means.var(ddof=1) / 10
    assert found.check == pytest.approx(nadeau_bengio(means))
    spread = 1.1 * means.var(ddof=1)
    assert found.check.error == pytest.approx(np.sqrt(spread))
    assert found.check.freedom == 9
    assert found.people.freedom < 39


def test_one_trial_of_halves_is_one_test_set() -> None:
    identity, a, b = made(8)
    one = two_methods(halves([(identity, a)]), halves([(identity, b)], "b"))
    other = two_methods(scores_of(a, identity), scores_of(b, identity, "b"))
    assert close(one, other)


def test_an_interval_is_never_narrower_than_over_people_alone() -> None:
    for seed in range(20):
        identity, a, _ = made(seed)
        u = identity_scores(a, identity)
        alone = (u.mean(axis=0) ** 2).sum() / (12 * 11)
        variance = variance_of_mean(u)
        assert variance.value >= alone * (1 - 1e-12)
        assert 1 <= variance.freedom <= 11


def test_one_person_is_no_sample() -> None:
    with pytest.raises(ResultsError, match="1 identities have a match; an interval needs two"):
        one_method(scores_of(np.ones((2, 3)), np.zeros(3, dtype=int)))


def test_equal_differences_have_no_p_value() -> None:
    identity, a, _ = made(9, 1)
    identity = np.arange(len(identity))
    found = two_methods(scores_of(a + 1, identity), scores_of(a, identity, "b"))
    assert found.people.low == pytest.approx(1)
    assert np.isnan(found.people.p)


def test_methods_that_share_no_seed_are_refused() -> None:
    identity, a, b = made(10)
    with pytest.raises(ResultsError, match=r"share no seed \(0, 1, 2 and 7, 8, 9\)"):
        two_methods(scores_of(a, identity), scores_of(b, identity, "b", (7, 8, 9)))
    shared = two_methods(scores_of(a, identity), scores_of(b, identity, "b", (2, 0, 5)))
    alone = two_methods(scores_of(a[[0, 2]], identity), scores_of(b[[1, 0]], identity, "b"))
    assert close(shared, alone)


@pytest.mark.parametrize("freedom", [2, 9, 95])
def test_a_detectable_difference_is_found_8_times_of_10(freedom: int) -> None:
    shift = detectable(2.0, freedom) / 2.0
    critical = student.ppf(0.975, freedom)
    assert nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift) == pytest.approx(
        0.8, abs=1e-4
    )


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, float("nan"), 0.02]) == pytest.approx([0.5, float("nan"), 0.04], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_an_interval_by_hand() -> None:
    found = interval_of(3.0, 4.0, 10)
    assert found.high - 3 == pytest.approx(2 * 2.2281388519649385)
    assert found.p == pytest.approx(2 * student.sf(1.5, 10))
