"""Networks: the two-stream ResNet of visible-infrared re-identification, and the single-stream one of OTLA.

As in the public code of ADCA, PGM, GUR, PCA, AGW and CAJ, and of OTLA.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.modules.batchnorm import _BatchNorm

from methods.base import INFRARED, VISIBLE
from methods.errors import MethodError
from methods.parts.host import to_device

ARCHITECTURES = ("resnet18", "resnet50")
NON_LOCAL_BLOCKS = {"layer2": 2, "layer3": 3}
"""How many of a layer's last residual blocks are followed by a non-local block."""


class NonLocal(nn.Module):
    """Non-local block without softmax: input + BN(W(theta^T phi g / positions)); starts as the identity.

    Parameters
    ----------
    channels : int
    width : int
        Channels of theta, phi and g; 1 in every published number (quirk Q1).
    """

    def __init__(self, channels: int, width: int = 1) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to the same shape."""
        theta, phi, g = (conv(x).flatten(2) for conv in (self.theta, self.phi, self.g))
        # (theta^T phi) g = theta^T (phi g^T): no softmax stands between, so no positions x positions matrix
        y = (g @ phi.transpose(1, 2) / phi.shape[2]) @ theta
        found: Tensor = x + self.bn(self.out(y.unflatten(2, x.shape[2:])))
        return found


class BNNeck(nn.BatchNorm1d):
    """BNNeck: batch normalisation with scale drawn from N(1, 0.01) and shift frozen at 0."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        nn.init.normal_(self.weight, 1.0, 0.01)
        self.bias.requires_grad_(False)


def gem(maps: Tensor) -> Tensor:
    """Generalised mean pooling with p = 3: (mean of z^3 + 1e-12)^(1/3), in float32.

    Parameters
    ----------
    maps : tensor (b, d, h, w), not negative

    Returns
    -------
    float32 tensor (b, d)
    """
    with torch.autocast(maps.device.type, enabled=False):
        return (maps.float().pow(3).mean((2, 3)) + 1e-12).pow(1 / 3)


def load_resnet(architecture: str, weights: Mapping[str, Tensor] | None) -> nn.Module:
    """Make torchvision's network with last stride 1, and load `weights` (everything but the classifier).

    Raises
    ------
    MethodError
        If the architecture is unknown, or the state dict is not that of this architecture.
    """
    if architecture not in ARCHITECTURES:
        raise MethodError(f"architecture {architecture!r} is unknown; use one of {', '.join(ARCHITECTURES)}")
    import torchvision  # takes as long as torch does, which a look at a method need not wait for

    network: Any = getattr(torchvision.models, architecture)(weights=None)
    network.fc = nn.Identity()
    first = network.layer4[0]
    (first.conv2 if architecture == "resnet50" else first.conv1).stride = (1, 1)
    first.downsample[0].stride = (1, 1)
    if weights is not None:
        _check_weights(architecture, network.state_dict(), weights)
        network.load_state_dict(dict(weights), strict=False)
    found: nn.Module = network
    return found


