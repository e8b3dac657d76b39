"""From a mean and its variance to an interval, a p-value, and the difference that a comparison would find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from results.variance import ZERO, FloatArray

LEVEL = 0.95
POWER = 0.8
QUANTILES = 2000
HALVINGS = 50


class Interval(NamedTuple):
    """A 95 % interval and what it was made of; NaN throughout where nothing can be said.

    Attributes
    ----------
    low, high : float
    error : float
        Standard error.
    freedom : float
        Degrees of freedom.
    p : float
        Two-sided, against zero; 1 if nothing differs, NaN if every identity differs by the same.
    """

    low: float
    high: float
    error: float
    freedom: float
    p: float


UNKNOWN = Interval(math.nan, math.nan, math.nan, math.nan, math.nan)


def interval_of(centre: float, variance: float, freedom: float) -> Interval:
    """Return the interval by Student's t around `centre`."""
    from scipy import special  # scipy.stats gives the same numbers, a second later

    error = math.sqrt(max(variance, 0.0))
    if variance <= ZERO:
        p = 1.0 if abs(centre) <= math.sqrt(ZERO) else math.nan
        return Interval(centre, centre, 0.0, freedom, p)
    reach = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    p = 2 * float(special.stdtr(freedom, -abs(centre) / error))
    return Interval(centre - reach, centre + reach, error, freedom, p)


def over_seeds(means: FloatArray) -> Interval:
    """Return the interval by t over the means (S,) of seeds; unknown for one seed."""
    if len(means) < 2:
        return UNKNOWN
    return interval_of(float(means.mean()), float(means.var(ddof=1)) / len(means), len(means) - 1)


def nadeau_bengio(trial_means: FloatArray) -> Interval:
    """Return the conservative interval over trials whose training and test halves overlap.

    Nadeau and Bengio (Machine Learning 52, 2003) correct the variance s² / T of T resampled splits to
    s² (1 / T + test / training); halves have the ratio 1.
    """
    trials = len(trial_means)
    if trials < 2:
        return UNKNOWN
    variance = float(trial_means.var(ddof=1)) * (1 / trials + 1)
    return interval_of(float(trial_means.mean()), variance, trials - 1)


def detectable(error: float, freedom: float) -> float:
    """Return the true difference that a test at 5 % with this standard error finds 8 times of 10.

    The noncentral t distribution, as a mean of normal ones over quantiles of the error's own distribution; NaN
    without an error or degrees of freedom.
    """
    from scipy import special  # as above

    if not (error > 0 and freedom > 0):
        return 0.0 if error == 0 else math.nan
    quantiles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    critical = float(special.stdtrit(freedom, (1 + LEVEL) / 2))
    squared_errors = 2 * special.gammaincinv(freedom / 2, quantiles)  # chi-squared
    thresholds = critical * np.sqrt(squared_errors / freedom)

    low, high = 0.0, 1.5 * critical + 3.0
    for _ in range(HALVINGS):
        shift = (low + high) / 2
        found = float((special.ndtr(shift - thresholds) + special.ndtr(-thresholds - shift)).mean())
        low, high = (low, shift) if found > POWER else (shift, high)
    return error * (low + high) / 2


def holm(values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values of one family, in the order given; NaN stays and does not count."""
    p = np.asarray(values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return [float(value) for value in adjusted]
