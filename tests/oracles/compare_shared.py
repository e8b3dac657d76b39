"""Parts that papers share beside public code: networks, extraction, augmentation, resizing, samplers, rates."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.transforms.v2 import functional as tv

from harness.inputs.images import read_image
from methods.base import LabelledTrainingData, Method, Optimisation, Stage
from methods.ca_jaccard import CAJaccard
from methods.cluster_contrast import ClusterContrast
from methods.otla import OTLA
from methods.parts import views
from methods.parts.backbone import NonLocal, SingleStreamResNet, TwoStreamResNet, embed
from methods.parts.samplers import gallery_with_singletons, random_multiple_gallery
from methods.parts.views.batched import grey, with_channels
from methods.spcl import SpCL
from methods.supervised import Supervised
from tests.oracles.cases import (
    Arrays,
    Comparison,
    Differences,
    Mutation,
    configured,
    network,
    seed,
    training_data,
)
from tests.oracles.frozen import (
    Replay,
    TinySingle,
    TinyTwo,
    case,
    images_of,
    jitter_levels,
    names_of,
    normal,
    pixels_of,
    planes,
    sampled,
    seeded_state,
    stable,
)
from tests.reference.views import draw_one

HEIGHT, WIDTH = 96, 48
DRAWS = 20_000
IN_TRAINING = 1e-3
"""Of the largest entry: batch norms of few images make rounding so large, on some CPUs more than on others."""
ROUNDING = 3e-2
"""Gradients inside non-local blocks move so much by float32 alone; `nonlocal` compares them in float64."""


def table(
    differences: Differences,
    kind: str,
    d: Arrays,
    key: str,
    mine: dict[str, Tensor],
    seed: int,
    tolerance: float,
) -> None:
    """Compare norms and sampled entries of tensors, each over its norm (or the median one, if that is larger)."""
    recorded = dict(zip(d[f"{key}_names"].tolist(), d[key], strict=True))
    # some gradients vanish behind a batch norm: there is only rounding
    floor = float(np.median([row[0] for row in recorded.values()]))
    assert set(mine) <= set(recorded), f"not in the public network: {sorted(set(mine) - set(recorded))[:3]}"
    for name, row in recorded.items():
        scale = max(float(row[0]), floor)
        found = sampled(mine[name], seed, name, len(row) - 1) if name in mine else np.zeros_like(row)
        differences.close(kind, found / scale, row / scale, tolerance, where=name)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in module.named_parameters()
        if p.requires_grad
    }


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in module.state_dict().items() if k.endswith(("running_mean", "running_var"))}


def relative(differences: Differences, kind: str, ours: Tensor, theirs: np.ndarray, tolerance: float) -> None:
    """Compare over the largest magnitude of the public output."""
    scale = max(float(np.abs(theirs).max()), 1e-12)
    differences.close(kind, ours.detach().numpy() / scale, theirs / scale, tolerance)


def backbones(arrays: Arrays) -> dict[str, float]:
    """The two-stream ResNet-50 with and without non-local blocks, two replicas of it, OTLA's network."""
    differences = Differences()
    kinds: dict[str, Callable[[Differences, Arrays], None]] = {
        "off": lambda all_, d: two_stream(all_, d, non_local=False),
        "on": lambda all_, d: two_stream(all_, d, non_local=True),
        "replicas": replicas,
        "otla": single_stream,
    }
    for name in names_of(arrays):
        kinds[name](differences, case(arrays, name))
    return differences.largest


