"""Confidence in labels from the losses of their images: a mixture of two components (MMM, ECCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

STEPS, TOLERANCE, LEAST_VARIANCE = 100, 1e-2, 5e-4
Unvisited = Literal["left-out", "minimum"]


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture of two components, fitted to numbers.

    Attributes
    ----------
    lower : float64 tensor (n,)
        Posterior of the component with the smaller mean.
    steps : int
        Of expectation maximisation, until it stopped.
    """

    lower: Tensor
    steps: int


class LastLosses:
    """The last loss of every image and kind in a pass.

    Attributes
    ----------
    costs : float32 tensor (kinds, n)
        NaN for an image that was not visited.
    """

    def __init__(self, kinds: int, images: int, device: torch.device) -> None:
        self.costs = torch.full((kinds, images), torch.nan, device=device)

    def add(self, kind: Tensor, image: Tensor, cost: Tensor) -> None:
        """Take the losses (b,) of a batch; of an image that comes twice, the later one counts.

        Kinds and images (b,) are on the CPU, so that the device is not asked which come twice.
        """
        key = kind * self.costs.shape[1] + image
        last = (~(key[:, None] == key).triu(1).any(1)).nonzero().flatten()
        device = self.costs.device
        at, rows = (tensor.to(device, non_blocking=True) for tensor in (key[last], last))
        self.costs.view(-1)[at] = cost[rows].to(self.costs.dtype)


def loss_confidence(
    costs: Tensor, start: float | None = None, *, unvisited: Unvisited = "left-out"
) -> Tensor:
    """Return how far images are to be trusted: the posterior of the component with the smaller losses.

    Each view's losses are scaled to [0, 1]; one mixture serves all views.

    Parameters
    ----------
    costs : float32 tensor (views, n)
        Losses; NaN for an image that was not visited.
    start : float, optional
        The largest scaled loss of the lower part at first; by default the two parts of least variance.
    unvisited : str
        ``left-out``: images without a loss take no part, and are trusted. ``minimum``: -1 is their loss, as in the
        public code (quirk Q55).

    Returns
    -------
    float32 tensor (views, n)
        Between 0 and 1; a view whose losses are all the same is trusted.
    """
    if unvisited == "minimum":
        costs = costs.nan_to_num(nan=-1.0)
    seen = ~costs.isnan()
    low = costs.masked_fill(~seen, torch.inf).amin(1, keepdim=True)
    span = costs.masked_fill(~seen, -torch.inf).amax(1, keepdim=True) - low
    told = seen & (span > 0)
    weights = torch.ones_like(costs)
    if bool(told.any()):
        weights[told] = fit_mixture(((costs - low) / span)[told].double(), start).lower.to(costs.dtype)
    return weights


def best_split(values: Tensor) -> float:
    """Return the largest number of the lower part where numbers (n,), n > 1, fall into two of least variance."""
    ordered = values.sort().values
    sums, n = ordered.cumsum(0), len(values)
    below = torch.arange(1, n, device=values.device)
    between = sums[:-1].square() / below + (sums[-1] - sums[:-1]).square() / (n - below)
    return float(ordered[between.argmax()])


def fit_mixture(values: Tensor, start: float | None = None) -> Mixture:
    """Fit two Gaussian components to numbers by expectation maximisation.

    It stops when the mean log-likelihood changes by less than 0.01, at the latest after 100 steps; variances are
    0.0005 larger than those of the numbers.

    Parameters
    ----------
    values : float64 tensor (n,)
        Not all the same.
    start : float, optional
        The largest number of the lower part at first; by default :func:`best_split`.

    Returns
    -------
    Mixture
    """
    lower = values <= (best_split(values) if start is None else start)
    share = torch.stack([lower, ~lower]).to(values.dtype)
    likelihood, change, steps = -torch.inf, torch.inf, 0
    while change >= TOLERANCE and steps < STEPS:
        before = likelihood
        logs, means = _log_joint(values, share)
        likelihood = float(logs.logsumexp(0).mean())
        share = logs.softmax(0)
        change, steps = abs(likelihood - before), steps + 1
    logs, means = _log_joint(values, share)
    return Mixture(logs.softmax(0)[int(means.argmin())], steps)


def _log_joint(values: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the components to their shares (2, n) of the numbers; return log p(component, number) (2, n), and means."""
    size = share.sum(1) + 10 * torch.finfo(values.dtype).eps
    means = share @ values / size
    squares = (values - means[:, None]).square()
    variance = (share * squares).sum(1) / size + LEAST_VARIANCE
    logs = (size / size.sum()).log() - 0.5 * (2 * torch.pi * variance).log()
    return logs[:, None] - 0.5 * squares / variance[:, None], means
