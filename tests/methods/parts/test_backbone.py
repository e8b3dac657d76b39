"""Networks: wiring against torchvision's, streams, chunks."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.inputs.batches import EpochBatches
from methods.base import INFRARED, VISIBLE, Stream, TrainingData
from methods.errors import MethodError
from methods.parts.backbone import NonLocal, SingleStreamResNet, TwoStreamResNet, embed, gem
from methods.source_only import SourceOnly
from tests.harness.inputs.cases import CPU, store_of


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, 48, 24, generator=torch.Generator().manual_seed(seed))


def kinds(*modality: int) -> Tensor:
    return torch.tensor(modality)


@pytest.fixture(scope="module")
def untouched() -> TwoStreamResNet:
    return TwoStreamResNet("resnet18", seed=3)


@pytest.fixture
def network(untouched: TwoStreamResNet) -> TwoStreamResNet:
    return deepcopy(untouched)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        return torchvision.models.resnet18().state_dict()


def different_stems(network: TwoStreamResNet) -> TwoStreamResNet:
    nn.init.constant_(network.infrared.bn1.bias, 0.3)
    return network


@pytest.mark.parametrize(("architecture", "dimension"), [("resnet50", 2048), ("resnet18", 512)])
def test_the_last_stride_is_one(architecture: str, dimension: int) -> None:
    network = TwoStreamResNet(architecture).eval()
    with torch.inference_mode():
        maps = network.trunk(network.visible(torch.zeros(1, 3, 288, 144)))
    assert maps.shape == (1, dimension, 18, 9)
    assert network.dimension == dimension


def test_wiring_is_torchvisions(weights: dict[str, Tensor]) -> None:
    plain = torchvision.models.resnet18()
    plain.load_state_dict(weights)
    plain.layer4[0].conv1.stride = plain.layer4[0].downsample[0].stride = (1, 1)
    plain.avgpool, plain.fc = nn.Identity(), nn.Identity()
    plain.eval()
    network = TwoStreamResNet("resnet18", weights=weights).eval()
    x = images(3)
    with torch.inference_mode():
        maps = plain(x).unflatten(1, (512, 3, 2))
        expected = (maps.double().pow(3).mean((2, 3)) + 1e-12) ** (1 / 3)
        for modality in (VISIBLE, INFRARED):
            post, pooled = network(x, kinds(*[modality] * 3))
            torch.testing.assert_close(pooled.double(), expected, rtol=1e-4, atol=1e-5)
            # the neck has seen nothing: mean 0, variance 1
            scaled = expected / (1 + 1e-5) ** 0.5 * network.neck.weight
            torch.testing.assert_close(post.double(), scaled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunks", [1, 2])
def test_output_is_in_input_order(chunks: int) -> None:
    network = different_stems(TwoStreamResNet("resnet18", bn_chunks=chunks)).eval()
    x, modality = images(6), kinds(1, 0, 0, 1, 0, 1)
    with torch.inference_mode():
        together = network(x, modality)
        for i in range(6):
            alone = network(x[i : i + 1], modality[i : i + 1])
            for a, b in zip(alone, together, strict=True):
                torch.testing.assert_close(a[0], b[i], rtol=1e-4, atol=1e-4)


def test_training_does_not_depend_on_the_order(network: TwoStreamResNet) -> None:
    network = different_stems(network)
    x, modality = images(6), kinds(1, 0, 0, 1, 0, 1)
    order = torch.tensor([1, 2, 4, 0, 3, 5])
    with torch.no_grad():
        mixed, _ = network(x, modality)
        sorted_, _ = network(x[order], modality[order])
    torch.testing.assert_close(mixed[order], sorted_, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_a_batch_of_one_modality_leaves_the_other_stem_alone(network: TwoStreamResNet, modality: int) -> None:
    stems = (network.visible, network.infrared)
    used, unused = stems[modality], stems[1 - modality]
    post, _ = network(images(4), kinds(*[modality] * 4))
    post.square().sum().backward()
    assert used.conv1.weight.grad.abs().max() > 0
    assert unused.conv1.weight.grad is None
    assert int(used.bn1.num_batches_tracked) == 1
    assert int(unused.bn1.num_batches_tracked) == 0


def test_every_trainable_parameter_gets_a_gradient() -> None:
    network = TwoStreamResNet("resnet18", non_local=True)
    post, _ = network(images(4), kinds(0, 1, 0, 1))
    (post * images(4).flatten(1)[:, :512]).sum().backward()
    missing = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert network.neck.bias.requires_grad is False


def test_the_neck(network: TwoStreamResNet) -> None:
    assert network.neck.bias.abs().max() == 0
    scale = TwoStreamResNet("resnet50").neck.weight.detach()
    assert abs(float(scale.mean()) - 1) < 0.002
    assert 0.009 < float(scale.std()) < 0.011


def test_non_local_blocks_stand_where_published() -> None:
    on = TwoStreamResNet("resnet50", non_local=True)
    assert set(on.trunk.non_local) == {"layer2-2", "layer2-3", "layer3-3", "layer3-4", "layer3-5"}
    # theta, phi, g: c + 1 each; back to c channels: 2 c; its batch norm: 2 c
    expected = {"layer2": 7 * 512 + 3, "layer3": 7 * 1024 + 3}
    for name, block in on.trunk.non_local.items():
        assert sum(p.numel() for p in block.parameters()) == expected[name[:6]]
    assert not TwoStreamResNet("resnet18").trunk.non_local


def test_non_local_starts_as_the_identity() -> None:
    weights = TwoStreamResNet("resnet18", seed=1).state_dict()
    network = TwoStreamResNet("resnet18", non_local=True, seed=2)
    network.load_state_dict(weights, strict=False)
    plain = TwoStreamResNet("resnet18", seed=1)
    x, modality = images(4), kinds(0, 1, 0, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(x, modality)[0], plain(x, modality)[0])


@pytest.mark.parametrize("width", [1, 3])
def test_non_local_equals_its_matrix_form(width: int) -> None:
    torch.manual_seed(0)
    block = NonLocal(5, width).double()
    nn.init.normal_(block.bn.weight)
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    theta, phi, g = (conv(x).reshape(2, width, 12) for conv in (block.theta, block.phi, block.g))
    y = torch.zeros(2, width, 12, dtype=torch.float64)
    for b in range(2):
        for i in range(12):
            for j in range(12):
                y[b, :, i] += (theta[b, :, i] @ phi[b, :, j]) / 12 * g[b, :, j]
    expected = x + deepcopy(block.bn)(block.out(y.reshape(2, width, 4, 3)))
    torch.testing.assert_close(block(x), expected)


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    one = TwoStreamResNet("resnet18", non_local=True, seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(12)
    same = TwoStreamResNet("resnet18", non_local=True, seed=5).state_dict()
    other = TwoStreamResNet("resnet18", non_local=True, seed=6).state_dict()
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["visible.conv1.weight"], other["visible.conv1.weight"])
    assert not torch.equal(one["neck.weight"], other["neck.weight"])


def test_weights_go_into_both_stems_and_the_trunk(weights: dict[str, Tensor]) -> None:
    older = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    for given in (weights, older):
        state = TwoStreamResNet("resnet18", weights=given).state_dict()
        for stem in ("visible", "infrared"):
            assert torch.equal(state[f"{stem}.conv1.weight"], weights["conv1.weight"])
        for i in range(1, 5):
            key = f"layer{i}.1.conv2.weight"
            assert torch.equal(state[f"trunk.layers.{key}"], weights[key])


def test_stems_do_not_share_memory(network: TwoStreamResNet) -> None:
    assert torch.equal(network.visible.conv1.weight, network.infrared.conv1.weight)
    assert network.visible.conv1.weight.data_ptr() != network.infrared.conv1.weight.data_ptr()


def test_wrong_weights_are_refused(weights: dict[str, Tensor]) -> None:
    lacking = {k: v for k, v in weights.items() if k != "layer3.0.conv1.weight"}
    with pytest.raises(MethodError, match=r"resnet18: they lack 'layer3\.0\.conv1\.weight'"):
        TwoStreamResNet("resnet18", weights=lacking)
    with pytest.raises(MethodError, match=r"unknown 'layer1\.2"):
        TwoStreamResNet("resnet18", weights=torchvision.models.resnet34().state_dict())
    with pytest.raises(MethodError, match=r"wrong shape for 'conv1\.weight'"):
        TwoStreamResNet("resnet18", weights={**weights, "conv1.weight": torch.zeros(64, 1, 7, 7)})
    with pytest.raises(MethodError, match="'vgg16'"):
        TwoStreamResNet("vgg16")


def test_batch_norm_chunks_are_replicas() -> None:
    """Each modality is cut; chunks are normalised alone; the first one's statistics stay (quirk Q12)."""
    network = different_stems(TwoStreamResNet("resnet18", bn_chunks=2))
    first, second = deepcopy(network), deepcopy(network)
    first.bn_chunks = second.bn_chunks = 1
    x, modality = images(8), kinds(0, 0, 0, 0, 1, 1, 1, 1)
    halves = torch.tensor([0, 1, 4, 5]), torch.tensor([2, 3, 6, 7])
    with torch.no_grad():
        post, pooled = network(x, modality)
        for replica, rows in zip((first, second), halves, strict=True):
            expected = replica(x[rows], modality[rows])
            torch.testing.assert_close(post[rows], expected[0])
            torch.testing.assert_close(pooled[rows], expected[1])
    found, kept, other = (n.state_dict() for n in (network, first, second))
    for key in found:
        if key.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(found[key], kept[key])
    assert not torch.allclose(found["neck.running_mean"], other["neck.running_mean"])
    assert network.neck.momentum == network.visible.bn1.momentum == 0.1