def two_stream(differences: Differences, d: Arrays, *, non_local: bool) -> None:
    """Outputs in evaluation and training, running statistics and gradients of a batch of both modalities."""
    seed, nv, nr = (11 if non_local else 12), 5, 4
    kind, tolerance = ("non-local", ROUNDING) if non_local else ("two-stream", IN_TRAINING)
    close = 2e-3 if non_local else 1e-4
    net = TwoStreamResNet("resnet50", non_local=non_local, seed=0)
    net.load_state_dict(seeded_state(net, seed))
    images = torch.cat([images_of(seed, nv, HEIGHT, WIDTH), images_of(seed + 1, nr, HEIGHT, WIDTH)])
    modality = torch.tensor([0] * nv + [1] * nr)
    mixed = torch.from_numpy(stable(seed, "order").permutation(nv + nr))  # rows may come in any order
    net.eval()
    with torch.no_grad():
        post, pooled = net(images[mixed], modality[mixed])
        unit = embed(net, images, modality, flip=False)
    order = mixed.numpy()
    differences.close(f"{kind} features", normalize(post), d["eval_post"][order], close)
    differences.close(f"{kind} features", normalize(pooled), d["eval_pooled"][order], close)
    differences.close(f"{kind} features", unit, d["eval_post"], close)
    post, pooled = net.train()(images, modality)
    weight = {key: normal(stable(seed, key), nv + nr, 2048) for key in ("post", "pooled")}
    ((post * weight["post"]).sum() + (pooled * weight["pooled"]).sum()).backward()
    relative(differences, f"{kind} in training", post, d["train_post"], tolerance)
    relative(differences, f"{kind} in training", pooled, d["train_pooled"], tolerance)
    table(differences, f"{kind} gradients", d, "grad", gradients(net), 7, tolerance)
    table(differences, f"{kind} statistics", d, "stat", statistics(net), 8, tolerance)


def replicas(differences: Differences, d: Arrays) -> None:
    """`bn_chunks` = 2 is what two replicas of DataParallel do (quirk Q12)."""
    net, seed = TwoStreamResNet("resnet50", non_local=True, bn_chunks=2, seed=0), 13
    net.load_state_dict(seeded_state(net, seed))
    images = torch.cat([images_of(seed, 4, HEIGHT, WIDTH), images_of(seed + 1, 6, HEIGHT, WIDTH)])
    post, _ = net.train()(images, torch.tensor([0] * 4 + [1] * 6))
    (post * normal(stable(seed, "post"), 10, 2048)).sum().backward()
    relative(differences, "replicas in training", post, d["post"], 2 * ROUNDING)
    table(differences, "replicas' gradients", d, "grad", gradients(net), 7, 2 * ROUNDING)
    table(differences, "replicas' statistics", d, "stat", statistics(net), 8, 2 * ROUNDING)


def single_stream(differences: Differences, d: Arrays) -> None:
    """OTLA's network: features of five depths, pooled ones, logits, gradients, statistics."""
    net, seed = SingleStreamResNet("resnet50", seed=0), 14
    net.load_state_dict(seeded_state(net, seed))
    images = torch.cat([images_of(seed, 4, HEIGHT, WIDTH), images_of(seed + 1, 4, HEIGHT, WIDTH)])
    with torch.no_grad():
        found = embed(net.eval(), images, torch.tensor([0] * 4 + [1] * 4), flip=False)
    differences.close("single-stream features", found, d["eval"], 1e-4)
    depths, pooled = net.train().depths(images)
    features = torch.cat(depths, 1)
    logits = depths[-1] @ (normal(stable(seed, "classifier"), 12, 2048) * 0.05).T
    outputs = {"feat": features, "pool": pooled, "logits": logits}
    total = sum((out * normal(stable(seed, key), *out.shape)).sum() for key, out in outputs.items())
    assert isinstance(total, Tensor)
    total.backward()
    for key, mine in (("feat", features), ("pooled", pooled), ("logits", logits)):
        relative(differences, "single-stream in training", mine, d[key], IN_TRAINING)
    table(differences, "single-stream gradients", d, "grad", gradients(net), 7, IN_TRAINING)
    table(differences, "single-stream statistics", d, "stat", statistics(net), 8, IN_TRAINING)


