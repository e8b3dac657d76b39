"""Which weights a run starts from: their identity, and files of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.runs.precision import source_precision
from harness.runs.sources import source_digest
from protocols.synthetic.twin import VERSION


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Digest names, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}".encode())
        digest.update(state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_identity(config: EngineConfig) -> str:
    """Name what the weights will be, without making them: part of a run's identity."""
    if config.weights == "synthetic-source":
        modules = ("harness.training.source", "harness.runs.precision", "protocols.synthetic.rendering")
        code = "".join(map(source_digest, modules))
        recipe = f"{code} twin {VERSION} {source_precision(config.architecture, config.height, config.width)}"
        return f"synthetic-source {hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if config.weights in ("imagenet", "none"):
        return config.weights
    return digest_of(read_weights(Path(config.weights)))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a torchvision state dict from a safetensors or PyTorch file; nothing is unpickled."""
    if not path.is_file():
        raise HarnessError(
            f"weights={path}: no such file; expected imagenet, synthetic-source, none, or the path of a state dict"
        )
    try:
        content = load_file(path) if path.suffix == ".safetensors" else load_pytorch(path)
        state = {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    except Exception as error:  # a foreign file makes the loaders raise anything
        raise HarnessError(
            f"weights={path}: not a state dict of tensors ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not state:
        inside = ", ".join(map(repr, list(content)[:5])) or "nothing"
        raise HarnessError(
            f"weights={path}: a state dict of tensors was expected, the file holds {inside}; save the state dict alone"
        )
    return state


def first_line(error: Exception) -> str:
    """Return what an error says first; torch goes on with advice for its own users."""
    return next(iter(str(error).splitlines()), "")


def load_pytorch(path: Path) -> Any:
    """Load a PyTorch file; tensors and plain containers alone are accepted."""
    return torch.load(path, map_location="cpu", weights_only=True)
