"""The weights a run starts from: ImageNet, a file, none, or a source training on other synthetic people."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.runs.files import waiting_for, write_atomic
from harness.runs.weights import digest_of, read_weights, weights_identity
from harness.training.progress import Reporter
from harness.training.source import train_source
from results.files import clear_leftovers

CACHE = Path("data") / "weights"
DIGEST = "digest"
"""Entry of a cached file's metadata: :func:`~harness.runs.weights.digest_of` of its tensors."""


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
        state = imagenet(config.architecture, reporter.line)
    elif config.weights == "synthetic-source":
        state = synthetic_source(config, reporter)
    else:
        state = read_weights(Path(config.weights))
    return Weights(state, digest_of(state))


def imagenet(architecture: str, say: Callable[[str], None]) -> dict[str, Tensor]:
    """Return torchvision's first ImageNet weights, those the field's public code starts from; downloaded once.

    Raises
    ------
    HarnessError
        If they cannot be downloaded, or the file is not what the hash in its name says.
    """
    import torchvision  # takes as long as torch does, and the first epoch waits for it only with these weights

    url = torchvision.models.get_model_weights(architecture)["IMAGENET1K_V1"].url
    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with waiting_for(path.with_suffix(".lock"), say):
                if not path.is_file():
                    torch.hub.download_url_to_file(url, str(path), hash_of_name(name), progress=False)
    except (
        OSError,
        RuntimeError,
    ) as error:  # no connection; a download that is not what its name's hash says
        raise HarnessError(
            f"the ImageNet weights {name} could not be downloaded ({error}); "
            f"put that file into {path.parent}, or use --set weights=PATH, "
            "weights=synthetic-source or weights=none"
        ) from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(hash_of_name(name)):
        raise HarnessError(
            f"{path} is not the file of that name: its SHA-256 begins with {found[:8]}; delete it, and it is "
            "downloaded again, or put the right file there"
        )
    return read_weights(path)


def hash_of_name(name: str) -> str:
    """Return the first digits of the SHA-256 that torchvision puts into the names of its files."""
    return name.removesuffix(".pth").rsplit("-", 1)[-1]


def synthetic_source(config: EngineConfig, reporter: Reporter) -> dict[str, Tensor]:
    """Return the source weights for this architecture and input size, trained once and cached.

    Of several processes one trains them; the others wait for it.
    """
    name = f"{config.architecture}-{config.height}x{config.width}"
    path = CACHE / f"synthetic-source-{name}-{weights_identity(config).split()[1]}.safetensors"
    state = cached(path, reporter)
    if state is not None:
        return state
    path.parent.mkdir(parents=True, exist_ok=True)
    with waiting_for(path.with_suffix(".lock"), reporter.line):
        clear_leftovers(path.parent, path.name)
        state = cached(path, reporter)
        if state is None:
            reporter.line(f"training the source weights ({name}, once; kept in {path})")
            kept = path.with_suffix(".ckpt")
            clear_leftovers(path.parent, kept.name)
            state = train_source(config.architecture, config.height, config.width, reporter, kept)
            write_atomic(path, save(state, metadata={DIGEST: digest_of(state)}))
            kept.unlink(missing_ok=True)
    return state


def cached(path: Path, reporter: Reporter) -> dict[str, Tensor] | None:
    """Read weights that :func:`synthetic_source` kept; None if there are none, or they are not what it wrote."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            known = (file.metadata() or {}).get(DIGEST)
        state = dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        discard(path, str(error), reporter)
        return None
    if known is None:
        warnings.warn(
            f"{path} has no digest: nothing says whether it is still what was written", stacklevel=2
        )
    elif digest_of(state) != known:
        discard(path, "its digest is not the one it was written with", reporter)
        return None
    return state


def discard(path: Path, reason: str, reporter: Reporter) -> None:
    """Delete damaged source weights, with a word."""
    reporter.line(f"{path} is damaged ({reason}): the source weights are made again")
    path.unlink(missing_ok=True)
