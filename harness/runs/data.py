"""Where a run's images come from: a real data root, or a synthetic twin made on demand."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from harness.errors import HarnessError
from harness.registry import load_datasets
from harness.runs.files import write_atomic
from protocols.base import Dataset, Images, LabelledImages, Modality, Protocol, Trial
from protocols.check import check, dataset_at, fingerprint
from protocols.files import DataWarning, is_synthetic
from protocols.synthetic.twin import VERSION, synthesise

DataKind = Literal["real", "real-partial", "synthetic"]
Say = Callable[[str], None]
"""Tells a person one line."""
SYNTHETIC: DataKind = "synthetic"


@dataclass(frozen=True)
class DataRoot:
    """A data root, what it is (``real``, ``real-partial``, ``synthetic``), and its fingerprint."""

    path: Path
    kind: DataKind
    digest: str


def recognise(root: Path) -> Dataset:
    """Say which registered data set lies at a root; :class:`~protocols.base.DataError` if none does."""
    return dataset_at(root, load_datasets())


def synthetic_root(dataset: Dataset, twin_seed: int, say: Say) -> Path:
    """Return the demo-sized twin of a data set, made at the first call."""
    path = Path("data") / f"{dataset.name}-twin-v{VERSION}-seed{twin_seed}"
    if not path.is_dir():
        say(f"making a synthetic twin of {dataset.name} in {path}")
        synthesise(path, dataset, seed=twin_seed)
    return path


def find_root(option: str | None, protocol: Protocol, twin_seed: int, say: Say) -> Path:
    """Resolve ``--data`` or ``REIDBENCH_DATA`` to a root of the protocol's data set.

    Raises
    ------
    HarnessError
        If nothing is given, or the root holds another data set.
    """
    given = option or os.environ.get("REIDBENCH_DATA")
    if not given:
        raise HarnessError(
            "no data: give --data PATH (the root of the data set), set REIDBENCH_DATA, or try --data synthetic"
        )
    if given == SYNTHETIC:
        return synthetic_root(protocol.dataset, twin_seed, say)
    root = Path(given).expanduser()
    held, needed = recognise(root).name, protocol.dataset.name
    if held != needed:
        raise HarnessError(f"{root} holds {held}, but protocol {protocol.id} needs {needed}")
    return root


def without_identity_order(training: LabelledImages) -> LabelledImages:
    """Put training images into an order that says nothing of identities: visible first, then by digest of the path.

    Protocols list images by identity, as public code does; there, ties and the border points of clusters follow the
    truth.
    """
    images = training.images
    digests = [hashlib.sha256(path.encode()).hexdigest() for path in images.paths]
    order = np.lexsort((np.array(digests), images.modality))
    return LabelledImages(
        Images(
            images.root,
            tuple(images.paths[i] for i in order),
            images.modality[order],
            images.camera[order],
        ),
        training.identity[order],
    )


def with_own_cameras(training: LabelledImages) -> LabelledImages:
    """Give infrared images camera numbers that no visible image has, where a data set's cameras have both modalities.

    A camera is a sensor for methods that treat images of one camera apart: they look for what a lens, a place and a
    kind of light have in common. Scores count the data set's own numbers.
    """
    images = training.images
    infrared = images.modality == Modality.INFRARED
    if not set(images.camera[infrared].tolist()) & set(images.camera[~infrared].tolist()):
        return training
    camera = images.camera + infrared * (images.camera.max() + 1)
    return replace(training, images=replace(images, camera=camera))


def export(protocol: Protocol, root: Path, out: Path, *, allow_partial: bool = False) -> list[Path]:
    """Write the lists of all trials as CSV, for anybody's code.

    Files are ``query_<trial>.csv`` and ``gallery_<trial>.csv`` with the columns ``path,identity,camera``, in
    evaluation order: those of the protocol's first setting in `out`, of another in ``<out>/<setting>``.

    Raises
    ------
    HarnessError
        If `out` has lists already.
    """
    if any(out.glob("query_*.csv")):
        raise HarnessError(f"{out} holds lists already; delete them, or choose another folder with --out")
    written: list[Path] = []
    first = ""
    for split in protocol.dataset.splits:
        for trial in protocol.trials(root, split, allow_partial=allow_partial):
            first = first or trial.setting
            written += export_trial(trial, out if trial.setting == first else out / trial.setting)
    if not written:
        warnings.warn(f"{protocol.id} has no trials on {root}", DataWarning, stacklevel=2)
    return written


def export_trial(trial: Trial, folder: Path) -> list[Path]:
    """Write one trial's two lists."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, side in (("query", trial.query), ("gallery", trial.gallery)):
        path = folder / f"{name}_{trial.number}.csv"
        frame = pd.DataFrame(
            {"path": side.images.paths, "identity": side.identity, "camera": side.images.camera}
        )
        write_atomic(path, frame.to_csv(index=False).encode())
        paths.append(path)
    return paths


def data_digest(root: Path, dataset: Dataset) -> str:
    """Return the data fingerprint, remembered for as long as no file's name, size or time changes."""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    stats = ((p.relative_to(root).as_posix(), p.stat()) for p in files)
    listing = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    key = hashlib.sha256(f"{root.resolve()}\n{listing}".encode()).hexdigest()[:24]
    cache = Path("data") / "fingerprints" / key
    try:
        return cache.read_text(encoding="utf-8")
    except OSError:
        digest = fingerprint(root, dataset)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache, digest.encode())
    except OSError as error:
        warnings.warn(f"the data fingerprint could not be remembered in {cache}: {error}", stacklevel=2)
    return digest


def examine(root: Path, dataset: Dataset, *, allow_partial: bool) -> DataRoot:
    """Check counts before any work, and say what kind of data this is.

    Raises
    ------
    DataError
        On real data with counts that nobody knows, unless `allow_partial`.
    """
    kind: DataKind = SYNTHETIC if is_synthetic(root) else "real"
    if kind == "real":
        report = check(root, dataset, images=False)
        if not report.ok:
            if not allow_partial:
                report.refuse()
            kind = "real-partial"
    return DataRoot(root, kind, data_digest(root, dataset))
