"""What scores by query say of one method, and of the difference of two (docs/statistics.md has the formulas)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from results.errors import ResultsError
from results.intervals import UNKNOWN, Interval, detectable, interval_of, nadeau_bengio, over_seeds
from results.scores import MethodScores, TestSet
from results.variance import (
    FloatArray,
    Variance,
    identity_scores,
    mean_squares,
    variance_of_difference,
    variance_of_mean,
    variance_over_halves,
)

BOTH = "new people and new training"
TRAINING = "same test images, new training"
ONE_MODEL = "this trained model, new people"
TWO_MODELS = "these two trained models, new people"


class Components(NamedTuple):
    """Standard deviations, in percent, of what a score varies with; NaN where the runs do not say.

    Attributes
    ----------
    identity, seed, seed_identity, query : float
        Of people, of trainings, of trainings from person to person, and of the images of one person.
    trial : float
        Of the means of trials that have a training and test images of their own.
    """

    identity: float
    seed: float
    seed_identity: float
    query: float
    trial: float


class OneMethod(NamedTuple):
    """What the runs of one method say.

    Attributes
    ----------
    people : Interval
        For `says`: new people and, where there are several, new trainings.
    training : Interval
        For the same test images and new trainings; unknown with one seed.
    """

    mean: float
    says: str
    people: Interval
    training: Interval
    components: Components


class TwoMethods(NamedTuple):
    """What the runs of two methods say of their difference, first minus second.

    Attributes
    ----------
    people, training : Interval
        As in :class:`OneMethod`, of the difference.
    check : Interval
        Nadeau and Bengio's over trials with a training each; unknown elsewhere.
    detectable : float
        The true difference that a test like this finds 8 times of 10.
    wins, losses, ties : int
        Identities that the first method finds better, worse, or equally well.
    """

    mean_a: float
    mean_b: float
    difference: float
    says: str
    people: Interval
    training: Interval
    check: Interval
    detectable: float
    wins: int
    losses: int
    ties: int


def require_people(sets: Sequence[TestSet], where: str) -> None:
    """Refuse scores of fewer than two people: there is no sample."""
    people = len(np.unique(np.concatenate([one.identity for one in sets])))
    if people < 2:
        raise ResultsError(f"{where}: {people} identities have a match; an interval needs two or more")


def seed_means(scores: MethodScores) -> FloatArray:
    """Return the mean of each seed (S,), over trials of their means over queries."""
    return np.mean([one.scores.mean(axis=1) for one in scores.sets], axis=0)


def one_method(scores: MethodScores) -> OneMethod:
    """Say how well a method does, and how sure that is.

    Raises
    ------
    ResultsError
        If fewer than two people are tested.
    """
    mean, says, people = over_people(scores)
    return OneMethod(mean, says, people, over_seeds(seed_means(scores)), components(scores))


def over_people(scores: MethodScores) -> tuple[float, str, Interval]:
    """Return a method's mean, its interval for new people and, before that, what the interval is for.

    Raises
    ------
    ResultsError
        If fewer than two people are tested.
    """
    require_people(scores.sets, f"{scores.method}, {scores.protocol}, {scores.setting}")
    mean = float(seed_means(scores).mean())
    if len(scores.sets) > 1:
        by_trial = [one.scores.mean(axis=0) for one in scores.sets]
        variance, says = of_halves(scores.sets, by_trial), BOTH
    else:
        u = identity_scores(scores.sets[0].scores, scores.sets[0].identity)
        variance, says = variance_of_mean(u), BOTH if len(scores.seeds) > 1 else ONE_MODEL
    return mean, says, interval_of(mean, float(variance.value), float(variance.freedom))


def of_halves(sets: Sequence[TestSet], by_trial: Sequence[FloatArray]) -> Variance:
    """Return the variance of the mean over trials, from the scores by query (n,) of each."""
    names = np.unique(np.concatenate([one.identity for one in sets]))
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for one, scores in zip(sets, by_trial, strict=True):
        tested = np.searchsorted(names, np.unique(one.identity))
        sums[tested] += identity_scores(scores[None], one.identity)[0]
        counts[tested] += 1
    return variance_over_halves(sums / counts, np.array([scores.mean() for scores in by_trial]))


def components(scores: MethodScores) -> Components:
    """Estimate the standard deviations by the analysis of variance; an estimate below zero is zero."""
    people = [of_people(one) for one in scores.sets]
    identity, seed, mixed, query = (float(np.mean(column)) for column in zip(*people, strict=True))
    trial = math.nan
    if len(scores.sets) > 1:
        trial = float(np.var([one.scores.mean() for one in scores.sets], ddof=1))
    return Components(*(math.sqrt(max(v, 0.0)) for v in (identity, seed, mixed, query, trial)))


def of_people(one: TestSet) -> tuple[float, float, float, float]:
    """Return the variances of identity, seed, seed x identity and query in one test set."""
    ms = mean_squares(identity_scores(one.scores, one.identity))
    seed = float(ms.seed - ms.residual) / ms.identities
    mixed = float(ms.residual)
    by_query = one.scores.mean(axis=0)
    _, code, counts = np.unique(one.identity, return_inverse=True, return_counts=True)
    means = np.bincount(code, by_query) / counts
    within = len(by_query) - len(counts)
    query = float(((by_query - means[code]) ** 2).sum() / within) if within else math.nan
    of_images = query * ms.identities / len(by_query) if within else 0.0
    of_seeds = mixed / ms.seeds if ms.seeds > 1 else 0.0
    return float(ms.identity) / ms.seeds - of_seeds - of_images, seed, mixed, query


def matched(a: MethodScores, b: MethodScores) -> tuple[MethodScores, MethodScores]:
    """Keep the seeds and the trials that both have.

    Raises
    ------
    ResultsError
        If they share none, or were scored on different queries or galleries.
    """
    where = f"{a.protocol}, {a.setting}: {a.method} and {b.method}"
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    if not seeds:
        raise ResultsError(
            f"{where} share no seed ({said(a.seeds)} and {said(b.seeds)}); a comparison pairs runs of equal seeds"
        )
    a, b = a.of_seeds(seeds), b.of_seeds(seeds)
    if a.trials != b.trials:
        trials = [trial for trial in a.trials if trial in b.trials]
        if len(a.sets) != len(a.trials) or len(b.sets) != len(b.trials) or not trials:
            raise ResultsError(
                f"{where} were not scored on the same trials ({said(a.trials)}; {said(b.trials)})"
            )
        a, b = a.of_trials(trials), b.of_trials(trials)
    for one, other in zip(a.sets, b.sets, strict=True):
        if not np.array_equal(one.identity, other.identity):
            raise ResultsError(f"{where} were not scored on the same queries")
    return a, b


def said(numbers: Sequence[int]) -> str:
    """Return numbers as text."""
    return ", ".join(map(str, numbers))


def two_methods(a: MethodScores, b: MethodScores) -> TwoMethods:
    """Compare two methods under one setting, query by query; see :func:`matched` for what they must share.

    Raises
    ------
    ResultsError
        As :func:`matched`; or if fewer than two people are tested.
    """
    a, b = matched(a, b)
    require_people(a.sets, f"{a.protocol}, {a.setting}")
    gaps = [x.scores.mean(axis=0) - y.scores.mean(axis=0) for x, y in zip(a.sets, b.sets, strict=True)]
    mean_a, mean_b = float(seed_means(a).mean()), float(seed_means(b).mean())
    difference = float(np.mean([gap.mean() for gap in gaps]))
    check, says = UNKNOWN, BOTH
    if len(gaps) > 1:
        variance = of_halves(a.sets, gaps)
        check = nadeau_bengio(np.array([gap.mean() for gap in gaps]))
    else:
        x, y = (identity_scores(one.sets[0].scores, one.sets[0].identity) for one in (a, b))
        variance, says = variance_of_difference(x, y), BOTH if len(a.seeds) > 1 else TWO_MODELS
    people = interval_of(difference, float(variance.value), float(variance.freedom))
    return TwoMethods(
        mean_a,
        mean_b,
        difference,
        says,
        people,
        over_seeds(seed_means(a) - seed_means(b)),
        check,
        detectable(people.error, people.freedom),
        *wins(a.sets, gaps),
    )


def wins(sets: Sequence[TestSet], gaps: Sequence[FloatArray]) -> tuple[int, int, int]:
    """Count the identities whose mean difference is above, below, or at zero."""
    identity, gap = np.concatenate([one.identity for one in sets]), np.concatenate(gaps)
    _, code, counts = np.unique(identity, return_inverse=True, return_counts=True)
    means = np.bincount(code, gap) / counts
    means[np.abs(means) < 1e-9] = 0.0
    return int((means > 0).sum()), int((means < 0).sum()), int((means == 0).sum())
