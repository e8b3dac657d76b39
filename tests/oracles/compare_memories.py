"""Memories beside those of public code: loss, gradient and rows after one update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.parts.memories import ClusterMemory, InstanceMemory
from tests.oracles.cases import Differences, Kind, load


def memories(path: Path) -> dict[str, float]:
    """Every memory of a file: cluster memories by their rule of update, instance memories by their reduction."""
    arrays, seen = load(path), Differences()
    z = {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}
    temperature = float(z["temperature"])
    for case in (key.removesuffix("_loss") for key in arrays if key.endswith("_loss")):
        what, rule = case.split("_")
        inputs = z["inputs"].clone().requires_grad_()
        memory: Any
        if what == "cluster":
            features, target = normalize(inputs), z["targets"]
            memory = ClusterMemory(z["cluster_memory"].clone(), temperature, float(z["momentum"]), rule)
        else:
            # the code of the mean leaves features that are not unit vectors as they are
            features, target = normalize(inputs) if rule == "sum" else inputs, z["indexes"]
            momentum = float(z["instance_sum_momentum" if rule == "sum" else "momentum"])
            rows = z["instance_memory"].clone()
            memory = InstanceMemory(rows, z["instance_labels"], temperature, momentum, rule)
        loss = memory.loss(features, target)
        loss.backward()
        memory.update(features, target)
        after = memory.centroids if what == "cluster" else memory.rows
        relative(seen, "losses", loss, z[f"{case}_loss"], case)
        relative(seen, "gradients", inputs.grad, z[f"{case}_grad"], case)
        relative(seen, "rows", after, z[f"{case}_memory_after"], case)
    return seen.largest


def relative(seen: Differences, kind: str, ours: Any, theirs: Tensor, where: str) -> None:
    """Compare over the largest entry."""
    scale = float(theirs.abs().max())
    seen.close(kind, ours / scale, theirs / scale, 1e-5, where=where)


FILES = (
    Kind(".npz", ("inputs", "indexes", "targets", "cluster_memory", "instance_memory", "momentum"), memories),
)
