"""The weights a run starts from: ImageNet, a file, none, or a source training on other synthetic people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.runs.files import write_atomic
from harness.runs.weights import digest_of, read_weights, weights_identity
from harness.training.progress import Reporter
from harness.training.source import train_source

CACHE = Path("data") / "weights"


@dataclass(frozen=True)
class Weights:
    """A torchvision state dict (None: random initialisation) and the digest of its tensors."""

    state: Mapping[str, Tensor] | None
    digest: str


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
