"""Every function of tensors that a training calls gives on a device what it gives on the CPU, which has its own tests.

A case takes `here`, which brings a tensor to the device in question; what the host knows of a batch stays on the host,
as in training. Cases of what an iteration calls must not let the host wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from methods.association import (
    aggregation,
    confidence,
    embedding,
    matching,
    multi_memory,
    neighbours,
    prototypes,
    reliability,
    transport,
    weighted_prototypes,
)
from methods.association import neighbour_labels as soft
from methods.clustering import (
    MIE,
    CameraAware,
    Capped,
    Clustering,
    Expansion,
    MeanExpansion,
    ModalityMean,
    camera_aware_clusters,
    jaccard_clusters,
)
from methods.parts import alignment, losses
from methods.parts.memories import ClusterMemory, InstanceMemory, compute_centroids, random_members
from methods.parts.update_rules import UPDATE_RULES
from methods.parts.views import RECIPES, apply_views, draw_views
from protocols.regdb import RegDB

Here = Callable[[Tensor], Tensor]
Case = Callable[[Here], Any]
DIM = 16


def people(n: int, seed: int, identities: int = 6) -> Tensor:
    """Unit rows (n, DIM), in turn of so many identities."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(identities, DIM, generator=generator)
    rows = centre[torch.arange(n) % identities]
    return normalize(rows + 0.3 * torch.randn(n, DIM, generator=generator))


def with_noise(n: int, identities: int = 6) -> Tensor:
    labels = torch.arange(n) % identities
    return labels.masked_fill(torch.arange(n) % 11 == 0, -1)


# -- what an iteration calls ------------------------------------------------------------------------------


def cluster_memory(here: Here, rule: str, in_backward: bool) -> Any:
    inputs, labels = here(people(24, 0)).requires_grad_(), torch.arange(24) * 7 % 6
    memory = ClusterMemory(
        here(people(6, 1)),
        0.05,
        0.2,
        rule,
        generator=torch.Generator().manual_seed(3),
        in_backward=in_backward,
    )
    loss = memory.loss(inputs, labels)
    loss.backward()
    memory.update(inputs, labels)
    return loss, inputs.grad, memory.centroids


def instance_memory(here: Here, memory: InstanceMemory) -> Any:
    inputs, index = here(people(12, 0)).requires_grad_(), torch.arange(12) * 5 % 40
    loss = memory.loss(inputs, index)
    loss.backward()
    memory.update(inputs, index)
    return loss, inputs.grad, memory.rows


def metric_loss(here: Here, loss: Callable[[Tensor, Tensor], Tensor]) -> Any:
    inputs = here(3 * people(16, 0)).requires_grad_()
    value = loss(inputs, here(torch.arange(16) // 4))
    value.backward()
    return value, inputs.grad


def discriminator(here: Here) -> Any:
    module = alignment.ModalityDiscriminator(DIM, seed=1)
    for name, parameter in module.named_parameters():
        parent = module.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], torch.nn.Parameter(here(parameter.detach())))
    for name, buffer in module.named_buffers():
        setattr(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], here(buffer))
    inputs = here(people(16, 0)).requires_grad_()
    loss = module.loss(inputs, here(torch.arange(16) < 8), 0.3, torch.Generator().manual_seed(0))
    loss.backward()
    return loss, inputs.grad


def aligned(here: Here) -> Any:
    x, y = (here(people(8, seed)).requires_grad_() for seed in (0, 1))
    loss = alignment.prediction_alignment(x, y) + alignment.mean_discrepancy(x, y, here(torch.arange(8) // 4))
    loss.backward()
    return loss, x.grad, y.grad


def views(here: Here, recipe: str) -> Tensor:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 24, 12), dtype=np.uint8)
    draws = draw_views(RECIPES[recipe], 6, (24, 12), np.random.default_rng(1))
    return apply_views(here(torch.from_numpy(images)), draws)


def collected(here: Here, images: int = 9) -> Any:
    kind, image = torch.arange(12) % 2, torch.arange(12) * 4 % images
    costs = confidence.LastLosses(2, images, here(torch.zeros(1)).device)
    costs.add(kind, image, here(people(12, 0)[:, 0]))
    rows = weighted_prototypes.WeightedPrototypes(here(torch.zeros(2, images, DIM)))
    rows.add(
        kind, image, here(people(12, 0)), here(torch.rand(12, generator=torch.Generator().manual_seed(0)))
    )
    means = transport.MeanPredictions(images, DIM, here(torch.zeros(1)).device)
    means.add(here(image), here(people(12, 0)))
    return costs.costs, rows.rows


