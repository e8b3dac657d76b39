"""Balanced optimal transport: labels of images (OTLA, ECCV 2022), a plan between clusters (RPNR, ACM MM 2024)."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from methods.errors import MethodError

FLAT_PLAN = 1e-6
"""Spread of the log plan over classes below which no class is preferred."""


def sinkhorn_labels(
    probabilities: Tensor,
    power: float = 25.0,
    tolerance: float = 0.1,
    *,
    test_every: int = 10,
    max_steps: int = 10_000,
) -> Tensor:
    """Assign samples to classes by entropic transport with uniform marginals, in the float64 log domain.

    Parameters
    ----------
    probabilities : float tensor (n, K)
        Class probabilities of every sample, not negative. A class that has probability 0 for all samples
        receives none, and the marginals are uniform over the rest (quirk Q34).
    power : float
        Exponent lambda of the probabilities.
    tolerance : float
        Bound of sum_i abs(beta_old / beta_new - 1), tested every `test_every` steps, the first one included.
    test_every, max_steps : int

    Returns
    -------
    int64 tensor (n,)
        Class of largest transported mass, the lowest on ties.

    Raises
    ------
    MethodError
        If a probability is negative or not finite, or a sample has none.

    Warns
    -----
    RuntimeWarning
        If the plan prefers no class for any sample (uniform probabilities: all get the same class), or if it
        has not converged.
    """
    _check(probabilities)
    possible = (probabilities > 0).any(0).nonzero()[:, 0]
    if not len(probabilities):
        return possible.new_empty(0)
    plan = _log_plan(power * probabilities[:, possible].double().log(), tolerance, test_every, max_steps)
    if len(possible) > 1 and bool((plan.max(1).values - plan.min(1).values <= FLAT_PLAN).all()):
        warnings.warn(
            "optimal transport is degenerate: the predictions do not tell the samples apart, so that all of "
            f"them get class {int(possible[0])}",
            RuntimeWarning,
            stacklevel=2,
        )
        return possible[0].expand(len(probabilities)).clone()
    return possible[plan.argmax(1)]


class TransportPlan(NamedTuple):
    """How much goes from every row to every column (float64, sums to 1), and after how many rounds it was taken."""

    mass: Tensor
    rounds: int


def transport_plan(
    cost: Tensor,
    regularisation: float = 5.0,
    tolerance: float = 1e-5,
    *,
    test_every: int = 10,
    max_rounds: int = 5000,
) -> TransportPlan:
    """Scale exp(-cost / regularisation) in rounds towards uniform marginals.

    A round makes the columns right, then the rows. The first round and every `test_every`-th after it test the columns.

    Parameters
    ----------
    cost : float tensor (rows, columns)
    regularisation : float
    tolerance : float
        Largest Euclidean length of the columns' error at which rounds end. Under a large regularisation that is often
        the first one (quirk Q47).
    test_every, max_rounds : int

    Returns
    -------
    TransportPlan
    """
    kernel = torch.exp(-cost.double() / regularisation)
    rows, columns = kernel.shape
    u = kernel.new_full((rows,), 1 / max(1, rows))
    for done in range(max_rounds):
        v = 1 / columns / (kernel.T @ u)
        u = 1 / rows / (kernel @ v)
        if done % test_every == 0 and float((v * (kernel.T @ u) - 1 / columns).norm()) < tolerance:
            break
    return TransportPlan(u[:, None] * kernel * v, done + 1)


class MeanPredictions:
    """Class probabilities of samples, averaged over the times each was seen, and the labels they transport to."""

    def __init__(self, samples: int, classes: int, device: torch.device) -> None:
        self._total = torch.zeros(samples, classes, device=device)

    def add(self, row: Tensor, logits: Tensor) -> None:
        """Count the predictions (b, K) of the samples `row` (b,); a sample may come several times."""
        self._total.index_add_(0, row, logits.float().softmax(1))

    def labels(self, before: Tensor, power: float, tolerance: float) -> Tensor:
        """Return new labels (n,); samples that were not seen, or all if one class takes all, keep theirs."""
        # probabilities add up to 1, so a row adds up to the number of times it was seen
        count, labels = self._total.sum(1, keepdim=True), before.clone()
        seen = count[:, 0] > 0
        transported = sinkhorn_labels(self._total[seen] / count[seen], power, tolerance).to(before.device)
        if len(transported.unique()) > 1:
            labels[seen.to(before.device)] = transported
        return labels


def _check(probabilities: Tensor) -> None:
    wrong = ~((probabilities >= 0) & probabilities.isfinite()).all(1) | ~(probabilities > 0).any(1)
    if bool(wrong.any()):
        raise MethodError(
            f"row {int(wrong.nonzero()[0])} of the class probabilities is negative, not finite or all zero; "
            "give softmax outputs"
        )


def _log_plan(scores: Tensor, tolerance: float, test_every: int, max_steps: int) -> Tensor:
    """Return log(alpha_k Q_ik beta_i) (n, K) from log Q (n, K)."""
    n, classes = scores.shape
    beta = scores.new_full((n,), -math.log(n))
    for step in range(max_steps):
        alpha = -math.log(classes) - torch.logsumexp(scores + beta[:, None], 0)
        old, beta = beta, -math.log(n) - torch.logsumexp(scores + alpha, 1)
        if step % test_every == 0 and float((old - beta).expm1().abs().sum()) <= tolerance:
            break
    else:
        warnings.warn(
            f"optimal transport has not converged after {max_steps} steps; labels are those of the last one",
            RuntimeWarning,
            stacklevel=3,
        )
    return scores + alpha + beta[:, None]
