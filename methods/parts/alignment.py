"""What makes features of the modalities alike.

A discriminator behind a reversed gradient and aligned logits (OTLA), discrepancy of means under kernels (MMM).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, normalize

from methods.parts.host import to_device

ALIKE = 1e-12
"""Squared distance, in squared lengths of the rows, up to which rows are alike but for rounding."""


class ModalityDiscriminator(nn.Module):
    """Two hidden layers with ReLU and dropout, one output, batch normalised.

    Parameters
    ----------
    dimension : int
        Of the features; hidden layers are half as wide.
    seed : int
        Of the initial weights.
    """

    def __init__(self, dimension: int, seed: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        half = dimension // 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first, second, self.out = nn.Linear(dimension, half), nn.Linear(half, half), nn.Linear(half, 1)
            for layer in (first, second):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            nn.init.normal_(self.out.weight, 0, 0.001)
            for layer in (first, second, self.out):
                nn.init.zeros_(layer.bias)
            # its scale starts at exactly 1, unlike that of the necks of the network
            self.norm = nn.BatchNorm1d(1)
            self.norm.bias.requires_grad_(False)
        self.hidden = nn.ModuleList((first, second))

    def forward(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return one logit per row (b,); dropout draws from `generator` (on the CPU), so that runs repeat."""
        for layer in self.hidden:
            features = layer(features).relu()
            if self.training:
                kept = torch.rand(features.shape, generator=generator) >= self.dropout
                features = features * to_device(kept, features.device) / (1 - self.dropout)
        logits: Tensor = self.norm(self.out(features).float())[:, 0]
        return logits

    def loss(self, features: Tensor, visible: Tensor, scale: float, generator: torch.Generator) -> Tensor:
        """Return the cross entropy of telling visible from infrared features.

        What reaches the features is the reversed gradient times `scale`: they learn to look alike.
        """
        guess = self(reverse_gradient(features, scale), generator)
        return binary_cross_entropy_with_logits(guess, visible.float())


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
    """Return how much of the reversed gradient counts after `step` iterations: from 0 towards 1."""
    return 2 / (1 + math.exp(-10 * step / span)) - 1


def prediction_alignment(
    visible: Tensor, infrared: Tensor, weights: tuple[float, float] = (0.1, 0.5)
) -> Tensor:
    """Return the prediction alignment loss.

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


def mean_discrepancy(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
    """Return the maximum mean discrepancy of two sets of features of every label, summed over labels.

    Of a label with n rows on each side, and D the squared distances among its 2n rows: the kernel is the sum of
    exp(-D / (b 2^k)) over k = -2 .. 2, b the mean of D over pairs, constant for the gradient; the discrepancy is the
    mean over n x n entries of K_xx + K_yy - K_xy - K_yx. It is 0 where all rows are the same.

    Parameters
    ----------
    x, y : float tensors (b, d)
    labels : int64 tensor (b,)
        Of both sides, position by position.

    Returns
    -------
    scalar tensor
    """
    with torch.autocast(x.device.type, enabled=False):
        z, label = torch.cat([x, y]).double(), labels.repeat(2)
        squares = z.square().sum(1)
        distance = (squares[:, None] + squares - 2 * z @ z.T).clamp(min=0)
        same = (label[:, None] == label).double()
        rows = same.sum(1)
        width = same @ (same * distance.detach()).sum(1) / (rows * (rows - 1))
        # rows of a label that are alike but for rounding: their kernels are all the same, and cancel
        scale = width.masked_fill(width <= ALIKE * squares.detach(), torch.inf)[:, None]
        kernel = torch.stack([(-distance / (scale * 2.0**k)).exp() for k in range(-2, 3)]).sum(0)
        side = torch.tensor([1.0, -1.0], dtype=z.dtype, device=z.device).repeat_interleave(len(x))
        total = (same * side[:, None] * side / (rows / 2).square() * kernel).sum()
        return total.to(torch.promote_types(x.dtype, torch.float32))