def test_chunks_of_a_small_batch() -> None:
    network = TwoStreamResNet("resnet18", bn_chunks=2)
    with torch.no_grad():
        assert network(images(4), kinds(1, 0, 1, 0))[0].shape == (4, 512)
        assert network(images(4), kinds(1, 1, 1, 1))[0].shape == (4, 512)
        with pytest.raises(MethodError, match="bn_chunks = 2 leaves one image of 3"):
            network(images(3), kinds(1, 1, 1))


def test_gem() -> None:
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    expected = torch.tensor([[sum(v**3 for v in c.flatten().tolist()) / 20 for c in b] for b in maps])
    torch.testing.assert_close(gem(maps), (expected ** (1 / 3)).float())
    flat = torch.zeros(1, 1, 2, 2, requires_grad=True)
    gem(flat).sum().backward()
    assert float(gem(flat.detach())) == pytest.approx(1e-4)
    assert torch.isfinite(flat.grad).all()


def test_bfloat16_and_channels_last(network: TwoStreamResNet) -> None:
    x, modality = images(8), kinds(0, 1, 0, 1, 0, 1, 0, 1)
    network.eval()
    with torch.inference_mode():
        expected = embed(network, x, modality)
    network = network.to(memory_format=torch.channels_last)
    fast = x.contiguous(memory_format=torch.channels_last)
    seen = []
    network.trunk.register_forward_hook(lambda _m, _i, maps: seen.append(maps))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        post, pooled = network(fast, modality)
        found = embed(network, fast, modality)
    assert seen[0].dtype == torch.bfloat16
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert post.dtype == pooled.dtype == found.dtype == torch.float32
    assert float((found * expected).sum(1).min()) > 0.999
    network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(fast, modality)[0].square().mean().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


