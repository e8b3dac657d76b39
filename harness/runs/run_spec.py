"""A run is a value: what is trained, on what, from which seed; and the directory that holds its files."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError, RunHeldError
from harness.runs.files import write_atomic

UNCOUNTED = {"harness", "protocols", "results"}
"""Packages of ours that are no part of a method's source."""
MANIFEST_VERSION = 1


class RunSpec(BaseModel):
    """What decides a run's numbers, apart from hardware, library versions and the harness's own code.

    Attributes
    ----------
    label : str
        How tables call it: the method, with its variant (``dmic:+mie``).
    config, engine : dict
        Validated configurations of the method and of the engine.
    split : int
        Training split of the data set (RegDB: the trial).
    data_digest : str
        Fingerprint of the data root.
    data : str
        ``real``, ``real-partial`` or ``synthetic``.
    weights : str
        Identity of the weights it starts from (a digest, or the recipe of a source training).
    sources : str
        Digest of the method's source text and of every module of ours that it imports.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    label: str
    preset: str
    config: dict[str, Any]
    engine: dict[str, Any]
    dataset: str
    split: int
    seed: int
    data_digest: str
    data: Literal["real", "real-partial", "synthetic"]
    weights: str
    sources: str

    @property
    def id(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON of what decides the numbers."""
        identity = self.model_dump(exclude={"label", "preset"})
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no blanks: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def imported_modules(source: str, package: str) -> set[str]:
    """Name what a source text of `package` imports: modules, and attributes as if they were modules."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            dotted = "." * node.level + (node.module or "")
            start = importlib.util.resolve_name(dotted, package) if node.level else dotted
            names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def module_source(name: str) -> tuple[str, str] | None:
    """Return the source text of a module and its package, or None if there is no such module (an attribute, say)."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if found is None or not found.origin or not found.origin.endswith(".py"):
        return None
    return Path(found.origin).read_text(encoding="utf-8"), found.parent or ""


def source_digest(module: str) -> str:
    """Digest the source of `module` and, transitively, of what it imports from `methods` or from its own plug-in."""
    counted = {"methods", module.split(".")[0]} - UNCOUNTED
    texts: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        if name in texts or (found := module_source(name)) is None:
            continue
        texts[name] = found[0]
        queue.extend(m for m in imported_modules(*found) if m.split(".")[0] in counted)
    return hashlib.sha256(canonical_json(texts).encode()).hexdigest()


class RunDirectory:
    """The files of one run, below ``<out>/<data set>/<method>/<run id>``."""

    def __init__(self, out: Path, spec: RunSpec) -> None:
        self.spec = spec
        self.path = out / spec.dataset / spec.method / spec.id
        self.manifest = self.path / "manifest.json"
        self.metrics = self.path / "metrics.csv"
        self.history = self.path / "history.csv"
        self.profile = self.path / "profile.csv"
        self.ranks = self.path / "ranks.npz"
        self.last = self.path / "checkpoints" / "last.ckpt"
        self.log = self.path / "log.txt"
        self._complete = self.path / "COMPLETE"

    def best(self, stage: str) -> Path:
        """Return the checkpoint of the best test epoch of a stage, kept if the next stage starts from it."""
        return self.last.with_name(f"best-{stage}.ckpt")

    @property
    def complete(self) -> bool:
        """Whether the run has finished and everything is on disk."""
        return self._complete.exists()

    def prepare(self) -> None:
        """Make the directories."""
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HarnessError(
                f"cannot create the run directory {self.path}: {error.strerror}; choose a writable folder with --out"
            ) from error

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Write the manifest whole."""
        write_atomic(self.manifest, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())

    def finish(self) -> None:
        """Write the marker that makes this a result; call it after everything else is on disk."""
        write_atomic(self._complete, b"")

    def reopen(self) -> None:
        """Take the marker away: what follows from the last checkpoint is made again."""
        self._complete.unlink(missing_ok=True)

    def reset(self) -> None:
        """Forget what an earlier run left (``--force``); the marker goes first."""
        self.reopen()
        checkpoints = self.last.parent.glob("*.ckpt")
        for path in (self.metrics, self.history, self.profile, self.ranks, self.log, *checkpoints):
            path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises
        ------
        RunHeldError
            If another process holds it; says which.
        """
        self.prepare()
        holder = self.path / "holder.json"
        lock = FileLock(self.path / "run.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunHeldError(
                f"run {self.spec.id} is held by {describe_holder(holder)}; its files: {self.path}"
            ) from None
        try:
            me = {"pid": os.getpid(), "host": socket.gethostname()}
            write_atomic(holder, canonical_json(me).encode())
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def describe_holder(path: Path) -> str:
    """Say who holds a run, from the file its process wrote."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def spec_from_manifest(path: Path, manifest: Mapping[str, Any]) -> tuple[RunSpec, Path]:
    """Take the specification and the data root out of the manifest that was read from `path`.

    Raises
    ------
    HarnessError
        If it has another version, or its entries are damaged.
    """
    version = manifest.get("manifest_version")
    if version != MANIFEST_VERSION:
        raise HarnessError(
            f"{path} has manifest version {version!r}; this reidbench reads version {MANIFEST_VERSION}. "
            "Run it with the code that wrote it: its `environment` names commit and version."
        )
    root = manifest.get("data_root")
    if not isinstance(root, str):
        raise HarnessError(f"{path}: the entry `data_root` is missing or damaged; use an unchanged manifest")
    try:
        return RunSpec.model_validate(manifest["spec"]), Path(root)
    except ValidationError as error:
        problems = "; ".join(f"spec.{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise HarnessError(f"{path}: {problems}; use an unchanged manifest") from error
