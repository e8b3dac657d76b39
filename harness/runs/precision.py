"""Which precision a device can be trusted with.

CPUs multiply bfloat16 by libraries that have had faults at single shapes: with oneDNN on Intel's matrix units (AMX), a
3 x 3 convolution of stride 2 whose output is one column wide gives garbage. So bfloat16 is used on a CPU only after
the network's own convolutions have been seen to come out right at the image size of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig
from harness.runs.devices import choose_device
from methods.clustering import has_bfloat16_units
from methods.parts.backbone import load_resnet

IMAGES = 4
TOLERANCE = 0.05
"""Largest error of a convolution or its gradients, relative to the largest value; rounding makes 0.01 of it."""


def settle_precision(config: EngineConfig, device: str) -> EngineConfig:
    """Replace the precision ``auto`` by ``bf16`` where the device multiplies it natively and right, else by ``32``.

    A run's identity holds the outcome: emulated bfloat16 is ten times slower than float32, and neither gives the
    other's numbers.

    Raises
    ------
    HarnessError
        If ``auto`` or ``bf16`` is asked for and there is no such device, or ``bf16`` comes out wrong on this CPU.
    """
    if config.precision not in ("auto", "bf16"):
        return config
    kind, _ = choose_device(device, config.precision)
    asked = config.precision == "bf16"
    if asked or has_bfloat16_units(torch.device(kind)):
        size = config.height, config.width
        if kind == "cuda" or right_on_cpu(_target_trunk, config.architecture, *size, config.channels_last):
            return config.model_copy(update={"precision": "bf16"})
    if not asked:
        return config.model_copy(update={"precision": "32"})
    raise HarnessError(
        f"--precision bf16: this CPU's bfloat16 convolutions come out wrong for {config.architecture} at "
        f"{config.height} x {config.width} pixels (a fault of its math library); use --precision 32 or auto, "
        "or another machine"
    )


def source_precision(architecture: str, height: int, width: int) -> str:
    """Say in which precision this machine trains the synthetic source, as ``--precision`` calls it."""
    native = has_bfloat16_units(torch.device("cpu"))
    return "bf16" if native and right_on_cpu(source_trunk, architecture, height, width, True) else "32"


def source_trunk(architecture: str) -> Any:
    """Make the synthetic source's trunk: torchvision's network with its original strides and no classifier.

    The last stride of 1, which a run's own network has, would cost 1.7 times as much.
    """
    import torchvision  # takes as long as torch does; a plan of runs needs it only for the precision `auto`

    trunk: Any = torchvision.models.get_model(architecture)
    trunk.fc = nn.Identity()
    return trunk


def _target_trunk(architecture: str) -> nn.Module:
    return load_resnet(architecture, None)


@cache
def right_on_cpu(
    make: Callable[[str], nn.Module], architecture: str, height: int, width: int, channels_last: bool
) -> bool:
    """Say whether bfloat16 comes out right on this CPU in a network of an architecture; looked at once a process.

    Parameters
    ----------
    make : callable
        Makes the network of that architecture.
    """
    with torch.random.fork_rng(devices=[]):
        network = make(architecture)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return bfloat16_comes_out_right(network.to(memory_format=layout), height, width)


def bfloat16_comes_out_right(network: nn.Module, height: int, width: int) -> bool:
    """Say whether a network's convolutions, and their gradients, are on the CPU in bfloat16 what they are in float32.

    Each is looked at alone, on what reaches it: a network hides errors, and rounding adds up along it.
    """
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 3, height, width, generator=noise)
    reached: dict[nn.Conv2d, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: reached.update({layer: inputs[0]}))
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return all(_agrees(layer, x, noise) for layer, x in reached.items())


def _agrees(layer: nn.Conv2d, x: Tensor, noise: torch.Generator) -> bool:
    x = x.detach().requires_grad_()
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x)
    towards = torch.randn(exact.shape, generator=noise)
    results = [
        (y.detach().float(), *torch.autograd.grad(y, (x, layer.weight), towards.to(y.dtype)))
        for y in (exact, rounded)
    ]
    return all(bool((r - e).abs().max() <= TOLERANCE * e.abs().max()) for e, r in zip(*results, strict=True))