def _check_weights(architecture: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    # files from before num_batches_tracked existed are complete without it
    missing = [k for k in own if k not in given and not k.endswith("num_batches_tracked")]
    unknown = [k for k in given if k not in own and not k.startswith("fc.")]
    shapes = [k for k in own if k in given and own[k].shape != given[k].shape]
    for what, keys in (("lack", missing), ("have unknown", unknown), ("have a wrong shape for", shapes)):
        if keys:
            raise MethodError(
                f"the weights are not those of torchvision's {architecture}: they {what} {keys[0]!r}"
                f" ({len(keys)} such entries); choose the weights that fit the architecture"
            )


def make_stem(network: nn.Module) -> nn.Sequential:
    """Return conv1, bn1, ReLU and max-pool of a torchvision network."""
    names = ("conv1", "bn1", "relu", "maxpool")
    return nn.Sequential(OrderedDict((name, getattr(network, name)) for name in names))


class Trunk(nn.Module):
    """layer1 to layer4 of a torchvision network, with non-local blocks where asked for."""

    def __init__(self, network: nn.Module, non_local_width: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({f"layer{i}": getattr(network, f"layer{i}") for i in (1, 2, 3, 4)})
        self.non_local = nn.ModuleDict()
        for name, count in NON_LOCAL_BLOCKS.items() if non_local_width else ():
            blocks = list(self.layers[name].children())
            channels = [m for m in blocks[-1].children() if isinstance(m, nn.Conv2d)][-1].out_channels
            for i in range(max(0, len(blocks) - count), len(blocks)):
                self.non_local[f"{name}-{i}"] = NonLocal(channels, non_local_width)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the feature maps after layer1, layer2, layer3 and layer4."""
        for name, layer in self.layers.items():
            for i, block in enumerate(layer.children()):
                x = block(x)
                if f"{name}-{i}" in self.non_local:
                    x = self.non_local[f"{name}-{i}"](x)
            yield x

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature map after layer4."""
        *_, last = self.maps(x)
        return last


class TwoStreamResNet(nn.Module):
    """Two-stream ResNet: a stem per modality, one trunk, GeM pooling, BNNeck.

    Parameters
    ----------
    architecture : str
        ``resnet50`` or ``resnet18``; the last stride is 1.
    non_local : bool
        Non-local blocks after the last two blocks of layer2 and the last three of layer3 (PGM, AGW, CAJ).
    non_local_width : int
        Inner channels of a non-local block (quirk Q1).
    weights : mapping of str to Tensor, optional
        torchvision state dict that both stems and the trunk start from; None: random, both stems alike.
    bn_chunks : int
        In training, emulate that many DataParallel replicas: each modality is cut into so many chunks, every
        chunk is normalised alone, running statistics follow the first (quirk Q12).
    seed : int
        Of every random initial weight; the global generator is left alone.

    Raises
    ------
    MethodError
        Unknown architecture, or weights of another one.
    """

    def __init__(
        self,
        architecture: str = "resnet50",
        *,
        non_local: bool = False,
        non_local_width: int = 1,
        weights: Mapping[str, Tensor] | None = None,
        bn_chunks: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.bn_chunks = bn_chunks
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = load_resnet(architecture, weights)
            self.visible = make_stem(network)
            self.infrared = deepcopy(self.visible)
            self.trunk = Trunk(network, non_local_width if non_local else 0)
            self.dimension = 2048 if architecture == "resnet50" else 512
            self.neck = BNNeck(self.dimension)

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features in input order; a batch may hold one modality only.

        Parameters
        ----------
        images : float tensor (b, 3, h, w)
        modality : int64 tensor (b,)
            VISIBLE or INFRARED: which stem an image goes through. On the CPU, or the host must wait for it.

        Returns
        -------
        float32 tensors (b, d)
            Features after the BNNeck (not normalised), and pooled features before it.

        Raises
        ------
        MethodError
            If a chunk (see `bn_chunks`) is too small to be normalised.
        """
        known = modality.cpu()
        streams = [torch.nonzero(known == m).flatten() for m in (VISIBLE, INFRARED)]
        if not (self.training and self.bn_chunks > 1):
            return self._replica(images, streams)
        chunks = zip(*(rows.tensor_split(self.bn_chunks) for rows in streams), strict=True)
        filled = [list(chunk) for chunk in chunks if sum(map(len, chunk))]
        if any(sum(map(len, chunk)) == 1 for chunk in filled):
            raise MethodError(
                f"bn_chunks = {self.bn_chunks} leaves one image of {len(images)} alone; set it lower"
            )
        found = [self._replica(images, filled[0])]
        with frozen_statistics(self):
            found += [self._replica(images, chunk) for chunk in filled[1:]]
        back = to_device(torch.cat([torch.cat(chunk) for chunk in filled]).argsort(), images.device)
        post, pooled = (torch.cat(parts)[back] for parts in zip(*found, strict=True))
        return post, pooled

    def _replica(self, images: Tensor, streams: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Run the rows named in `streams` (visible, infrared) through the network, in rising row order."""
        stems, device = (self.visible, self.infrared), images.device
        stemmed = [
            stem(images[to_device(rows, device)])
            for stem, rows in zip(stems, streams, strict=True)
            if len(rows)
        ]
        maps = self.trunk(torch.cat(stemmed))
        pooled = gem(maps)[to_device(torch.cat(streams).argsort(), device)]
        return self.neck(pooled), pooled


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of all batch norms in `module` while they normalise by batch statistics."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


class SingleStreamResNet(nn.Module):
    """OTLA's network: one ResNet for both modalities, average pooling, BNNecks at five depths.

    Parameters are those of :class:`TwoStreamResNet`.
    """

    def __init__(
        self, architecture: str = "resnet50", *, weights: Mapping[str, Tensor] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = load_resnet(architecture, weights)
            self.stem = make_stem(network)
            self.trunk = Trunk(network)
            widths = (64, 256, 512, 1024, 2048) if architecture == "resnet50" else (64, 64, 128, 256, 512)
            self.necks = nn.ModuleList(BNNeck(width) for width in widths)
        self.dimension, self.depth_dimension = widths[-1], sum(widths)

    @property
    def neck(self) -> nn.Module:
        """The BNNeck of the deepest features."""
        return self.necks[-1]

    def depths(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return post-BN features of the stem and layers 1-4, and the pooled layer-4 features before BN."""
        stem = self.stem(images)
        pooled = [maps.float().mean((2, 3)) for maps in (stem, *self.trunk.maps(stem))]
        return [neck(x) for neck, x in zip(self.necks, pooled, strict=True)], pooled[-1]

    def forward(self, images: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        """Return layer-4 features (b, d) after and before the BNNeck; `modality` changes nothing."""
        del modality
        features, pooled = self.depths(images)
        return features[-1], pooled


def embed(
    backbone: nn.Module,
    images: Tensor,
    modality: Tensor,
    *,
    flip: bool = True,
    renormalise: bool = True,
    feature: Literal["post-bn", "pooled"] = "post-bn",
) -> Tensor:
    """Return unit features of images, averaged with their mirrors'.

    Parameters
    ----------
    backbone : module in evaluation mode
    images : float tensor (b, 3, h, w)
    modality : int64 tensor (b,)
    flip : bool
        Average the unit features of image and mirror.
    renormalise : bool
        Normalise the average (public code does not before clustering: quirk Q2).
    feature : str
        Features after the BNNeck, or the pooled ones before it.

    Returns
    -------
    float32 tensor (b, d)

    Raises
    ------
    MethodError
        If the network is in training mode: features would depend on the batch.
    """
    if backbone.training:
        raise MethodError("the network is in training mode; call eval() before extracting features")
    which = 0 if feature == "post-bn" else 1
    if not flip:
        return normalize(backbone(images, modality)[which].float())
    # one pass for both: a network in evaluation mode sees each image by itself
    both = backbone(torch.cat([images, images.flip(3)]), torch.cat([modality, modality]))[which]
    features, mirrored = normalize(both.float()).chunk(2)
    average = (features + mirrored) / 2
    return normalize(average) if renormalise else average
