"""``reidbench evaluate``: a stranger's features or network, scored as a run like any other."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from harness.errors import HarnessError
from harness.inputs.images import ImageFiles
from harness.registry import load_protocols, methods
from harness.runs.data import examine, find_root
from harness.runs.devices import choose_device
from harness.runs.directory import RunDirectory
from harness.runs.manifest import Manifest
from harness.runs.plan import parse_trials, refuse_unscorable
from harness.runs.run_spec import TRAINING_VERSION, RunSpec
from harness.runs.task import Execution, Task
from harness.tools.array_files import read_arrays
from harness.tools.networks import Network, open_network
from harness.training.engine import Engine
from harness.training.evaluation import Result, distinct, own_trials, score_trials
from harness.training.progress import Reporter
from harness.training.recorder import write_ranks
from methods.parts.views import normalise
from protocols.base import LabelledImages
from protocols.lists import list_digest
from results.schema import HISTORY, METRICS, PROFILE, Division, MetricRow, Supervision, frame_of
from results.store import write_frame

PRESET = "evaluated"
"""Stands in the rows of what was not trained here."""
BATCH = 64
Extract = Callable[[LabelledImages], Tensor]
"""Features (n, d) of images."""


@dataclass(frozen=True)
class Submission:
    """What a person says of features or a network.

    Attributes
    ----------
    source : str
        ``.npz`` with paths and features, or what :func:`~harness.tools.networks.open_network` takes.
    name : str
        How tables call it.
    protocol, data, twin_seed, allow_partial
        What it is scored by, and on.
    trial : int, optional
        Training split, where a data set has several.
    seed : int
        Of the training.
    supervision, division : str
        As its author declares.
    height, width : int
        Of images that a network is given.
    flip : bool
        Average a network's features of an image and of its mirror.
    """

    source: str
    name: str
    protocol: str
    data: str | None
    supervision: str
    division: str = "open"
    trial: int | None = None
    seed: int = 0
    height: int = 288
    width: int = 144
    flip: bool = True
    allow_partial: bool = False
    twin_seed: int = 0

    def check(self) -> None:
        """Refuse a name that is taken or cannot be printed, and declarations that there are not."""
        if not re.fullmatch(r"[A-Za-z0-9][\w .+:-]{0,39}", self.name, re.ASCII):
            raise HarnessError(
                f"--name {self.name!a}: expected up to 40 letters, digits, blanks and any of . + : - _"
            )
        if self.name.partition(":")[0] in methods():
            raise HarnessError(f"--name {self.name}: that is a method of reidbench; call yours otherwise")
        for option, value, known in (
            ("supervision", self.supervision, get_args(Supervision)),
            ("division", self.division, get_args(Division)),
        ):
            if value not in known:
                raise HarnessError(f"--{option} {value}: expected {', '.join(known)}")

    @property
    def from_file(self) -> bool:
        """Whether the features are there already."""
        return self.source.lower().endswith(".npz")

    def command(self) -> str:
        """Return the command that does this again."""
        words = ["reidbench", "evaluate", self.source, "--name", self.name, "--protocol", self.protocol]
        words += ["--supervision", self.supervision, "--division", self.division, "--seed", str(self.seed)]
        words += ["--trial", str(self.trial)] if self.trial is not None else []
        if not self.from_file:
            words += ["--height", str(self.height), "--width", str(self.width)]
            words += [] if self.flip else ["--no-flip"]
        return shlex.join([*words, "--data", self.data or ""])


def evaluate(wanted: Submission, execution: Execution, reporter: Reporter) -> RunDirectory:
    """Score features or a network, and write a run directory; one that is there already is done anew.

    Raises
    ------
    HarnessError
        If features are missing, not finite or of other images; if the network fails; if declarations are wrong.
    """
    wanted.check()
    protocols = load_protocols(wanted.protocol)
    dataset = protocols[0].dataset
    split = split_of(wanted, dataset.splits)
    kind, number = ("cpu", "") if wanted.from_file else choose_device(execution.device, "32")
    device = torch.device(f"{kind}:{number}" if number else kind)
    extract, digest = open_source(wanted, device, reporter)
    root = find_root(wanted.data, protocols[0], wanted.twin_seed, reporter.line)
    refuse_unscorable(protocols, root)
    data = examine(root, dataset, allow_partial=wanted.allow_partial)
    trials = [
        (protocol, trial, list_digest(trial))
        for protocol in protocols
        for trial in own_trials(protocol, root, split, allow_partial=data.kind != "real")
    ]
    listed = distinct([side for _, trial, _ in trials for side in (trial.query, trial.gallery)])
    features = unit_rows(extract(listed), listed)
    spec = RunSpec(
        method=re.sub(r"[^a-z0-9]+", "-", wanted.name.lower()).strip("-"),
        label=wanted.name,
        preset=PRESET,
        config=declared(wanted, features),
        engine={"weights": f"sha256-{digest[:12]}"},
        dataset=dataset.name,
        split=split,
        seed=wanted.seed,
        data_digest=data.digest,
        data=data.kind,
        weights=digest,
        sources=digest,
        training_version=TRAINING_VERSION,
    )
    task = Task(spec, root, protocols, execution)
    result = score_trials(trials, listed, features, Engine.negated_products, dataset.headline)
    further = {"evaluated": {"source": wanted.source, "sha256": digest}, "command": wanted.command()}
    write(task, wanted, result, Manifest(task, digest, str(device), further=further))
    return task.directory


def split_of(wanted: Submission, splits: tuple[int, ...]) -> int:
    """Return the training split; it must be said where there are several."""
    if wanted.trial is None and len(splits) > 1:
        raise HarnessError(
            f"say with --trial which training these features are of: {wanted.protocol} has one for each of the trials "
            f"{splits[0]} to {splits[-1]}, and a model of one is never tested on another"
        )
    (split,) = parse_trials(None if wanted.trial is None else str(wanted.trial), splits)
    return split


def declared(wanted: Submission, features: Tensor) -> dict[str, Any]:
    """Return what of a submission may differ between runs of one name only if it is another method."""
    known: dict[str, Any] = {
        "dimensions": features.shape[1],
        "division": wanted.division,
        "kind": "features" if wanted.from_file else "network",
        "supervision": wanted.supervision,
    }
    if not wanted.from_file:
        known |= {"height": wanted.height, "width": wanted.width, "flip": wanted.flip}
    return known


def open_source(wanted: Submission, device: torch.device, reporter: Reporter) -> tuple[Extract, str]:
    """Return what gives features, and the digest of its file."""
    if wanted.from_file:
        path = Path(wanted.source)
        table = read_features(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return (lambda listed: features_by_path(path, table, listed)), digest
    network, digest = open_network(wanted.source, device)
    return (lambda listed: by_network(wanted, network, listed, device, reporter)), digest


def read_features(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    """Read ``paths`` (n,) and ``features`` (n, d).

    Raises
    ------
    HarnessError
        If one is missing, or they do not belong together.
    """
    arrays = read_arrays(path, ("paths", "features"))
    for name, kinds, what in (
        ("paths", "US", "one text an image"),
        ("features", "f", "a row of numbers an image"),
    ):
        if name not in arrays:
            raise HarnessError(
                f"{path}: the array {name!r} is missing; it has {', '.join(sorted(arrays)) or 'none'}"
            )
        if arrays[name].dtype.kind not in kinds or arrays[name].ndim != 1 + (name == "features"):
            raise HarnessError(
                f"{path}: {name} has shape {arrays[name].shape} and type {arrays[name].dtype}; expected {what}"
            )
    if len(arrays["paths"]) != len(arrays["features"]):
        raise HarnessError(
            f"{path}: paths has {len(arrays['paths'])} entries, features {len(arrays['features'])} rows"
        )
    return arrays


def features_by_path(path: Path, arrays: Mapping[str, npt.NDArray[Any]], listed: LabelledImages) -> Tensor:
    """Return the rows of the listed images, known by their paths below the data root.

    Raises
    ------
    HarnessError
        If an image has no row, or two that differ.
    """
    names = arrays["paths"].astype(str).tolist()
    row_of: dict[str, int] = {}
    for row, name in enumerate(names):
        first = row_of.setdefault(name, row)
        if first != row and not np.array_equal(arrays["features"][first], arrays["features"][row]):
            raise HarnessError(f"{path}: rows {first} and {row} are both of {name}, and differ; keep one")
    wanted = listed.images.paths
    if lacking := [name for name in wanted if name not in row_of]:
        raise HarnessError(
            f"{path} has no features of {len(lacking)} of the {len(wanted)} images that are scored, the first is "
            f"{lacking[0]}; its own paths are like {names[0] if names else 'none'}: write them as below the data root"
        )
    rows = [row_of[name] for name in wanted]
    return torch.from_numpy(arrays["features"][rows].astype(np.float32))


def by_network(
    wanted: Submission, network: Network, listed: LabelledImages, device: torch.device, reporter: Reporter
) -> Tensor:
    """Run a network over the listed images, resized as the field does at test time."""
    images = listed.images
    files = ImageFiles(images.root, images.paths, wanted.height, wanted.width, Image.Resampling.LANCZOS)
    kinds = torch.from_numpy(images.modality)
    found = []
    starts = range(0, len(files), BATCH)
    with torch.inference_mode(), reporter.bars():
        for start in reporter.track(starts, len(starts), "extract test"):
            rows = range(start, min(start + BATCH, len(files)))
            batch = normalise(torch.from_numpy(files.decode(rows)[0]).to(device))
            kind = kinds[rows.start : rows.stop].to(device)
            try:
                given = network(batch, kind)
                if wanted.flip:
                    given = (given + network(batch.flip(-1), kind)) / 2
            except HarnessError:
                raise
            except Exception as error:  # whatever somebody's network raises
                raise HarnessError(
                    f"{wanted.source}: the network fails on images {tuple(batch.shape)}: {type(error).__name__}: "
                    f"{str(error).strip().partition(chr(10))[0]}"
                ) from error
            if given.ndim != 2 or len(given) != len(rows):
                raise HarnessError(
                    f"{wanted.source}: of {len(rows)} images the network gives {tuple(given.shape)}; expected "
                    f"({len(rows)}, d)"
                )
            found.append(given.float().cpu())
    return torch.cat(found).clone()


def unit_rows(features: Tensor, listed: LabelledImages) -> Tensor:
    """Normalise features, so that distances are cosines; what cannot be normalised is refused."""
    norms = features.norm(dim=1)
    bad = ~norms.isfinite() | (norms == 0)
    if bad.any():
        raise HarnessError(
            f"{int(bad.sum())} of {len(features)} features are NaN, infinite or zero, the first is that of "
            f"{listed.images.paths[int(bad.nonzero()[0])]}; no number can be trusted with them"
        )
    return features / norms[:, None]


def write(task: Task, wanted: Submission, result: Result, manifest: Manifest) -> None:
    """Write the run, its marker last."""
    directory, spec = task.directory, task.spec
    about: dict[str, Any] = {
        "run": spec.id,
        "method": spec.label,
        "preset": spec.preset,
        "split": spec.split,
        "seed": spec.seed,
        "epoch": 0,
        "data": spec.data,
        "checkpoint": "last",
        "division": wanted.division,
        "supervision": wanted.supervision,
        "stage_init": "last",
        "weights": spec.engine["weights"],
    }
    rows = [MetricRow(**about, **row) for row in result.rows]
    with directory.held():
        directory.reset()
        write_ranks(directory.ranks, {f"last/{name}": array for name, array in result.ranks.items()})
        write_frame(frame_of(rows, METRICS), directory.metrics, METRICS)
        write_frame(frame_of([], HISTORY), directory.history, HISTORY)
        write_frame(frame_of([], PROFILE), directory.profile, PROFILE)
        manifest.write("complete")
        directory.finish()
