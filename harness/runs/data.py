"""Where a run's images come from: a real data root, or a synthetic twin made on demand."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from harness.errors import HarnessError, format_error
from harness.registry import load_datasets
from harness.runs.files import waiting_for, write_atomic
from protocols.base import Dataset, Images, LabelledImages, Modality, Protocol
from protocols.check import check, dataset_at, fingerprint
from protocols.files import files_in, is_synthetic
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
    """Return the demo-sized twin of a data set, made at the first call; of several processes, one makes it."""
    path = Path("data") / f"{dataset.name}-twin-v{VERSION}-seed{twin_seed}"
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with waiting_for(path.with_name(f"{path.name}.lock"), say):
        if not path.is_dir():
            for left in path.parent.glob(f".{path.name}.*"):
                shutil.rmtree(left, ignore_errors=True)
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
    digests = [hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest() for path in images.paths]
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


def data_digest(root: Path, dataset: Dataset) -> str:
    """Return the data fingerprint, remembered for as long as no file's name, size, time or inode changes.

    The time is also that of the last change of the file's entry, which nobody can set back: an image that was
    replaced by one of the same size and time stamp is read again, and so is one behind a link.
    """
    whole = hashlib.sha256(os.fsencode(root.resolve()))
    for path in sorted(files_in(root)):
        stat = path.stat()
        times = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
        whole.update(os.fsencode(path.relative_to(root)) + f"\0{times}\n".encode())
    key = whole.hexdigest()[:24]
    cache = Path("data") / "fingerprints" / key
    if known := remembered(cache):
        return known
    with ExitStack() as turn:
        with suppress(OSError):  # where nothing can be written, nobody waits for anybody
            cache.parent.mkdir(parents=True, exist_ok=True)
            turn.enter_context(waiting_for(cache.with_name(f".{cache.name}.lock"), lambda _: None))
        if known := remembered(cache):  # by the process that this one waited for
            return known
        digest = fingerprint(root, dataset)
        try:
            write_atomic(cache, f"{digest} {proof(key, digest)}\n".encode())
        except OSError as error:
            said, _ = format_error(error)
            warnings.warn(f"the data fingerprint could not be remembered ({said})", stacklevel=2)
    return digest


def proof(key: str, digest: str) -> str:
    """Return what tells a remembered fingerprint from a damaged one, or from that of other data."""
    return hashlib.sha256(f"{key} {digest}".encode()).hexdigest()[:16]


def remembered(cache: Path) -> str:
    """Return the fingerprint that a file remembers; empty if there is none, or it is damaged."""
    try:
        digest, _, known = cache.read_text(encoding="utf-8").strip().partition(" ")
    except (OSError, UnicodeDecodeError):
        return ""
    return digest if known == proof(cache.name, digest) else ""


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