WITHIN: dict[str, Case] = {
    **{
        f"cluster memory, {rule}{', in backward' * moved}": partial(
            cluster_memory, rule=rule, in_backward=moved
        )
        for rule in UPDATE_RULES
        for moved in (False, True)
    },
    **{
        loss.__name__: partial(metric_loss, loss=loss)
        for loss in (
            losses.batch_hard_triplet,
            losses.weighted_regularized_triplet,
            losses.enhanced_squared_difference,
        )
    },
    "discriminator": discriminator,
    "alignment": aligned,
    **{f"views, {recipe}": partial(views, recipe=recipe) for recipe in RECIPES},
    "what passes collect": collected,
}


# -- what an epoch begins with, and evaluation ------------------------------------------------------------


def sides(here: Here) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of visible and infrared images, and their labels."""
    return here(people(48, 0)), here(people(36, 1)), here(with_noise(48)), here(with_noise(36))


def clustered(here: Here, expansion: Callable[[Here], Expansion]) -> Clustering:
    features = here(people(96, 2, identities=8))
    return jaccard_clusters(features, k1=10, eps=0.5, min_samples=3, expansion=expansion(here))


def groups(here: Here) -> tuple[Tensor, Tensor]:
    return here(torch.arange(96) // 48), here(torch.arange(96) % 4)


def camera_aware(here: Here) -> Clustering:
    cameras = CameraAware(groups(here)[1], 6, 8, 3, 3)
    return camera_aware_clusters(here(people(96, 2, identities=8)), cameras, eps=0.5, min_samples=3)


def memory_starts(here: Here) -> Any:
    features, labels = here(people(48, 0)), here(with_noise(48))
    means = compute_centroids(features, labels, here(torch.arange(48) // 24))
    drawn = random_members(features, labels, torch.Generator().manual_seed(0))
    return means, compute_centroids(features, labels), drawn


def aggregated(here: Here) -> Any:
    visible, infrared, y_v, y_r = sides(here)
    pairs = aggregation.pair_counts(visible, infrared, y_v, y_r, 0.2)
    partner = aggregation.aggregate_by_counts(pairs)
    rows = [compute_centroids(*side) for side in ((visible, y_v), (infrared, y_r))]
    travelled = aggregation.propagate_labels(visible, infrared, y_r, 3)
    return (
        pairs,
        aggregation.aggregate_rows(*rows, partner),
        travelled,
        aggregation.smooth_labels(visible, travelled, 3),
        aggregation.refine_rows(visible, y_v, rows[1], 0.1, 0.5),
    )


def matched(here: Here) -> Any:
    rows = here(people(6, 0)), here(people(7, 1))
    return matching.match_clusters(*rows), matching.match_by_transport(*rows)


def sets_of_memories(here: Here) -> Any:
    visible, infrared, y_v, y_r = sides(here)
    distance = multi_memory.memory_distance((visible, y_v), (infrared, y_r), 2, starts=2)
    return distance, multi_memory.matched_labels(y_v, y_r, distance)


def listed(here: Here) -> Any:
    visible, infrared, y_v, y_r = sides(here)
    lists, _ = neighbours.cross_neighbours(visible, infrared, 4)
    softened = soft.neighbour_labels(lists, y_r, y_v)
    pairs = neighbours.mutual_neighbours(visible, infrared, y_v, y_r, 5)
    return lists, softened, softened.of(here(torch.tensor([3, 1])), 6), pairs


def moved_labels(here: Here) -> Any:
    visible, infrared, y_v, _ = sides(here)
    rows = prototypes.density_prototypes(visible, y_v, 3, 0.5)
    embedded = embedding.memory_embedding(infrared, [rows, here(people(5, 4))])
    return rows, prototypes.nearest_prototypes(visible, y_v, rows), embedded


def self_paced(here: Here) -> Any:
    labels = here(with_noise(48))
    tight, loose = labels.masked_fill(here(torch.arange(48) % 7 == 0), -1), labels // 2
    scores = reliability.reliability(labels, tight, loose)
    threshold = reliability.independence_threshold(scores)
    return scores, threshold, reliability.reliable_labels(scores, threshold or 0.0)


def transported(here: Here) -> Tensor:
    logits = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return transport.sinkhorn_labels(here(logits.softmax(1)), power=5.0)


def trusted(here: Here) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    costs = torch.cat([torch.rand(40, generator=generator), 3 + torch.rand(20, generator=generator)])
    return confidence.loss_confidence(here(costs.view(2, 30)))


def scored(here: Here) -> Any:
    rng = np.random.default_rng(0)
    distance = here(torch.from_numpy(np.round(rng.random((12, 30)), 1)))
    ids = rng.integers(0, 5, 12), rng.integers(0, 5, 30)
    if distance.device.type == "cpu":
        distance = distance.numpy()
    return RegDB().score(distance, *ids, np.full(12, 1), np.full(30, 2))


BETWEEN: dict[str, Case] = {
    "plain": partial(clustered, expansion=lambda here: MeanExpansion(4)),
    "modality mean": partial(clustered, expansion=lambda here: ModalityMean(4, groups(here)[0])),
    "mie": partial(clustered, expansion=lambda here: MIE(4, *groups(here))),
    "capped": partial(clustered, expansion=lambda here: Capped(8, 2, *groups(here))),
    "camera-aware": camera_aware,
    "memory starts": memory_starts,
    "aggregation": aggregated,
    "matching": matched,
    "sets of memories": sets_of_memories,
    "neighbours": listed,
    "prototypes": moved_labels,
    "reliability": self_paced,
    "transport": transported,
    "confidence": trusted,
    "metrics": scored,
}


WAITS_OF_A_CLUSTERING = {
    "checks.py: check_features": 2,
    "first_pass.py: _longest": 1,
    "kernels/torch_search.py: all_of_other_groups": 2,
    "kernels/torch_search.py: search_blocks": 3,
    "kernels/torch_search.py: rank_candidates": 2,
    "kernels/torch_kernels.py: expanded_sets": 1,
    "kernels/torch_kernels.py: mix_rows": 4,
    "kernels/torch_kernels.py: overlaps": 1,
    "kernels/torch_kernels.py: density_labels": 6,
    "pipeline.py: <genexpr>": 2,
    "pipeline.py: summarise": 1,
}
"""Where the host must wait, and how often: for sizes of sparse rows, whether rows are proven, and rounds of labels."""


def on_cpu(tensor: Tensor) -> Tensor:
    return tensor.clone()


@pytest.mark.parametrize("name", WITHIN)
def test_within_an_iteration(name: str, device: torch.device, pretended: bool, same: Any) -> None:
    expected = WITHIN[name](on_cpu)
    if pretended:
        from tests.pretend import waits

        waits.clear()
    found = WITHIN[name](lambda tensor: tensor.to(device))
    if pretended:
        assert not waits
    same(found, expected)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_instance_memories(reduce: str, device: torch.device, pretended: bool, same: Any) -> None:
    """Classes are made at the start of an epoch, where the host waits; losses and updates let it go on."""
    labels = with_noise(40)
    expected = instance_memory(on_cpu, InstanceMemory(people(40, 1), labels, 0.05, 0.2, reduce))
    memory = InstanceMemory(people(40, 1).to(device), labels, 0.05, 0.2, reduce)
    if pretended:
        from tests.pretend import waits

        waits.clear()
    found = instance_memory(lambda tensor: tensor.to(device), memory)
    if pretended:
        assert not waits
    same(found, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BETWEEN)
def test_between_iterations(name: str, device: torch.device, same: Any) -> None:
    same(BETWEEN[name](lambda tensor: tensor.to(device)), BETWEEN[name](on_cpu))


def test_where_a_clustering_waits(device: torch.device, pretended: bool) -> None:
    if not pretended:
        pytest.skip("of the device without hardware")
    from tests.pretend import waits

    features = people(96, 2, identities=8).to(device)
    waits.clear()
    jaccard_clusters(features, k1=10, eps=0.5, min_samples=3, expansion=MeanExpansion(4))
    assert {name.removeprefix("methods/clustering/"): n for name, n in waits.items()} == WAITS_OF_A_CLUSTERING
