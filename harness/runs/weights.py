"""Which weights a run starts from: their identity, and files of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.runs.precision import source_precision
from harness.runs.sources import source_digest
from methods.values import Stage
from protocols.synthetic.twin import VERSION

WRAPPED = "module."
"""What ``torch.nn.DataParallel`` puts before every name."""
SAFE = (".safetensors", ".ckpt")
"""Suffixes of files in the format of safetensors; checkpoints of runs are."""


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Digest names, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}".encode())
        digest.update(bytes_of(state[name]))
    return digest.hexdigest()[:16]


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's numbers, whatever their type."""
    numbers: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)


def weights_identity(config: EngineConfig, stages: Iterable[Stage] = ()) -> str:
    """Name what the weights will be, without making them, and those of stages: part of a run's identity."""
    files = [stage.weights for stage in stages if stage.weights]
    return ", then ".join([first_weights(config), *(digest_of(read_stage_weights(file)) for file in files)])


def weights_name(config: EngineConfig, stages: Iterable[Stage]) -> str:
    """Name the weights as tables do, by files without their folders."""
    files = (config.weights, *(stage.weights for stage in stages if stage.weights))
    return ", then ".join(Path(file).name for file in files)


def first_weights(config: EngineConfig) -> str:
    """Name what the weights will be that the first stage starts from."""
    if config.weights == "synthetic-source":
        modules = ("harness.training.source", "harness.runs.precision", "protocols.synthetic.rendering")
        code = "".join(map(source_digest, modules))
        recipe = f"{code} twin {VERSION} {source_precision(config.architecture, config.height, config.width)}"
        return f"synthetic-source {hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if config.weights in ("imagenet", "none"):
        return config.weights
    return digest_of(read_weights(Path(config.weights)))


def read_stage_weights(file: str) -> dict[str, Tensor]:
    """Read the file that a stage starts from, as :func:`read_weights`; of a checkpoint every tensor is part of it."""
    return read_weights(Path(file), "stage_weights", "the checkpoint of a run, or a state dict")


def read_weights(
    path: Path,
    setting: str = "weights",
    expected: str = "imagenet, synthetic-source, none, or the path of a state dict",
) -> dict[str, Tensor]:
    """Read a state dict from a safetensors or PyTorch file; nothing is unpickled.

    Parameters
    ----------
    path : Path
    setting, expected : str
        The setting that names the file, and what it may be, for messages.

    Raises
    ------
    HarnessError
        If there is no such file, it is no state dict of plain tensors, or no table could name it.
    """
    if not path.name.isprintable():
        raise HarnessError(
            f"{setting}={str(path)!a}: tables hold this name, so it must be printable; rename the file"
        )
    if not path.is_file():
        raise HarnessError(f"{setting}={path}: no such file; expected {expected}")
    try:
        content = load_file(path) if path.suffix in SAFE else load_pytorch(path)
        state = {name: tensor.detach() for name, tensor in content.items() if isinstance(tensor, Tensor)}
    except Exception as error:  # a foreign file makes the loaders raise anything
        raise HarnessError(f"{setting}={path}: not a state dict of tensors ({why_not(error)})") from error
    if all(isinstance(name, str) and name.startswith(WRAPPED) for name in state):
        state = {name.removeprefix(WRAPPED): tensor for name, tensor in state.items()}
    if not state:
        inside = ", ".join(map(ascii, list(content)[:5])) or "nothing"
        raise HarnessError(
            f"{setting}={path}: a state dict of tensors was expected, the file holds {inside}; "
            "save the state dict alone"
        )
    return {name: plain(f"{setting}={path}", name, tensor) for name, tensor in state.items()}


def plain(where: str, name: object, tensor: Tensor) -> Tensor:
    """Return a tensor that holds its numbers one by one; refuse others, and names that are no texts."""
    if not isinstance(name, str):
        raise HarnessError(f"{where}: {name!a} names a tensor, but is no text; save a module's state dict")
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        kind = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else str(tensor.layout)
        raise HarnessError(
            f"{where}: {name!a} is a tensor of the kind {kind}, which holds no plain numbers; save a dense one"
        )
    if tensor.nbytes > tensor.untyped_storage().nbytes():  # would grow when it is copied
        raise HarnessError(
            f"{where}: {name!a} names {tensor.nbytes} bytes, of which the file holds "
            f"{tensor.untyped_storage().nbytes()}; save a contiguous tensor"
        )
    return tensor


def why_not(error: Exception) -> str:
    """Say in one line why a file could not be loaded; torch goes on with advice that would run its code."""
    if type(error).__name__ == "UnpicklingError":
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"a Python object, {foreign[1]}" if foreign else "Python objects"
        return f"it holds {what}; save the tensors alone: torch.save(model.state_dict(), PATH)"
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """Return what an error says first, without what only a terminal would show."""
    line = next(iter(str(error).splitlines()), "")
    return "".join(filter(str.isprintable, line))


def load_pytorch(path: Path) -> Any:
    """Load a PyTorch file; tensors and plain containers alone are accepted."""
    return torch.load(path, map_location="cpu", weights_only=True)
