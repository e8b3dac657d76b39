"""Somebody's network as a function of images: a Python function, TorchScript or ONNX.

All three are code. They are run because a person names them on the command line, and for nothing else.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import HarnessError

Network = Callable[[Tensor, Tensor], Tensor]
"""Features (b, d) of images (b, 3, h, w), float32, normalised as ImageNet's, and their modality (b,), int64."""
SCRIPTS, ONNX = (".ts", ".torchscript"), ".onnx"


def open_network(source: str, device: torch.device) -> tuple[Network, str]:
    """Load a network; return it and the SHA-256 of the file that it is.

    Parameters
    ----------
    source : str
        ``module:function``, a ``.ts`` or ``.torchscript`` file, or an ``.onnx`` file.

    Raises
    ------
    HarnessError
        If there is no such thing, or it cannot be loaded.
    """
    suffix = Path(source).suffix.lower()
    if suffix in (*SCRIPTS, ONNX):
        path = Path(source)
        if not path.is_file():
            raise HarnessError(f"{path}: no such file; give a model, or module:function")
        network = open_onnx(path) if suffix == ONNX else open_script(path, device)
        return network, hashlib.sha256(path.read_bytes()).hexdigest()
    return open_function(source)


def open_function(source: str) -> tuple[Network, str]:
    """Import ``module:function``, from the working directory too."""
    module_name, _, name = source.partition(":")
    if not module_name or not name.isidentifier():
        raise HarnessError(f"{source}: expected FEATURES.npz, module:function, a model.ts or a model.onnx")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever somebody's code raises
        raise HarnessError(
            f"{source}: the module cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        raise HarnessError(f"{source}: {module_name} has no function {name}")
    file = inspect.getsourcefile(module)
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    return takes_what_it_takes(function, number_of_arguments(function)), digest


def number_of_arguments(function: Callable[..., Any]) -> int:
    """Return how many arguments a function needs; 2 if it does not say."""
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in places and one.default is inspect.Parameter.empty for one in known)


def takes_what_it_takes(function: Callable[..., Any], arguments: int) -> Network:
    """Give a function the images alone, or the modality as well."""

    def network(images: Tensor, modality: Tensor) -> Tensor:
        return tensor_of(function(images) if arguments == 1 else function(images, modality))

    return network


def tensor_of(found: Any) -> Tensor:
    """Return what a network gave as a tensor; of several the first."""
    first = found[0] if isinstance(found, tuple | list) and found else found
    if isinstance(first, np.ndarray):
        first = torch.from_numpy(first)
    if not isinstance(first, Tensor):
        raise HarnessError(f"the network gives {type(first).__name__}; expected a tensor of features (b, d)")
    return first


def open_script(path: Path, device: torch.device) -> Network:
    """Load TorchScript."""
    try:
        module = torch.jit.load(path, map_location=device)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise HarnessError(
            f"{path} is no TorchScript model ({reason}); write it with torch.jit.save"
        ) from error
    module.eval()
    return takes_what_it_takes(module, len(module.forward.schema.arguments) - 1)  # without self


def open_onnx(path: Path) -> Network:
    """Load an ONNX model, which runs on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise HarnessError(f"{path}: an ONNX model needs onnxruntime: pip install onnxruntime") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common type
        raise HarnessError(f"{path} is no ONNX model: {str(error).strip().partition(chr(10))[0]}") from error
    names = [one.name for one in session.get_inputs()]

    def network(images: Tensor, modality: Tensor) -> Tensor:
        given = dict(zip(names, (images.cpu().numpy(), modality.cpu().numpy()), strict=False))
        return tensor_of(session.run(None, given))

    return network
