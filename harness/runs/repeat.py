"""From a manifest to the run that it describes, whose code, data and weights must be what they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.registry import load_dataset, load_method, methods, protocols_of
from harness.runs.configuration import (
    ENGINE_PRESETS,
    EngineConfig,
    preset_values,
    refuse_replaced,
    split_variant,
    validated,
)
from harness.runs.data import Say, examine, find_root
from harness.runs.manifest import spec_from_manifest
from harness.runs.plan import task_of
from harness.runs.precision import settle_precision
from harness.runs.run_spec import TRAINING_VERSION, RunSpec
from harness.runs.sources import source_digest
from harness.runs.task import Execution, Task
from harness.runs.weights import weights_identity, weights_name
from methods.base import Method, Stage
from protocols.base import Protocol
from results.manifests import read_manifest


def plan_from_manifest(
    path: Path, execution: Execution, say: Say, *, data: str | None = None, twin_seed: int = 0
) -> Task:
    """Return the run that a manifest describes.

    Parameters
    ----------
    data : str, optional
        Where the data are now, as ``--data`` takes it; by default where they were.
    twin_seed : int
        Seed of the twin, if `data` is ``synthetic``.

    Raises
    ------
    HarnessError
        If the data root is missing or differs, the weights or the method's source have changed, or its precision
        comes out wrong here.
    """
    manifest = read_manifest(path)
    if "command" in manifest:
        raise HarnessError(f"{path}: nothing was trained here; this scores it again: {manifest['command']}")
    refuse_former_method(path, manifest)
    spec, root = spec_from_manifest(path, manifest)
    refuse_missing_plugin(path, manifest, spec.method)
    cls = load_method(spec.method)
    config = validated(cls.Config, spec.config)
    refuse_other_names(path, cls, spec)
    engine = settle_precision(validated(EngineConfig, spec.engine), execution.device)
    if data:
        root = find_root(data, protocols_of(spec.dataset)[0], twin_seed, say)
    refuse_other_data(path, root, spec)
    refuse_other_weights(engine, cls.stages(config), spec)
    refuse_other_sources(path, cls.__module__, spec)
    task = task_of(spec, root, execution)
    refuse_other_versions(path, manifest, task.protocols)
    if manifest["run"] != spec.id:
        raise HarnessError(
            f"{path}: its specification is that of run {spec.id}, not of {manifest['run']}; use an unchanged manifest"
        )
    return task


def refuse_former_method(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse settings that a method had once: said first, since manifests that hold them are old in other ways too."""
    spec = manifest.get("spec")
    name, config = (spec.get("method"), spec.get("config")) if isinstance(spec, dict) else ("", {})
    if isinstance(name, str) and name in methods() and isinstance(config, dict):
        refuse_replaced(load_method(name), config, f"{path}: {name} has changed since")


def refuse_missing_plugin(path: Path, manifest: Mapping[str, Any], method: str) -> None:
    """Refuse a method of a package that is not installed here."""
    plugin = manifest.get("plugin")
    if isinstance(plugin, dict) and method not in methods():
        named = f"{plugin.get('package')} {plugin.get('version')}".strip()
        raise HarnessError(
            f"{path}: the method {method!r} comes from the package {named!a}, which is not installed here; install it"
        )


def refuse_other_names(path: Path, cls: type[Method], spec: RunSpec) -> None:
    """Refuse a label or a preset that is not the method's: neither is part of the run id, but tables show both."""
    method, variant = split_variant(spec.label)
    if method != spec.method:
        raise HarnessError(
            f"{path}: the label {spec.label!a} is not that of {spec.method}; use an unchanged manifest"
        )
    if variant:
        preset_values(cls, variant, spec.dataset, "variant")
    if spec.preset not in ENGINE_PRESETS:
        raise HarnessError(
            f"{path}: there is no preset {spec.preset!a}, only {', '.join(ENGINE_PRESETS)}; use an unchanged manifest"
        )


def refuse_other_data(path: Path, root: Path, spec: RunSpec) -> None:
    """Refuse a root that is missing, lacks the split, or holds other data than those of the run."""
    if not root.is_dir():
        raise HarnessError(
            f"{path}: its data root {root} does not exist; say where the data are with --data PATH"
        )
    dataset = load_dataset(spec.dataset)
    splits = dataset.splits
    if spec.split not in splits:
        raise HarnessError(
            f"{path}: spec.split is {spec.split}; {spec.dataset} has {splits[0]} to {splits[-1]}"
        )
    found = examine(root, dataset, allow_partial=spec.data == "real-partial")
    digest = found.digest
    if found.kind != spec.data:
        raise HarnessError(f"{path}: its data are called {spec.data}, those at {root} are {found.kind}")
    if digest != spec.data_digest:
        raise HarnessError(
            f"{root} has fingerprint {digest[:12]}, the manifest {spec.data_digest[:12]}: these are other data"
        )


def refuse_other_weights(engine: EngineConfig, stages: Sequence[Stage], spec: RunSpec) -> None:
    """Refuse to start from other weights than the run did, or a stage of it."""
    weights = weights_identity(engine, stages)
    if weights != spec.weights:
        raise HarnessError(
            f"weights={weights_name(engine, stages)} are {weights}, the manifest's {spec.weights}: these are other "
            "weights"
        )


def refuse_other_sources(path: Path, module: str, spec: RunSpec) -> None:
    """Refuse a method or a way of training whose code is not that of the run."""
    if spec.training_version != TRAINING_VERSION:
        raise HarnessError(
            f"{path}: was trained by version {spec.training_version} of the harness's training, this is version "
            f"{TRAINING_VERSION}; check out the commit named in the manifest's environment"
        )
    now = source_digest(module)
    if now != spec.sources:
        raise HarnessError(
            f"{path}: the source of {spec.method} has changed since (now {now[:12]}, then {spec.sources[:12]}); "
            "check out the commit named in the manifest's environment"
        )


def refuse_other_versions(path: Path, manifest: Mapping[str, Any], protocols: Sequence[Protocol]) -> None:
    """Refuse a manifest whose protocols have other versions now: its numbers could not come again."""
    recorded = manifest.get("protocols", {})
    for protocol in protocols:
        if protocol.id in recorded and recorded[protocol.id] != protocol.version:
            raise HarnessError(
                f"{path}: was scored under version {recorded[protocol.id]} of {protocol.id}, this reidbench has "
                f"{protocol.version}; check out the commit named in the manifest's environment"
            )