def extraction(d: Arrays) -> dict[str, float]:
    """Averages of image and mirror: as they are before clustering (the public code), made unit at test."""
    differences, seed = Differences(), 15
    net = TwoStreamResNet("resnet50", non_local=True, seed=0)
    net.load_state_dict(seeded_state(net, seed, gain=0.5))
    net.eval()
    for m, side in enumerate(("visible", "infrared")):
        images = images_of(seed + m, len(d[f"{side}_clustering"]), HEIGHT, WIDTH)
        modality = torch.full((len(images),), m)
        with torch.no_grad():
            shorter = embed(net, images, modality, renormalise=False)
            unit = embed(net, images, modality)
        differences.close("before clustering", shorter, d[f"{side}_clustering"], 1e-5, where=side)
        differences.close("at test", unit, d[f"{side}_test"], 1e-5, where=side)
    return differences.largest


def non_local_block(arrays: Arrays) -> dict[str, float]:
    """One non-local block in float64: outputs, gradients, running statistics."""
    names = {"theta": "theta", "phi": "phi", "g.0": "g", "W.0": "out", "W.1": "bn"}

    def ours(key: str) -> str:
        module, what = key[2:].rsplit(".", 1)
        return f"{names[module]}.{what}"

    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        net = NonLocal(d["x"].shape[1]).double()
        state = {ours(key): torch.from_numpy(value) for key, value in d.items() if key.startswith("w:")}
        net.load_state_dict(state, strict=False)
        with torch.no_grad():
            found = net.eval()(torch.from_numpy(d["x"]))
        differences.close("evaluation", found, d["eval"], 1e-9, where=name)
        x = torch.from_numpy(d["x"]).requires_grad_()
        y = net.train()(x)
        (y * torch.from_numpy(d["r"])).sum().backward()
        differences.close("training", y, d["train"], 1e-9, where=name)
        differences.close("gradients", x.grad, d["grad_x"], 1e-9, where=name)
        differences.close("statistics", net.bn.running_mean, d["mean"], 1e-9, where=name)
        differences.close("statistics", net.bn.running_var, d["var"], 1e-9, where=name)
        mine = dict(net.named_parameters())
        for key in (key for key in d if key.startswith("g:")):
            differences.close("gradients", mine[ours(key)].grad, d[key], 1e-9, where=f"{name} {key}")
    return differences.largest


def augmentation(arrays: Arrays) -> dict[str, float]:
    """24 images a recipe, from the uniform numbers that the public transforms drew: pixels."""
    differences = Differences()
    for name in names_of(arrays):
        recipe = name.split("#")[0]
        infrared = name in ("channel-adapt-gray", "erasing")
        for i, recorded in enumerate(case(arrays, name)["out"]):
            draws = stable(i, name, "u").rand(420)
            if i % 3 == 0 and name != "weak":  # so that every third is erased
                draws[1 if "erasing" in name[:12] and name != "plain" else 3] *= 0.4
            image = pixels_of(i, infrared)
            drawn = draw_one(views.RECIPES[recipe], image.shape[:2], Replay(draws))
            view = views.apply_views(planes(image), drawn)
            at = stable(i, name, "at").randint(0, view.numel(), recorded.size)
            found = view.flatten()[torch.from_numpy(at)]
            differences.close("pixels", found, recorded, 2e-6, where=f"{name} {i}")
    return differences.largest


def jitter(arrays: Arrays) -> dict[str, float]:
    """Colour jitter on tensors: on average within 4 grey levels of the public one, which is on Pillow's images."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        if name.startswith("op"):
            operation = ("brightness", "contrast", "saturation", "hue", "hue")[int(name[2:])]
            x = torch.from_numpy(pixels_of(50, infrared=False).transpose(2, 0, 1).copy())
            jittered = getattr(tv, f"adjust_{operation}")(x, float(d["factor"])).numpy().transpose(1, 2, 0)
            at = stable(50, "jat")
        else:
            i = int(name)
            jittered = jitter_levels(pixels_of(i, i % 4 == 3), d["factors"], d["order"])
            at = stable(i, "jat")
        found = jittered.reshape(-1, 3)[at.randint(0, 288 * 144, len(d["out"]))].astype(float)
        differences.close("grey levels, mean", np.abs(found - d["out"]).mean(), 0.0, 4.0, where=name)
    return differences.largest


def kolmogorov(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sample Kolmogorov-Smirnov distance."""
    both = np.sort(np.concatenate([first, second]))
    a, b = (np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (first, second))
    return float(np.abs(a - b).max())