def test_embed_averages_image_and_mirror(network: TwoStreamResNet) -> None:
    network.eval()
    x, modality = images(3), kinds(0, 1, 0)
    with torch.inference_mode():
        one = normalize(network(x, modality)[0])
        two = normalize(network(x.flip(3), modality)[0])
        torch.testing.assert_close(embed(network, x, modality, flip=False), one)
        torch.testing.assert_close(embed(network, x, modality, renormalise=False), (one + two) / 2)
        torch.testing.assert_close(embed(network, x, modality), normalize(one + two))
        torch.testing.assert_close(
            embed(network, x, modality), embed(network, x.flip(3), modality), rtol=1e-5, atol=1e-6
        )


def test_embed_refuses_training_mode(network: TwoStreamResNet) -> None:
    with pytest.raises(MethodError, match="eval"):
        embed(network, images(2), kinds(0, 1))


def test_single_stream(weights: dict[str, Tensor]) -> None:
    network = SingleStreamResNet("resnet18", weights=weights, seed=4).eval()
    x = images(2)
    with torch.inference_mode():
        features, pooled = network.depths(x)
        post, same = network(x, kinds(0, 1))
        maps = network.trunk(network.stem(x))
        neck = network.neck(pooled)
    assert [f.shape[1] for f in features] == [64, 64, 128, 256, 512]
    assert network.depth_dimension == sum(f.shape[1] for f in features)
    assert torch.equal(post, features[-1])
    assert torch.equal(pooled, same)
    torch.testing.assert_close(pooled, maps.mean((2, 3)))
    torch.testing.assert_close(post, neck)
    assert network.necks[0].bias.requires_grad is False
    assert SingleStreamResNet("resnet50").depth_dimension == 3904


