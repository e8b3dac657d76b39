"""A network that stands in for ResNet-18 where only its interface matters."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


def thin_resnet18(weights: None) -> nn.Module:
    """Return a ResNet of the usual widths, with one block a layer, and convolutions in 32 groups: 1 % of the work."""
    with torch.device("meta"):  # most of what is made here is replaced
        network = ResNet(BasicBlock, [1, 1, 1, 1])
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d) and layer.in_channels >= 64:
                shape = (
                    layer.in_channels,
                    layer.out_channels,
                    layer.kernel_size,
                    layer.stride,
                    layer.padding,
                )
                setattr(parent, name, nn.Conv2d(*shape, groups=32, bias=False))  # type: ignore[arg-type]
            elif isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.to_empty(device="cpu").reset_parameters()
    return network
