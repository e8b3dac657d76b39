"""The weights a run starts from: ImageNet, a file, none, or a source training on other synthetic people."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file, save
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.runs.files import write_atomic
from harness.runs.run_spec import source_digest
from harness.training.progress import Reporter
from harness.training.source import arithmetic, train_source
from protocols.synthetic.twin import VERSION

CACHE = Path("data") / "weights"


@dataclass(frozen=True)
class Weights:
    """A torchvision state dict (None: random initialisation) and the digest of its tensors."""

    state: Mapping[str, Tensor] | None
    digest: str


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
        code = source_digest("harness.training.source") + source_digest("protocols.synthetic.rendering")
        recipe = f"{code} twin {VERSION} {arithmetic(config.architecture, config.height, config.width)}"
        return f"synthetic-source {hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if config.weights in ("imagenet", "none"):
        return config.weights
    return digest_of(read_weights(Path(config.weights)))


def load_weights(config: EngineConfig, reporter: Reporter) -> Weights:
    """Get the weights that the configuration names.

    Raises
    ------
    HarnessError
        If they cannot be read or downloaded.
    """
    if config.weights == "none":
        return Weights(None, "")
    if config.weights == "imagenet":
        state = imagenet(config.architecture)
    elif config.weights == "synthetic-source":
        state = synthetic_source(config, reporter)
    else:
        state = read_weights(Path(config.weights))
    return Weights(state, digest_of(state))


def imagenet(architecture: str) -> dict[str, Tensor]:
    """Return torchvision's first ImageNet weights, those the field's public code starts from."""
    enum = torchvision.models.get_model_weights(architecture)
    try:
        state: dict[str, Tensor] = enum["IMAGENET1K_V1"].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no connection; a file that is not what its name's hash says
        raise HarnessError(
            f"the ImageNet weights {enum['IMAGENET1K_V1'].url.rsplit('/', 1)[-1]} could not be downloaded ({error}); "
            f"put that file into {torch.hub.get_dir()}/checkpoints, or use --set weights=PATH, "
            "weights=synthetic-source or weights=none"
        ) from error
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a torchvision state dict from a safetensors or PyTorch file; nothing is unpickled."""
    if not path.is_file():
        raise HarnessError(
            f"weights={path}: no such file; expected imagenet, synthetic-source, none, or the path of a state dict"
        )
    try:
        found = load_file(path) if path.suffix == ".safetensors" else loaded(path)
        state = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    except Exception as error:  # a foreign file makes the loaders raise anything
        raise HarnessError(
            f"weights={path}: not a state dict of tensors ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not state:
        inside = ", ".join(map(repr, list(found)[:5])) or "nothing"
        raise HarnessError(
            f"weights={path}: a state dict of tensors was expected, the file holds {inside}; save the state dict alone"
        )
    return state


def first_line(error: Exception) -> str:
    """Return what an error says first; torch goes on with advice for its own users."""
    return next(iter(str(error).splitlines()), "")


def loaded(path: Path) -> Any:
    """Load a PyTorch file; tensors and plain containers alone are accepted."""
    return torch.load(path, map_location="cpu", weights_only=True)


def synthetic_source(config: EngineConfig, reporter: Reporter) -> dict[str, Tensor]:
    """Return the source weights for this architecture and input size, trained once and cached."""
    name = f"{config.architecture}-{config.height}x{config.width}"
    path = CACHE / f"synthetic-source-{name}-{weights_identity(config).split()[1]}.safetensors"
    if not path.is_file():
        reporter.line(f"training the source weights ({name}, once; kept in {path})")
        state = train_source(config.architecture, config.height, config.width, reporter)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(state))
    return dict(load_file(path))
