"""Whole small trainings as the harness runs them, on batches that a file recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from methods.base import VISIBLE, Batch, Epoch, EpochPlan, Method, Part, Stream
from methods.values import Optimisation
from tests.oracles.cases import Arrays, Differences, take_step
from tests.oracles.frozen import state_of


def with_images(stream: Stream, images: Tensor) -> Stream:
    """Let a stream draw given images (iterations, b) of the training set, which all are in the stream."""
    place = torch.full((int(stream.sample_index.max()) + 1,), -1)
    place[stream.sample_index] = torch.arange(len(stream.sample_index))
    drawn = place[images]
    assert bool((drawn >= 0).all()), "the public code drew an image that has no label here"
    return replace(stream, batch_indices=drawn)


def part_of(method: Method, stream: Stream, iteration: int, views: Sequence[Tensor]) -> Part:
    """Take a batch of a stream: ordered by view, then by sample; `views` are the training images of each view."""
    assert stream.batch_indices is not None
    position = stream.batch_indices[iteration]
    rows, label = stream.sample_index[position], stream.pseudo_label[position]
    modality = method.data.modality[rows]
    number = torch.where(modality == VISIBLE, len(stream.visible_views), len(stream.infrared_views))
    at = [(view, torch.nonzero(number > view).flatten()) for view in range(int(number.max()))]
    chosen = torch.cat([rows_ for _, rows_ in at])
    return Part(
        torch.cat([views[view][rows[rows_]] for view, rows_ in at]),
        modality[chosen],
        method.data.camera[rows[chosen]],
        label[chosen],
        rows[chosen],
        torch.cat([torch.full((len(rows_),), view) for view, rows_ in at]),
        stream.label_space,
    )


def train(
    method: Method,
    plan: EpochPlan,
    epoch: Epoch,
    optimisations: Mapping[str, Optimisation],
    views: Sequence[Tensor],
) -> list[dict[str, float]]:
    """Run an epoch (phase) as the engine does; return the terms of every iteration."""
    assert not plan.skipped, plan.skipped
    for module in method.modules.values():
        module.train()
    found = []
    streams = {stream.name: stream for stream in plan.streams}
    for i in range(plan.iterations):
        for step in plan.steps:
            parts = {name: part_of(method, streams[name], i, views) for name in step.streams}
            batch = Batch(step.name, i, parts)
            if step.optimiser is None:
                with torch.no_grad():
                    method.update(method.forward(batch), batch, epoch)
                continue
            terms = take_step(method, batch, epoch, optimisations[step.optimiser])
            found.append({name: float(term.detach()) for name, term in terms.items()})
    return found


def same_state(differences: Differences, kind: str, module: nn.Module, arrays: Arrays, prefix: str) -> None:
    """Assert that weights and statistics are the recorded ones, to 1e-5 relative and absolute."""
    recorded = {key: value for key, value in arrays.items() if key.startswith(prefix)}
    assert recorded, f"no {prefix} in the file"
    for key, ours in state_of(module, recorded, prefix).items():
        differences.close(kind, ours, recorded[key], 1e-5, 1e-5, where=key)


def similar_state(
    differences: Differences,
    kind: str,
    module: nn.Module,
    arrays: Arrays,
    prefix: str,
    tolerance: float,
) -> None:
    """Assert that weights and statistics are the recorded ones, each over the largest entry of its tensor."""
    recorded = {key: value for key, value in arrays.items() if key.startswith(prefix)}
    assert recorded, f"no {prefix} in the file"
    for key, ours in state_of(module, recorded, prefix).items():
        scale = max(1e-2, float(np.abs(recorded[key]).max()))
        differences.close(f"{kind} (relative)", ours / scale, recorded[key] / scale, tolerance, where=key)