def augmentation_draws(arrays: Arrays) -> dict[str, float]:
    """20,000 of our own draws beside as many public ones: shares, sizes and places of boxes, channels, crops."""
    differences = Differences()
    for name, recipe in (("channel_random_erasing", "plain"), ("random_erasing", "erasing")):
        erasing(differences, name, our_draws(recipe), case(arrays, name))
    for name in ("channel_exchange", "channel_adapt_gray"):
        channels(differences, name, our_draws(name.replace("_", "-")), case(arrays, name))
    crops(differences, our_draws("plain"), arrays)
    greys(differences, our_draws("grey-erasing"), arrays)
    return differences.largest


def our_draws(recipe: str) -> views.Draws:
    """Draw for as many images as the public transforms changed."""
    return views.draw_views(views.RECIPES[recipe], DRAWS, (288, 144), np.random.default_rng(1))


def erasing(differences: Differences, name: str, draws: views.Draws, d: Arrays) -> None:
    """Share of erased images, and how their boxes are distributed."""
    theirs = d["boxes"].astype(float)
    top, bottom, left, right = draws.box[draws.box[:, 1] > 0].T.astype(float)
    mine, public = np.stack([bottom - top, right - left, top, left], axis=1), theirs[theirs[:, 0] == 1, 1:]
    differences.close("share erased", len(mine) / DRAWS, theirs[:, 0].mean(), 0.035, where=name)
    differences.close("fill", np.unique(draws.fill, axis=0), d["fill"], 1e-5, where=name)
    measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "area": lambda b: b[:, 0] * b[:, 1],
        "aspect": lambda b: b[:, 0] / b[:, 1],
        "height": lambda b: b[:, 0],
        "width": lambda b: b[:, 1],
        "top": lambda b: b[:, 2] / (288 - b[:, 0]),
        "left": lambda b: b[:, 3] / (144 - b[:, 1]),
    }
    for what, measure in measures.items():
        differences.close(
            "boxes", kolmogorov(measure(mine), measure(public)), 0, 0.035, where=f"{name} {what}"
        )


def channels(differences: Differences, name: str, draws: views.Draws, d: Arrays) -> None:
    """What the three channels become, and how often."""
    base = torch.tensor([1.0, 10.0, 100.0])[:, None, None].expand(DRAWS, 3, 1, 1)
    out = np.round(with_channels(base, draws.channel)[:, :, 0, 0].numpy().astype(float), 3)
    keys, count = np.unique(out, axis=0, return_counts=True)
    differences.close("channel values", keys, d["values"], 0.02, where=name)
    differences.close("channel shares", count / DRAWS, d["share"], 0.02, where=name)


def crops(differences: Differences, draws: views.Draws, d: Arrays) -> None:
    """Places of crops, and the share of mirrored images."""
    at, theirs = draws.shift + 10.0, d["crop/top_left"].astype(float)
    for axis in (0, 1):
        differences.close("crops", kolmogorov(at[:, axis], theirs[:, axis]), 0, 0.03)
    differences.close("share mirrored", draws.mirrored.mean(), float(d["flip/share"]), 0.03)


def greys(differences: Differences, draws: views.Draws, d: Arrays) -> None:
    """Share of grey images, and the grey value of a colour."""
    differences.close("share grey", draws.grey.mean(), float(d["grey/share"]), 0.03)
    colour = torch.tensor([200, 10, 90], dtype=torch.uint8)[None, :, None, None]
    values = {(200, 10, 90), (int(grey(colour)),) * 3}
    differences.equal("grey values", np.array(sorted(values)), d["grey/value"])


