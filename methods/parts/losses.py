"""Metric losses, which need no memory: batch-hard and weighted triplets. Half precision is computed in float32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

EPSILON = 1e-6
"""Added to the weights' normaliser; it shrinks negative weights at large distances (quirk Q39)."""
LARGEST_SQUARE = 88.0
"""CAJ's cap of the squared difference, just below where exp leaves float32."""


def euclidean_distances(x: Tensor) -> Tensor:
    """Return sqrt(max(squared distance, 1e-12)) between all rows of x (b, d), as (b, b)."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        squares = x.square().sum(1)
        return (squares[:, None] + squares - 2 * x @ x.T).clamp(min=1e-12).sqrt()


def batch_hard_triplet(x: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Return the batch-hard triplet loss.

    Per anchor the farthest sample of its label (itself included) and the nearest of another;
    mean of max(0, d_p - d_n + margin). Without another label in the batch an anchor costs nothing.

    Parameters
    ----------
    x : float tensor (b, d)
        Pooled features, not normalised.
    labels : int64 tensor (b,)
    margin : float

    Returns
    -------
    scalar tensor
    """
    distance, same = euclidean_distances(x), labels[:, None] == labels
    farthest = distance.masked_fill(~same, 0).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    return (farthest - nearest + margin).clamp(min=0).mean()


def weighted_distances(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each anchor's weighted mean distance to positives (itself included) and negatives, (b,) each.

    Weights are softmax(d) over positives and softmax(-d) over negatives, each shifted by the largest entry of
    the masked matrix (0 for negatives) and divided by the sum + 1e-6, as published (quirk Q39).
    """
    distance, same = euclidean_distances(x), labels[:, None] == labels
    positive, negative = _weights(distance, same), _weights(-distance, ~same)
    return (positive * distance).sum(1), (negative * distance).sum(1)


def _weights(score: Tensor, mask: Tensor) -> Tensor:
    shift = score.masked_fill(~mask, 0).amax(1, keepdim=True)
    # -inf outside the mask, rather than a product: exp there may overflow
    raised = (score - shift).masked_fill(~mask, -torch.inf).exp()
    return raised / (raised.sum(1, keepdim=True) + EPSILON)


def weighted_regularized_triplet(x: Tensor, labels: Tensor) -> Tensor:
    """Return AGW's weighted regularised triplet loss, mean of log(1 + exp(D+ - D-)).

    Parameters
    ----------
    x : float tensor (b, d)
        Pooled features of both modalities, not normalised.
    labels : int64 tensor (b,)

    Returns
    -------
    scalar tensor
    """
    positive, negative = weighted_distances(x, labels)
    return softplus(positive - negative).mean()


def enhanced_squared_difference(x: Tensor, labels: Tensor) -> Tensor:
    """Return CAJ's enhanced squared difference: mean of log(1 + exp(+-z)), z = min((D+ - D-)^2, 88).

    The sign is minus where D+ <= D-, so a wider margin costs less and a worse violation more. Parameters as
    :func:`weighted_regularized_triplet`.
    """
    positive, negative = weighted_distances(x, labels)
    difference = positive - negative
    square = difference.square().clamp(max=LARGEST_SQUARE)
    return softplus(torch.where(difference <= 0, -square, square)).mean()
