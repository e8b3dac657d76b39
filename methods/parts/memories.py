"""Cluster and instance memories, and their contrastive losses.

Features are unit vectors. Losses see the memory of the forward pass, and it moves after the optimiser step, unless a
switch restores what a public code does (quirks Q2, Q6 and Q11 of ``docs/quirks.md``).

Labels and sample indices may be on the CPU (``part.drawn``) whatever the device of features and rows, and should be:
which rows move, and how often, is worked out on the host, which must wait for the device if they are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from methods.clustering.labels import own_label_for_noise
from methods.errors import MethodError
from methods.parts.host import to_device
from methods.parts.update_rules import UPDATE_RULES, sequential

EPSILON = 1e-6
"""In the hybrid memory's softmax and logarithm (quirk Q18)."""


class ClusterMemory:
    """One centroid per cluster, compared with every sample.

    Parameters
    ----------
    centroids : float32 tensor (c, d)
        Owned by the memory from here on: updates write into it.
    temperature : float
    momentum : float
        Share of the old centroid in an update; small means fast.
    rule : str
        Which samples of a batch move a centroid: a key of :data:`UPDATE_RULES`.
    generator : torch.Generator, optional
        Of the rule ``random``.
    in_backward : bool
        Centroids move inside the backward pass, as in the public code (quirk Q6), and not in :meth:`update`. If the
        memory serves two losses of a step, the one computed later is differentiated first, and its update is already
        in the centroids that the other one's gradient uses.

    Raises
    ------
    MethodError
        If the update rule is unknown.
    """

    def __init__(
        self,
        centroids: Tensor,
        temperature: float,
        momentum: float,
        rule: str = "sequential",
        *,
        generator: torch.Generator | None = None,
        in_backward: bool = False,
    ) -> None:
        if rule not in UPDATE_RULES:
            raise MethodError(f"memory update {rule!r} is unknown; use one of {', '.join(UPDATE_RULES)}")
        self.centroids = centroids
        self.temperature = temperature
        self.momentum = momentum
        self.in_backward = in_backward
        self._rule = UPDATE_RULES[rule]
        self._generator = generator

    def logits(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return similarities of unit features (b, d) to all centroids over the temperature (b, c), in float32.

        `labels` (b,) name the centroids that the features move, where the backward pass does that.
        """
        with torch.autocast(features.device.type, enabled=False):
            similarity: Tensor
            if self.in_backward:
                seen = features.detach()
                similarity = _UpdatingSimilarity.apply(
                    features.float(), self.centroids, lambda: self.move(seen, labels)
                )
            else:
                similarity = features.float() @ self.centroids.T
            return similarity / self.temperature

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy of unit features (b, d) against their labels (b,), in float32."""
        return cross_entropy(self.logits(features, labels), to_device(labels, features.device))

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids of the labels (b,) present by unit features (b, d), unless the backward pass does."""
        if not self.in_backward:
            self.move(features, labels)

    @torch.no_grad()
    def move(self, features: Tensor, labels: Tensor) -> None:
        """Move the centroids of the labels (b,) present by unit features (b, d)."""
        present, group = labels.cpu().unique(return_inverse=True)
        touched = to_device(present, self.centroids.device)
        self.centroids[touched] = self._rule(
            self.centroids[touched],
            features.detach().to(self.centroids.dtype),
            group,
            self.momentum,
            self._generator,
        )


class _UpdatingSimilarity(torch.autograd.Function):
    """Similarities whose backward pass uses the rows of a memory as they are by then, and moves them afterwards."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, move: Callable[[], None]) -> Tensor:
        ctx.rows, ctx.move = rows, move
        return features @ rows.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0] @ ctx.rows
        ctx.move()
        return gradient, None, None


