"""Losses that need no memory: triplets, CAJ's and OTLA's terms, gradient reversal.

Source: methods-spec 1.12, 6 (OTLA), 11.1 (AGW) and 11.2 (CAJ). Half precision inputs are computed in float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, normalize, softplus

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


def wrt(x: Tensor, labels: Tensor) -> Tensor:
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


def adp(x: Tensor, labels: Tensor) -> Tensor:
    """Return CAJ's enhanced squared difference: mean of log(1 + exp(+-z)), z = min((D+ - D-)^2, 88).

    The sign is minus where D+ <= D-, so a wider margin costs less and a worse violation more. Parameters as
    :func:`wrt`.
    """
    positive, negative = weighted_distances(x, labels)
    difference = positive - negative
    square = difference.square().clamp(max=LARGEST_SQUARE)
    return softplus(torch.where(difference <= 0, -square, square)).mean()


def prediction_alignment(
    visible: Tensor, infrared: Tensor, weights: tuple[float, float] = (0.1, 0.5)
) -> Tensor:
    """Return OTLA's prediction alignment loss.

    w0 KL(s(p_v) || s(S_vr p_r)) + w1 KL(s(S_rv p_v) || s(S_rr p_r)), averaged over rows, with s the softmax
    over classes and S_ab the row softmax of cosines between the logits of a and b. Gradients flow through
    both sides.

    Parameters
    ----------
    visible, infrared : float tensors (b_v, classes), (b_r, classes)
        Logits.
    weights : pair of float

    Returns
    -------
    scalar tensor
    """
    with torch.autocast(visible.device.type, enabled=False):
        v, r = (p.to(torch.promote_types(p.dtype, torch.float32)) for p in (visible, infrared))
        to_visible = _divergence(v, _similarity(v, r) @ r)
        to_infrared = _divergence(_similarity(r, v) @ v, _similarity(r, r) @ r)
        return weights[0] * to_visible + weights[1] * to_infrared


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return (normalize(a) @ normalize(b).T).softmax(1)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    return kl_div(q.log_softmax(1), p.log_softmax(1), reduction="batchmean", log_target=True)


class GradientReversal(torch.autograd.Function):
    """Identity forward, minus `scale` times the gradient backward; use :func:`reverse_gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        """Return x."""
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the reversed gradient."""
        return -ctx.scale * gradients[0], None


def reverse_gradient(x: Tensor, scale: float) -> Tensor:
    """Return x, whose gradient is multiplied by -scale on its way back."""
    reversed_: Tensor = GradientReversal.apply(x, scale)
    return reversed_


def reversal_scale(step: float, span: float = 10_000.0) -> float:
    """Return how much of the reversed gradient counts after `step` iterations: from 0 towards 1 (OTLA)."""
    return 2 / (1 + math.exp(-10 * step / span)) - 1
