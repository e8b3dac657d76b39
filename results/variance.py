"""Intervals of a mean over query images that are nested in identities and crossed with trainings: the formulas.

The identity is the unit of sampling: images of one person resemble each other, and the galleries of one training
hold the same queries, so that neither counts as a repetition. docs/statistics.md has the reasons and the symbols.
Arrays in, arrays out; leading axes are further data sets (a simulation has hundreds).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ZERO = 1e-18
"""A variance below this is a rounding error of scores in percent."""


class MeanSquares(NamedTuple):
    """Two-way mean squares of identity scores (seeds x identities); NaN for what one seed does not give.

    Attributes
    ----------
    seed, identity, residual : float arrays (...)
    seeds, identities : int
    """

    seed: FloatArray
    identity: FloatArray
    residual: FloatArray
    seeds: int
    identities: int


class Variance(NamedTuple):
    """Variance of a mean and its degrees of freedom, float arrays (...)."""

    value: FloatArray
    freedom: FloatArray


def identity_scores(scores: FloatArray, identity: IntArray) -> FloatArray:
    """Return u[s, i] = I / N times the sum, over queries of identity i, of the score minus the mean over all.

    Parameters
    ----------
    scores : float64 array (..., seeds, queries)
    identity : int64 array (queries,)

    Returns
    -------
    float64 array (..., seeds, I)
        In the order of the sorted identities; its mean over seeds and identities is zero.
    """
    order = np.argsort(identity, kind="stable")
    _, starts = np.unique(identity[order], return_index=True)
    centred = scores - scores.mean(axis=(-2, -1), keepdims=True)
    sums: FloatArray = np.add.reduceat(centred[..., order], starts, axis=-1)
    return sums * (len(starts) / scores.shape[-1])


def mean_squares(scores: FloatArray) -> MeanSquares:
    """Split the variation of identity scores (..., S, I) into seeds, identities and the rest."""
    seeds, identities = scores.shape[-2:]
    whole = scores.mean(axis=(-2, -1), keepdims=True)
    by_seed = scores.mean(axis=-1, keepdims=True)
    by_identity = scores.mean(axis=-2, keepdims=True)
    of_identity = seeds * ((by_identity - whole) ** 2).sum(axis=(-2, -1)) / (identities - 1)
    nothing = np.full(scores.shape[:-2], np.nan)
    if seeds == 1:
        return MeanSquares(nothing, of_identity, nothing, seeds, identities)
    of_seed = identities * ((by_seed - whole) ** 2).sum(axis=(-2, -1)) / (seeds - 1)
    rest = scores - by_seed - by_identity + whole
    residual = (rest**2).sum(axis=(-2, -1)) / ((seeds - 1) * (identities - 1))
    return MeanSquares(of_seed, of_identity, residual, seeds, identities)


def satterthwaite(parts: Sequence[tuple[FloatArray, float]], value: FloatArray, most: int) -> FloatArray:
    """Return the degrees of freedom of a sum of mean squares (each with its own), at most `most`."""
    below = sum((part**2 / freedom for part, freedom in parts), start=np.zeros_like(value))
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(below > 0, value**2 / below, most)
    return np.asarray(np.minimum(freedom, most), dtype=np.float64)


def combined(
    identity: FloatArray, further: FloatArray, parts: Sequence[tuple[FloatArray, float]], i: int
) -> Variance:
    """Add to the variance over `i` identities a further one, where that is above zero.

    Parameters
    ----------
    parts : list of (float array, degrees of freedom)
        Terms of `further`, without their signs.
    """
    extra = np.maximum(further, 0.0)
    value = identity + extra
    pooled = satterthwaite([(identity, i - 1), *parts], value, i - 1)
    return Variance(value, np.where(extra > 0, pooled, float(i - 1)))


def variance_of_mean(scores: FloatArray) -> Variance:
    """Return the variance of a mean under new people and, with several seeds, new training.

    Parameters
    ----------
    scores : float64 array (..., S, I)
        Identity scores.

    Returns
    -------
    Variance
        (MS_s + MS_i - MS_r) / (S I), at least the sum over identities of the squared seed means / (I (I - 1)).
    """
    ms = mean_squares(scores)
    cells, i = ms.seeds * ms.identities, ms.identities
    identity = ms.identity / cells
    if ms.seeds == 1:
        return Variance(identity, np.full_like(identity, i - 1))
    parts = [(ms.seed / cells, ms.seeds - 1), (ms.residual / cells, (ms.seeds - 1) * (i - 1))]
    return combined(identity, (ms.seed - ms.residual) / cells, parts, i)


def variance_of_difference(a: FloatArray, b: FloatArray) -> Variance:
    """Return the variance of the difference of two means, paired by identity.

    Parameters
    ----------
    a, b : float64 arrays (..., S, I)
        Identity scores of two methods on the same queries; trainings of the two are independent.

    Returns
    -------
    Variance
        Zero if the scores are equal throughout: then it is one method under two names.
    """
    gaps = a.mean(axis=-2, keepdims=True) - b.mean(axis=-2, keepdims=True)
    paired = mean_squares(gaps)
    i = paired.identities
    identity = paired.identity / i
    if a.shape[-2] == 1:
        return Variance(identity, np.full_like(identity, i - 1))
    parts: list[tuple[FloatArray, float]] = []
    further = np.zeros_like(identity)
    for ms in (mean_squares(a), mean_squares(b)):
        cells = ms.seeds * i
        parts += [(ms.seed / cells, ms.seeds - 1), (ms.residual / cells, (ms.seeds - 1) * (i - 1))]
        further = further + (ms.seed - ms.residual) / cells
    same = (a == b).all(axis=(-2, -1))
    value, freedom = combined(identity, further, parts, i)
    return Variance(np.where(same, 0.0, value), np.where(same, float(i - 1), freedom))


def variance_over_halves(scores: FloatArray, trial_means: FloatArray) -> Variance:
    """Return the variance of a mean over trials that are a training each, on halves of the same identities.

    Parameters
    ----------
    scores : float64 array (I,)
        Identity scores, each averaged over the trials in which the identity is tested.
    trial_means : float64 array (T,)
    """
    i, trials = len(scores), len(trial_means)
    identity = np.asarray(((scores - scores.mean()) ** 2).sum() / (i * (i - 1)))
    if trials == 1:
        return Variance(identity, np.asarray(float(i - 1)))
    training = np.asarray(trial_means.var(ddof=1) / trials)
    return combined(identity, training, [(training, trials - 1)], i)
