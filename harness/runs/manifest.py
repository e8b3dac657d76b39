"""A run's manifest: what was run, on what, where, and how it ended."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.errors import HarnessError
from harness.registry import OURS, load_method, methods
from harness.runs.configuration import resolve, split_variant
from harness.runs.directory import RunDirectory
from harness.runs.environment import manifest_environment
from harness.runs.run_spec import RunSpec
from harness.runs.task import Task
from results.selection import settings_of

MANIFEST_VERSION = 2
DECIDES = ("python", "packages", "cpu", "device", "gpus", "cuda", "cudnn", "threads", "commit", "dirty")
"""Entries of an environment on which numbers may depend."""


@dataclass(frozen=True)
class Manifest:
    """What a task's manifest says besides the status.

    Attributes
    ----------
    weights : str
        Digest of the weights that training starts from; empty until they are loaded.
    device : str
        Where it runs; empty until the device is chosen.
    epochs : int or None
        How many there are to train; None until the method is made.
    earlier : tuple of dict
        ``environment`` and ``device`` of the processes that began the run, if it was stopped in between.
    further : mapping
        Entries of runs that were not trained here.
    """

    task: Task
    weights: str = ""
    device: str = ""
    epochs: int | None = None
    earlier: tuple[dict[str, Any], ...] = ()
    further: Mapping[str, Any] = field(default_factory=dict)

    def write(self, status: Literal["running", "stopped", "complete"], reason: str = "") -> None:
        """Write ``manifest.json`` whole."""
        task, spec = self.task, self.task.spec
        here = {"environment": manifest_environment(), "device": self.device or task.execution.device}
        task.directory.write_manifest(
            {
                **specification(task),
                "weights": {"name": spec.engine["weights"], "digest": self.weights},
                **here,
                **({"earlier": list(self.earlier)} if self.earlier else {}),
                **plugin_of(spec.method),
                **changed_settings(spec),
                **({"reconstruction": True} if is_reconstruction(spec.method) else {}),
                **({} if self.epochs is None else {"epochs": self.epochs}),
                **self.further,
                "status": status,
                "reason": reason,
                "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )

    def moved(self) -> str:
        """Say in what this machine differs from the one that began the run; empty if in nothing that is known."""
        if not self.earlier:
            return ""
        now = {**manifest_environment(), "device": self.device}
        then = {**self.earlier[-1]["environment"], "device": self.earlier[-1]["device"]}
        return ", ".join(differences(then, now))

    def settled(self) -> Manifest:
        """Return the manifest without the environment before this one if the two are alike."""
        return self if self.moved() else replace(self, earlier=self.earlier[:-1])


def specification(task: Task) -> dict[str, Any]:
    """Return what a manifest says of a run before anything has happened; enough for ``reidbench run --from``."""
    return {
        "manifest_version": MANIFEST_VERSION,
        "run": task.spec.id,
        "spec": task.spec.model_dump(),
        "data_root": str(task.root.resolve()),
        "protocols": {protocol.id: protocol.version for protocol in task.protocols},
    }


def changed_settings(spec: RunSpec) -> dict[str, dict[str, Any]]:
    """Return the settings of a run that are not those of its preset and variant; nothing where that is not known."""
    name, variant = split_variant(spec.label)
    try:
        method, engine = resolve(load_method(name), spec.dataset, spec.preset, variant, ())
    except HarnessError:
        return {}
    as_preset = {"config": method.model_dump(mode="json"), "engine": engine.model_dump(mode="json")}
    own, other = settings_of(spec.model_dump()), settings_of(as_preset)
    changed = {
        key: value
        for key, value in own.items()
        # a preset's `auto` is settled by the machine; weights stand in the manifest and the tables by themselves
        if value != other.get(key) and other.get(key) != "auto" and key not in ("weights", "engine.weights")
    }
    return {"changed": changed} if changed else {}


def is_reconstruction(method: str) -> bool:
    """Say whether a method was written without public code and without the whole text."""
    entry = methods().get(method)
    return entry is not None and not entry.error and load_method(method).reference.reconstruction


def plugin_of(method: str) -> dict[str, dict[str, str]]:
    """Return the package and version that a method comes from; nothing for one of ours."""
    entry = methods().get(method)
    if entry is None or entry.origin == OURS:
        return {}
    return {"plugin": {"package": entry.origin, "version": entry.version}}


def earlier_environments(directory: RunDirectory) -> tuple[dict[str, Any], ...]:
    """Return environment and device of each process that trained epochs of an unfinished run, in their order."""
    if not directory.last.exists():
        return ()
    try:
        content = json.loads(directory.manifest.read_text(encoding="utf-8"))
        before = [
            *content.get("earlier", []),
            {"environment": content["environment"], "device": content["device"]},
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        warnings.warn(
            f"{directory.manifest} is damaged: where the run's first epochs were trained is not known any more",
            stacklevel=2,
        )
        return ()
    return tuple(one for one in before if isinstance(one, dict) and isinstance(one.get("environment"), dict))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what decides numbers and differs between two environments, as ``torch 2.6 then, 2.7 now``."""
    found = []
    for name in DECIDES:
        old, new = then.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            pairs = {key: (old.get(key), new.get(key)) for key in sorted({*old, *new})}
        else:
            pairs = {name: (old, new)}
        found += [f"{key} {a} then, {b} now" for key, (a, b) in pairs.items() if a != b]
    return found


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
