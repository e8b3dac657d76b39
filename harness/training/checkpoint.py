"""Checkpoints as safetensors: nothing unpickles, and equal states give equal bytes.

A state is a nesting of dicts, lists, tensors and JSON values. Tensors go in as they are; the nesting goes into
one metadata entry, in which a tensor is named by its key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.files import write_atomic

TENSOR = "__tensor__"


def pack(state: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a nested state into `tensors`, leaving their keys in their places."""
    if isinstance(state, Tensor):
        tensors[key] = state.detach().cpu().contiguous().clone()
        return {TENSOR: key}
    if isinstance(state, dict):
        return {str(name): pack(value, f"{key}.{name}", tensors) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [pack(value, f"{key}.{i}", tensors) for i, value in enumerate(state)]
    return state


def unpack(skeleton: Any, tensors: dict[str, Tensor]) -> Any:
    """Put the tensors back into the places that :func:`pack` left."""
    if isinstance(skeleton, dict):
        if set(skeleton) == {TENSOR}:
            return tensors[skeleton[TENSOR]]
        return {name: unpack(value, tensors) for name, value in skeleton.items()}
    if isinstance(skeleton, list):
        return [unpack(value, tensors) for value in skeleton]
    return skeleton


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state whole."""
    tensors: dict[str, Tensor] = {}
    skeleton = pack(state, "state", tensors)
    # one metadata entry only: the format keeps several in no fixed order
    write_atomic(path, save(tensors, metadata={"state": json.dumps(skeleton, sort_keys=True)}))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

    Raises
    ------
    HarnessError
        If the file is damaged or not ours.
    """
    try:
        # clones, because a file's tensors are not aligned as torch's own are, and sums depend on alignment
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - no mapping
            state = unpack(json.loads(file.metadata()["state"]), tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise HarnessError(
            f"{path} is not a readable checkpoint ({error}); delete it or use --force"
        ) from error
    return dict(state)


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimiser's state with string keys, as a checkpoint holds it."""
    state = optimiser.state_dict()
    return {"state": {str(k): v for k, v in state["state"].items()}, "param_groups": state["param_groups"]}


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Undo :func:`optimiser_state`."""
    numbered = {int(k): v for k, v in state["state"].items()}
    optimiser.load_state_dict({"state": numbered, "param_groups": state["param_groups"]})