def resizing(arrays: Arrays) -> dict[str, float]:
    """Files resized for training and clustering (bicubic) and for test (Lanczos), then normalised."""
    differences = Differences()
    ways = {"clustering": Image.Resampling.BICUBIC, "test": Image.Resampling.LANCZOS}
    for name in names_of(arrays):
        d = case(arrays, name)
        (h, w), generator = d["size"], stable(int(name), "photo")
        blocks = generator.randint(0, 256, (h // 8 + 1, w // 8 + 1, 3))
        x = np.repeat(np.repeat(blocks, 8, 0), 8, 1)[:h, :w] + generator.randint(-12, 13, (h, w, 3))
        at = stable(int(name), "photo at").randint(0, 3 * 288 * 144, len(d["test"]))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photo.png"
            Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)).save(path)
            for what, way in ways.items():
                pixels = views.normalise(torch.from_numpy(read_image(path, 288, 144, way).copy()))
                found = pixels.flatten()[torch.from_numpy(at)]
                differences.close(f"pixels, {what}", found, d[what], 2e-6, where=name)
    return differences.largest


def gallery_sampler(arrays: Arrays) -> dict[str, float]:
    """Every index of every batch from the same uniform numbers; averages of batches of our own."""
    differences = Differences()
    for name in names_of(arrays):
        d = case(arrays, name)
        p, k, iterations, no_camera = (int(x) for x in d["setting"])
        label, camera = d["label"].astype(np.int64), d["camera"].astype(np.int64)

        def draw(
            generator: Any, count: int, cross: bool, args: Any = (label, camera, p, k, name)
        ) -> np.ndarray:
            label, camera, p, k, name = args
            if "singletons" in name:
                return gallery_with_singletons(label, camera, p * k, k, count, generator)
            return random_multiple_gallery(label, camera, p, k, count, generator, cross_camera=cross)

        drawn = draw(Replay(stable(1, name, "u").rand(400_000)), iterations, not no_camera)
        differences.equal("batches", drawn, d["batches"], where=name)
        if "statistics" in d:
            found = sampler_statistics(draw(np.random.default_rng(1), 400, True), label, camera, k)
            scale = np.maximum(np.abs(d["statistics"]), 0.2)
            recorded = d["statistics"] / scale
            differences.close("averages of free batches", found / scale, recorded, 0.15, where=name)
    return differences.largest


def sampler_statistics(batches: np.ndarray, label: np.ndarray, camera: np.ndarray, k: int) -> np.ndarray:
    """Labels a batch, share of companions of the anchor's camera, repeats in a batch, spread of image use."""
    same = []
    for row in batches:
        y, at = label[row], 0
        while at < len(row):  # runs of one label, the anchor first, except where a batch cuts a run
            end = at + 1
            while end < len(row) and y[end] == y[at] and end - at < k:
                end += 1
            if end - at == k and k > 1:
                same += [camera[row[at]] == camera[x] for x in row[at + 1 : end]]
            at = end
    use = np.bincount(batches.ravel(), minlength=len(label)) / len(batches)
    return np.array(
        [
            np.mean([len(set(label[row])) for row in batches]),
            np.mean(same) if same else 0.0,
            np.mean([len(row) - len(set(row.tolist())) for row in batches]),
            use.std(),
            use.max(),
            (use == 0).mean(),
        ]
    )


def learning_rates(d: Arrays) -> dict[str, float]:
    """The rate of every group in every epoch, and the constants of the optimisers."""
    differences = Differences()
    for name, recorded in d.items():
        if name == "adam":
            continue
        method, stage, groups = optimised(name)
        rates, made = rates_of(method, stage)
        # our groups are head and body; the public ones have the body first, and the head in one or more behind it
        public = recorded[:, None] if groups == 1 else recorded[:, [-1, 0]]
        differences.close("rates", rates, public, 1e-9, where=name)
        constants = made.optimiser.param_groups[0]
        if "betas" in constants:
            found = [*constants["betas"], constants["eps"], constants["weight_decay"]]
            differences.equal("constants of Adam", found, d["adam"], where=name)
        else:
            found = [constants[key] for key in ("momentum", "weight_decay", "nesterov", "dampening")]
            differences.equal("constants of SGD", found, [0.9, 5e-4, 1, 0], where=name)
    return differences.largest