class InstanceMemory:
    """One unit row per sample; classes are clusters, and every noise sample is a class of its own.

    Parameters
    ----------
    rows : float32 tensor (n, d)
        Owned by the memory from here on: updates write into it.
    labels : int64 tensor (n,)
        Negative labels are noise; gaps in the numbering are allowed.
    temperature, momentum : float
    reduce : str
        ``sum`` adds exp(similarity) over the rows of a class; ``mean`` takes exp of their mean similarity (SpCL).
    row_of : int64 tensor (training images,), optional
        Row of every training image, where the rows are those of some of them only.
    in_backward : bool
        Rows move inside the backward pass, as in :class:`ClusterMemory`, and not in :meth:`update`; for ``sum``.

    Raises
    ------
    MethodError
        If `reduce` is neither.
    """

    def __init__(
        self,
        rows: Tensor,
        labels: Tensor,
        temperature: float,
        momentum: float,
        reduce: str = "sum",
        row_of: Tensor | None = None,
        *,
        in_backward: bool = False,
    ) -> None:
        if reduce not in ("sum", "mean"):
            raise MethodError(f"instance memory reduce {reduce!r} is unknown; use sum or mean")
        self.rows = rows
        self.temperature = temperature
        self.momentum = momentum
        self.in_backward = in_backward
        self._row_of = None if row_of is None else row_of.cpu()
        self._class_scores = self._sums if reduce == "sum" else self._means
        self.relabel(labels)

    def relabel(self, labels: Tensor) -> None:
        """Take the classes of another clustering (n,); the rows stay."""
        self.labels = own_label_for_noise(labels).to(self.rows.device).unique(return_inverse=True)[1]
        self._sizes = self.labels.bincount()

    def loss(self, features: Tensor, sample_index: Tensor) -> Tensor:
        """Return the mean of -log(p_y / (sum p + eps) + eps) over unit features (b, d) of images (b,).

        Never shifted by the maximum (quirk Q18): exp(1 / 0.05) fits float32.
        """
        with torch.autocast(features.device.type, enabled=False):
            own, total = self._class_scores(features.float(), self._rows(sample_index))
            return -(own / (total + EPSILON) + EPSILON).log().mean()

    def _rows(self, sample_index: Tensor) -> Tensor:
        return sample_index if self._row_of is None else self._row_of[sample_index.cpu()]

    def _sums(self, features: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        label, seen = self.labels[to_device(row, self.rows.device)], features.detach()
        similarity: Tensor
        if self.in_backward:
            similarity = _UpdatingSimilarity.apply(features, self.rows, lambda: self._move(seen, row))
        else:
            similarity = features @ self.rows.T
        scores = (similarity / self.temperature).exp()
        # the class sums need not be formed one by one: they add up to the sum over all rows
        return scores.masked_fill(label[:, None] != self.labels, 0).sum(1), scores.sum(1)

    def _means(self, features: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        label = self.labels[to_device(row, self.rows.device)]
        similarity = self.rows @ features.T / self.temperature
        classes = similarity.new_zeros(len(self._sizes), len(features)).index_add(0, self.labels, similarity)
        scores = (classes / self._sizes[:, None]).exp()
        return scores[label, torch.arange(len(label), device=label.device)], scores.sum(0)

    def update(self, features: Tensor, sample_index: Tensor) -> None:
        """Move the rows of images (b,) by their own unit features (b, d), unless the backward pass does.

        Repeated rows move in batch order.
        """
        if not self.in_backward:
            self._move(features, self._rows(sample_index))

    @torch.no_grad()
    def _move(self, features: Tensor, row: Tensor) -> None:
        present, group = row.cpu().unique(return_inverse=True)
        touched = to_device(present, self.rows.device)
        self.rows[touched] = sequential(
            self.rows[touched], features.detach().to(self.rows.dtype), group, self.momentum
        )


def compute_centroids(features: Tensor, labels: Tensor, modality: Tensor | None = None) -> Tensor:
    """Return the normalised mean of every cluster's members; arguments and errors as :func:`cluster_means`."""
    return normalize(cluster_means(features, labels, modality))


def cluster_means(features: Tensor, labels: Tensor, modality: Tensor | None = None) -> Tensor:
    """Return the mean of every cluster's members.

    Parameters
    ----------
    features : float32 tensor (n, d)
    labels : int64 tensor (n,)
        Numbered from 0 without gaps; negative labels take no part.
    modality : int64 tensor (n,), optional
        If given, a mean is that over the modalities present of the modality's mean.

    Returns
    -------
    float32 tensor (clusters, d)

    Raises
    ------
    MethodError
        If there is no cluster, or a number between 0 and the largest label has no member.
    """
    labels = labels.to(features.device)
    groups = torch.zeros_like(labels) if modality is None else modality.to(features.device)
    counts = _counts(labels)
    total, present = features.new_zeros(len(counts), features.shape[1]), torch.zeros_like(counts)
    for value in groups.unique():
        kept = (labels >= 0) & (groups == value)
        size = labels[kept].bincount(minlength=len(counts))
        sums = torch.zeros_like(total).index_add_(0, labels[kept], features[kept])
        total += sums / size.clamp(min=1)[:, None]
        present += (size > 0).long()
    return total / present[:, None]


def random_members(features: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return one uniformly drawn member of every cluster; arguments and errors as :func:`compute_centroids`."""
    labels = labels.to(features.device)
    counts = _counts(labels)
    order = torch.randperm(len(labels), generator=generator, device=generator.device).to(labels.device)
    order = order[labels[order] >= 0]
    grouped = order[labels[order].argsort(stable=True)]
    return normalize(features[grouped[counts.cumsum(0) - counts]])


def _counts(labels: Tensor) -> Tensor:
    counts = labels[labels >= 0].bincount()
    if not len(counts) or not bool((counts > 0).all()):
        empty = int((counts == 0).nonzero()[0]) if len(counts) else 0
        raise MethodError(
            f"cluster {empty} has no member; memory rows need labels 0, 1, 2 ... without gaps, at least one"
        )
    return counts
