"""Figures of features: those that ``reidbench extract`` wrote, or those of a run, extracted for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from harness.errors import HarnessError
from harness.tools.array_files import read_arrays
from harness.tools.cluster import ClusterConfig, configuration, labels_from
from harness.tools.cluster import distances as graph_of
from harness.tools.extraction import Extraction, extract
from harness.tools.figure_request import Wanted
from harness.tools.samples import INTEGERS, Samples, read_samples
from harness.training.progress import Reporter
from methods.errors import MethodError
from results.figures import Points, distances, embedding, split
from results.spaces import IntArray, fragments, pair_distances, project, some_identities

PEOPLE = 20
"""Identities of an embedding."""
SPLIT = ("plain", "mie")
"""Expansions before and after."""


@dataclass(frozen=True)
class Space:
    """Features and all that is known of their images.

    Attributes
    ----------
    features : float32 array (n, d)
    identity, modality, camera : int64 arrays (n,)
    says : str
        What they are of.
    """

    features: np.ndarray
    identity: IntArray
    modality: IntArray
    camera: IntArray
    says: str


def space_of(wanted: Wanted, part: str, reporter: Reporter) -> Space:
    """Read the features of ``--features``, or extract those of the run that was named.

    Raises
    ------
    HarnessError
        If both are given, or neither; if the file lacks what a figure needs.
    """
    sources = wanted.sources
    if (sources.features is None) != (len(wanted.named) == 1) or len(wanted.named) > 1:
        raise HarnessError(
            "give one run (its features are extracted; --data says where its data are now), or --features FILE.npz "
            "that `reidbench extract` wrote"
        )
    if sources.features is not None:
        return read_space(sources.features)
    found = extract(
        Path(wanted.named[0]),
        part,
        reporter,
        data=sources.data,
        device=sources.device,
        images=sources.images,
    )
    return space_of_extraction(found)


def space_of_extraction(found: Extraction) -> Space:
    """Take what figures need of an extraction."""
    images = found.images.images
    return Space(found.features, found.images.identity, images.modality, images.camera, words(found.about))


def read_space(path: Path) -> Space:
    """Read a file of ``reidbench extract``, or anybody's with the same arrays."""
    samples = read_samples(path, torch.device("cpu"))
    known = {name: array.numpy() for name, array in samples.groups.items()}
    if samples.identity is not None:
        known["identity"] = samples.identity
    if lacking := [name for name in INTEGERS if name not in known]:
        raise HarnessError(
            f"{path} lacks {', '.join(lacking)}, which the figure needs; `reidbench extract` writes them"
        )
    about = read_arrays(path, ("about",)).get("about")
    try:
        says = path.name if about is None else words(json.loads(str(about)))
    except (ValueError, AttributeError):
        says = path.name
    return Space(samples.features.numpy(), known["identity"], known["modality"], known["camera"], says)


def words(about: Mapping[str, Any]) -> str:
    """Say what features are of."""
    kind = "" if about.get("data") == "real" else f", {about.get('data')} data"
    return (
        f"{about.get('method')} on {about.get('dataset')}{kind}, split {about.get('split')}, seed {about.get('seed')}, "
        f"{about.get('images')} images"
    )


def draw_embedding(wanted: Wanted, reporter: Reporter) -> Figure:
    """Draw some identities on a plane."""
    space = space_of(wanted, "test", reporter)
    seed = wanted.queries.seed
    rows = list(some_identities(space.identity, space.modality, PEOPLE, seed))
    place = project(space.features[rows], wanted.by, seed)
    identity = space.identity[rows]
    points = Points(place, identity, space.modality[rows], space.camera[rows])
    people = len(np.unique(identity))
    way = (
        "principal components"
        if wanted.by == "pca"
        else f"t-SNE (seed {seed}, started from principal components)"
    )
    note = (
        f"{space.says}; {way}. {people} of {len(np.unique(space.identity))} identities, drawn at random (seed {seed}). "
        "A number is the middle of an identity, thin lines lead to its images. Filled: visible, hollow: infrared."
    )
    axes = ("first component", "second component") if wanted.by == "pca" else ("", "")
    return embedding(points, axes, note, wanted.columns)


def draw_distances(wanted: Wanted, reporter: Reporter) -> Figure:
    """Draw how far images of one identity and of two are apart."""
    space = space_of(wanted, "test", reporter)
    found = pair_distances(space.features, space.identity, space.modality)
    note = (
        f"{space.says}: all {len(space.identity) * (len(space.identity) - 1) // 2:,} pairs of images. `One identity "
        "nearer`: how often a pair of one identity is nearer than a pair of two; 50 % is chance."
    )
    return distances(found, note, wanted.columns)


def draw_split(wanted: Wanted, reporter: Reporter) -> Figure:
    """Draw how identities fall apart over clusters, before and after DMIC's expansion (MIE)."""
    if chosen := [one for one in wanted.sets if one.partition("=")[0].strip() == "expansion"]:
        raise HarnessError(
            f"--set {chosen[0]}: figure split compares {' and '.join(SPLIT)}, by the same other values"
        )
    space = space_of(wanted, "training", reporter)
    samples = Samples(
        torch.from_numpy(space.features),
        {"modality": torch.from_numpy(space.modality), "camera": torch.from_numpy(space.camera)},
        space.identity,
    )
    found = {}
    for name, expansion in zip(("before MIE", "after MIE"), SPLIT, strict=True):
        config = configuration([*wanted.sets, f"expansion={expansion}"])
        found[name] = fragments(labels_of(samples, config), space.identity, space.camera)
    modality = dict(zip(space.camera.tolist(), space.modality.tolist(), strict=True))
    note = (
        f"{space.says}. Clusters by k1 {config.k1}, k2 {config.k2}, {config.clusterer}, eps {config.eps:g}, "
        f"min_samples {config.min_samples}; before: {SPLIT[0]} expansion. Matrices: pairs of images of one identity, "
        "by their cameras."
    )
    return split(found, modality, note, wanted.columns)


def labels_of(samples: Samples, config: ClusterConfig) -> IntArray:
    """Cluster samples."""
    try:
        graph, _ = graph_of(samples, config, config.radius)
        return labels_from(graph, config).cpu().numpy().astype(np.int64)
    except MethodError as error:
        raise HarnessError(f"the features cannot be clustered so: {error}") from error


DRAWN: Mapping[str, Callable[[Wanted, Reporter], Figure]] = {
    "embedding": draw_embedding,
    "distances": draw_distances,
    "split": draw_split,
}
