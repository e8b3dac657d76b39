"""``reidbench extract``: features and pseudo-labels of a finished run, in an ``.npz`` that other commands read."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from harness.errors import HarnessError
from harness.runs.files import write_atomic
from harness.runs.repeat import plan_from_manifest
from harness.runs.task import Execution
from harness.training.checkpoint import load_checkpoint
from harness.training.evaluation import refuse_features
from harness.training.progress import Reporter
from harness.training.setup import Setup, prepare
from harness.training.state import load_modules
from methods.base import FeatureBank
from protocols.base import LabelledImages
from results.checksums import check_files
from results.manifests import is_finished, read_manifest

Part = Literal["training", "test"]
PARTS: tuple[Part, ...] = ("training", "test")
CHECKPOINT = "checkpoints/last.ckpt"
LABELS = "labels_"
"""Beginning of the names of pseudo-labels; the label space follows."""


@dataclass(frozen=True)
class Extraction:
    """What a finished network makes of its training or test images.

    Attributes
    ----------
    images : LabelledImages
        Training images in the run's own order, with the cameras that methods see; or every test image once.
    features : float32 array (n, d)
        As the method clusters them (training), or as they are scored (test).
    labels : mapping of label space to int64 array (n,)
        What the method's rule of its last epoch gives on these features; -1 is noise, -2 is outside the space. None
        for test images, nor where nothing was trained.
    about : mapping
        Run, method, and whether training saw identities.
    """

    images: LabelledImages
    features: npt.NDArray[np.float32]
    labels: Mapping[str, npt.NDArray[np.int64]]
    about: Mapping[str, Any]

    def lines(self) -> list[str]:
        """Say what was extracted."""
        n, d = self.features.shape
        spaces = ", ".join(
            f"{space} ({len(np.unique(labels[labels >= 0]))} clusters)"
            for space, labels in self.labels.items()
        )
        return [
            f"{n} {self.about['images']} images of run {self.about['run']}, {d} dimensions",
            f"pseudo-labels: {spaces or 'none'}",
            f"identities: {self.about['identity']}",
        ]

    def content(self) -> bytes:
        """Return the ``.npz``; equal extractions give equal bytes."""
        images = self.images.images
        arrays: dict[str, npt.NDArray[Any]] = {
            "features": self.features,
            "paths": np.array(images.paths),
            "modality": images.modality,
            "camera": images.camera,
            "identity": self.images.identity,
            **{f"{LABELS}{space}": labels for space, labels in self.labels.items()},
            "about": np.array(json.dumps(self.about, sort_keys=True)),
        }
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()


def extract(
    run: Path,
    part: str,
    reporter: Reporter,
    *,
    data: str | None,
    device: str = "",
    workers: int = 0,
    images: Path = Path("data") / "images",
    twin_seed: int = 0,
) -> Extraction:
    """Load the last checkpoint of a finished run and extract its features.

    Parameters
    ----------
    part : str
        ``training`` or ``test``.
    data, twin_seed
        Where the data are now, as :func:`~harness.runs.repeat.plan_from_manifest` takes them.
    device : str
        By default (empty) that of the manifest.

    Raises
    ------
    HarnessError, ResultsError
        If the run has not finished or a file of it has changed, or its data, weights or source have.
    """
    if part not in PARTS:
        raise HarnessError(f"--part {part}: expected {' or '.join(PARTS)}")
    require_finished(run)
    manifest = read_manifest(run / "manifest.json")
    execution = Execution(device or manifest["device"], workers, run, images=images)
    task = plan_from_manifest(run / "manifest.json", execution, reporter.line, data=data, twin_seed=twin_seed)
    with reporter.bars():
        setup = prepare(task, reporter)
        restore(setup, run / CHECKPOINT)
        return of_part(setup, part)


def require_finished(run: Path) -> None:
    """Refuse a folder that is no finished run, or whose manifest or checkpoint is not what the run wrote."""
    if not run.is_dir():
        raise HarnessError(f"{run}: no such folder; give the directory of a finished run")
    if not is_finished(run):
        raise HarnessError(
            f"{run} is no finished run (it has no COMPLETE); `reidbench run` goes on with it, then extract"
        )
    check_files(run, ("manifest.json", CHECKPOINT))


def restore(setup: Setup, path: Path) -> None:
    """Load networks and memories as the run left them."""
    saved, spec = load_checkpoint(path), setup.task.spec
    if (saved["run"], saved["split"]) != (spec.id, spec.split):
        raise HarnessError(f"{path} belongs to run {saved['run']}, not to {spec.id}; restore the file")
    load_modules(setup, saved["modules"])
    setup.method.load_state({k: v.to(setup.engine.device) for k, v in saved["method"].items()})


def of_part(setup: Setup, part: Part) -> Extraction:
    """Extract the training images and cluster them, or extract the test images."""
    method, evaluation = setup.method, setup.evaluation
    if part == "test":
        features = evaluation.extract(
            setup.engine, method.backbone, method.test_feature, flip=method.flip_test
        )
        return Extraction(evaluation.listed, on_host(features), {}, about(setup, part))
    images = setup.training.images
    features = setup.engine.extract(
        method.backbone,
        setup.images,
        images.modality,
        "extract training",
        renormalise=method.renormalise_flip,
    )
    refuse_features(features, images.paths, "training")
    return Extraction(setup.training, on_host(features), pseudo_labels(setup, features), about(setup, part))


def on_host(features: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return features as an array."""
    return features.float().cpu().numpy()


def pseudo_labels(setup: Setup, features: torch.Tensor) -> dict[str, npt.NDArray[np.int64]]:
    """Cluster features by the rule of the last epoch, by space; of several phases the last that has a space."""
    found: dict[str, npt.NDArray[np.int64]] = {}
    if not setup.epochs:
        return found
    epoch, images, device = setup.epochs[-1], setup.training.images, features.device
    for phase in setup.method.phases(epoch):
        bank = FeatureBank(
            features,
            torch.from_numpy(images.modality).to(device),
            torch.from_numpy(images.camera).to(device),
            torch.arange(len(images), device=device),
        )
        plan = setup.method.begin_epoch(replace(epoch, phase=phase), bank)
        found |= {space: labels.cpu().numpy().astype(np.int64) for space, labels in plan.labels.items()}
    return found


def about(setup: Setup, part: Part) -> dict[str, Any]:
    """Say what the arrays are of, and whether identities decided them."""
    spec, supervised = setup.task.spec, setup.method.supervision == "supervised"
    return {
        "run": spec.id,
        "method": spec.label,
        "preset": spec.preset,
        "dataset": spec.dataset,
        "data": spec.data,
        "split": spec.split,
        "seed": spec.seed,
        "images": part,
        "identity": "trained on" if supervised else "never used in training; for diagnostics alone",
    }


def write_extraction(found: Extraction, path: Path) -> None:
    """Write the ``.npz`` whole or not at all."""
    write_atomic(path, found.content())