def test_visible_and_augmented_images_share_the_stem(network: TwoStreamResNet) -> None:
    store = store_of(torch.randint(256, (2, 3, 48, 24), dtype=torch.uint8))
    stream = Stream(
        "visible",
        "visible",
        torch.arange(2),
        torch.arange(2),
        2,
        1,
        visible_views=("plain", "channel-exchange"),
    )
    kind, seeds = np.array([VISIBLE, VISIBLE]), (0, "batches", 0, "train")
    (parts,) = EpochBatches(store, kind, kind, [stream], 1, seeds).parts(0, CPU)
    part = parts["visible"]
    assert part.view.tolist() == [0, 0, 1, 1]
    # the second view is the augmented one: three equal channels
    assert torch.equal(part.images[2, 0], part.images[2, 1])
    assert not torch.equal(part.images[0, 0], part.images[0, 1])
    network(part.images, part.modality)
    assert int(network.visible.bn1.num_batches_tracked) == 1
    assert int(network.infrared.bn1.num_batches_tracked) == 0


def test_source_only_sets_the_necks_scale_to_1() -> None:
    data = TrainingData("regdb", kinds(0, 1), kinds(1, 2), "resnet18", None, lambda *_: 3)
    method = SourceOnly(SourceOnly.Config(), data)
    assert bool((method.backbone.neck.weight == 1).all())
    post, pooled = method.backbone.eval()(images(2), kinds(0, 1))
    torch.testing.assert_close(normalize(post), normalize(pooled))
    assert SourceOnly.stages(method.config) == ()


def test_embed_takes_pooled_features_where_it_is_told() -> None:
    network = TwoStreamResNet("resnet18", seed=0).eval()
    images, modality = (
        torch.randn(3, 3, 32, 16, generator=torch.Generator().manual_seed(0)),
        torch.zeros(3).long(),
    )
    with torch.no_grad():
        _, pooled = network(images, modality)
        found = embed(network, images, modality, flip=False, feature="pooled")
        torch.testing.assert_close(found, torch.nn.functional.normalize(pooled))
        assert not torch.allclose(found, embed(network, images, modality, flip=False))
