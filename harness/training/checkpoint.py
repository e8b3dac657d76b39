"""Checkpoints as safetensors: nothing unpickles, and equal states give equal bytes.

A state is a nesting of dicts, lists, tensors and JSON values. Tensors go in as they are; the nesting goes into
one metadata entry, in which a tensor is named by its key, beside the SHA-256 of all of it.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.files import write_atomic
from harness.runs.weights import bytes_of

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


def unpack(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put the tensors back into the places that :func:`pack` left."""
    if isinstance(skeleton, dict):
        if set(skeleton) == {TENSOR}:
            return tensors[skeleton[TENSOR]]
        return {name: unpack(value, tensors) for name, value in skeleton.items()}
    if isinstance(skeleton, list):
        return [unpack(value, tensors) for value in skeleton]
    return skeleton


def digest(skeleton: Any, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all that a checkpoint holds: the nesting, and names, types, shapes and bytes of tensors."""
    whole = hashlib.sha256(json.dumps(skeleton, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(bytes_of(tensor))
    return whole.hexdigest()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state whole, with its digest."""
    tensors: dict[str, Tensor] = {}
    skeleton = pack(state, "state", tensors)
    content = {"sha256": digest(skeleton, tensors), "state": skeleton}
    # one metadata entry only: the format keeps several in no fixed order
    write_atomic(path, save(tensors, metadata={"checkpoint": json.dumps(content, sort_keys=True)}))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

    Raises
    ------
    HarnessError
        If the file is damaged, down to a single bit, or not ours.
    """
    try:
        # clones, because a file's tensors are not aligned as torch's own are, and sums depend on alignment
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - no mapping
            about = file.metadata() or {}
        if "state" in about:
            return unchecked(path, about["state"], tensors)
        content = json.loads(about["checkpoint"])
        skeleton, known = content["state"], content["sha256"]
        if digest(skeleton, tensors) != known:
            raise ValueError("its SHA-256 is not the one it was written with")
        return dict(unpack(skeleton, tensors))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise HarnessError(
            f"{path} is not a readable checkpoint ({reason}); restore it, or begin the run anew with --force"
        ) from error


def unchecked(path: Path, skeleton: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the state of a checkpoint that was written before checkpoints held a digest."""
    warnings.warn(f"{path} has no digest: nothing says whether it is still what was written", stacklevel=3)
    return dict(unpack(json.loads(skeleton), tensors))


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimiser's state with string keys, as a checkpoint holds it."""
    state = optimiser.state_dict()
    return {"state": {str(k): v for k, v in state["state"].items()}, "param_groups": state["param_groups"]}


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Undo :func:`optimiser_state`."""
    numbered = {int(k): v for k, v in state["state"].items()}
    optimiser.load_state_dict({"state": numbered, "param_groups": state["param_groups"]})
