"""PCA's network and its augmentation beside the public code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from methods.parts.backbone import TwoStreamResNet
from methods.parts.views import RECIPES, apply_views
from tests.oracles.cases import Arrays, Comparison, Differences, as_array
from tests.oracles.frozen import Replay, planes
from tests.oracles.trajectories import tensor, under, wave
from tests.reference.views import draw_one

N_VISIBLE, N = 8, 12


def fill(target: Tensor, phase: float, scale: float, offset: float = 0.0) -> None:
    """Give a tensor numbers that look random."""
    with torch.no_grad():
        target.copy_(tensor(offset + wave(target.numel(), phase, scale)).reshape(target.shape))


def named_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return parameters and running statistics by the names that recordings give them."""
    both = [*net.named_parameters(), *net.named_buffers()]
    return {n.removeprefix("trunk.layers."): t for n, t in both if not n.endswith("tracked")}


def filled_network(chunks: int) -> TwoStreamResNet:
    """Return the ResNet-50 with the numbers of the recordings."""
    net = TwoStreamResNet("resnet50", bn_chunks=chunks, seed=0)
    named = named_tensors(net)
    for k, name in enumerate(sorted(named)):
        target, phase = named[name], k * 0.01
        if target.dim() == 4:
            fill(target, phase, (4 / target[0].numel()) ** 0.5)
        elif name.endswith("running_mean"):
            fill(target, phase, 0.1)
        elif name.endswith("running_var"):
            fill(target, phase, 0.2, 1.0)
        elif name.endswith("weight"):
            fill(target, phase, 0.2, 0.8)
        elif name != "neck.bias":
            fill(target, phase, 0.2)
    return net


def relative(
    seen: Differences, kind: str, ours: Any, theirs: np.ndarray, tolerance: float, where: str
) -> None:
    """Compare relative to the largest recorded value."""
    size = float(np.abs(theirs).max())
    seen.close(kind, as_array(ours) / size, theirs / size, tolerance, where=where)


def backbone(arrays: Arrays) -> dict[str, float]:
    """Features in evaluation; outputs, gradients and running statistics in training, in one chunk and in two."""
    seen = Differences()
    images = np.stack([wave(3 * 64 * 32, 3 + j, 1.5).reshape(3, 64, 32) for j in range(N)])
    inputs, modality = tensor(images.astype(np.float32)), (torch.arange(N) >= N_VISIBLE).long()
    target = tensor(wave(N * 2048, 5.5, 1.0).reshape(N, 2048)).float()
    for chunks in (1, 2):
        recorded, where = under(arrays, f"chunks{chunks}."), f"{chunks} chunk(s)"
        if not recorded:
            continue
        net = filled_network(chunks)
        if chunks == 1:
            with torch.no_grad():
                features = normalize(net.eval()(inputs, modality)[0])
            public = np.concatenate([arrays["eval.visible"], arrays["eval.infrared"]])
            seen.close("features", features, public, 2e-5)
        raw, pooled = net.train()(inputs, modality)
        (raw * target).sum().backward()
        # batch norms of six images and less make 1e-7 so large, more on some CPUs than on others
        relative(seen, "outputs", raw, recorded["raw"], 1e-3, where)
        if "pooled" in recorded:
            relative(seen, "outputs", pooled, recorded["pooled"], 1e-3, where)
        named = named_tensors(net)
        trained = [n for n in sorted(named) if "running" not in n and n != "neck.bias"]
        norms = np.array([float(named[n].grad.norm()) for n in trained])  # type: ignore[union-attr]
        ratio = norms / recorded["gradient_norm"]
        seen.close("gradient norms", ratio, np.ones_like(ratio), 5e-3, where=where)
        for name, value in recorded.items():
            if "running" in name:
                relative(seen, "statistics", named[name], value, 1e-3, f"{where} {name}")
    return seen.largest


def augmentation(arrays: Arrays) -> dict[str, float]:
    """Channel means and pixels at some spots, given the numbers that the public code drew."""
    seen = Differences()
    image = (127.5 + wave(288 * 144 * 3, 0.7, 127)).round().astype(np.uint8).reshape(288, 144, 3)
    grey = np.repeat(image[..., :1], 3, 2)
    y, x = arrays["spots"].T.astype(int)
    for name in sorted(RECIPES.keys() & arrays.keys()):
        shown = grey if name == "channel-adapt-gray" else image
        for i, (numbers, public) in enumerate(zip(arrays["tapes"], arrays[name], strict=True)):
            drawn = draw_one(RECIPES[name], shown.shape[:2], Replay(numbers))
            view = apply_views(planes(shown), drawn)[0].numpy()
            ours = np.concatenate([view.mean((1, 2)), view[:, y, x].ravel()])
            seen.close("pixels", ours, public, 2e-5, where=f"{name} {i}")
    assert seen.largest, "none of our recipes was recorded"
    return seen.largest


COMPARISONS: dict[str, Comparison] = {"pca_backbone": backbone, "pca_augment": augmentation}