def optimised(name: str) -> tuple[Method, Stage, int]:
    """Return a method, the stage whose rates `name` records, and the number of its groups."""
    modality = torch.tensor([0] * 40 + [1] * 40)
    data = training_data("sysu-mm01", modality, torch.zeros_like(modality))
    plain: dict[str, type[Method]] = {
        "cluster-contrast": ClusterContrast,
        "spcl": SpCL,
        "ca-jaccard": CAJaccard,
    }
    if name in plain:
        with network(lambda *_, **__: TinyTwo(16)):
            method: Any = plain[name](configured(plain[name], "sysu-mm01"), data)
        return method, method.stages(method.config)[0], 1
    if name.startswith("otla"):
        with mock.patch("methods.otla.SingleStreamResNet", return_value=TinySingle((8, 8, 8, 8, 8))):
            method = OTLA(configured(OTLA, "sysu-mm01"), data)
        method.labels["visible"] = torch.arange(40) % 5
        second = name == "otla"
        return method, method.stages(method.config)[second], 2 if second else 1
    identity = torch.arange(80) % 6
    labelled = LabelledTrainingData(
        "sysu-mm01", modality, torch.zeros_like(modality), "resnet18", None, seed, identity=identity
    )
    with mock.patch("methods.supervised.TwoStreamResNet", return_value=TinyTwo(16)):
        config = configured(Supervised, "sysu-mm01", *([] if name == "agw" else [name]))
        method = Supervised(config, labelled)
    return method, method.stages(config)[0], 2


def rates_of(method: Method, stage: Stage) -> tuple[np.ndarray, Optimisation]:
    """Return the rates (epochs, groups), stepped as the harness does."""
    made = method.optimisers(stage)["model"]
    rows = []
    for _ in range(stage.epochs):
        rows.append([group["lr"] for group in made.optimiser.param_groups])
        made.optimiser.step()
        made.schedule.step()
    return np.array(rows), made


COMPARISONS: dict[str, Comparison] = {
    r"shared(_\w+)?_backbone\w*": backbones,
    r"shared(_\w+)?_nonlocal\w*": non_local_block,
    r"shared(_\w+)?_extract\w*": extraction,
    r"shared(_\w+)?_augment(?!\w*stats)\w*": augmentation,
    r"shared(_\w+)?_augment_stats\w*": augmentation_draws,
    r"shared(_\w+)?_jitter\w*": jitter,
    r"shared(_\w+)?_resize\w*": resizing,
    r"shared(_\w+)?_sampler\w*": gallery_sampler,
    r"shared(_\w+)?_lr\w*": learning_rates,
}
MUTATIONS = [
    Mutation(
        "the neck sees means instead of generalised means",
        "methods/parts/backbone.py",
        "maps.float().pow(3).mean((2, 3)) + 1e-12).pow(1 / 3)",
        "maps.float().mean((2, 3)) + 1e-12)",
        ("shared_extract",),
    ),
    Mutation(
        "averages with the mirror are never made unit",
        "methods/parts/backbone.py",
        "return normalize(average) if renormalise else average",
        "return average",
        ("tests/methods/parts/test_backbone.py::test_embed_averages_image_and_mirror",),
    ),
    Mutation(
        "companions are drawn with replacement one candidate later",
        "methods/parts/samplers.py",
        "replace=len(others) < instances)",
        "replace=len(others) < instances - 1)",
        ("shared_sampler",),
    ),
    Mutation(
        "the rise of the learning rate begins at 0",
        "methods/parts/optimisers.py",
        "return (epoch + 1) / 10 if epoch < 10",
        "return epoch / 10 if epoch < 10",
        ("shared_lr",),
    ),
]
