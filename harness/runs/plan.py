"""From what a person asked for to runs: plans them, executes them in this process, and shows their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.errors import HarnessError
from harness.registry import load_dataset, load_method, load_protocols, protocols_of
from harness.runs.configuration import EngineConfig, resolve, split_variant, validated
from harness.runs.data import DataRoot, examine, find_root
from harness.runs.run_spec import RunSpec, source_digest, spec_from_manifest
from harness.tools.tables import table_of, timing_table
from harness.training.loop import Task, execute
from harness.training.precision import settle_precision
from harness.training.progress import Reporter
from harness.training.weights import weights_identity
from protocols.base import Protocol
from results.formats import rich_table
from results.store import find_runs, read_manifest


@dataclass(frozen=True)
class Request:
    """The options of ``reidbench run``, as typed."""

    method: str
    protocol: str
    data: str | None = None
    trials: str | None = None
    seeds: tuple[int, ...] = (0,)
    preset: str = "paper"
    sets: tuple[str, ...] = ()
    device: str = "auto"
    precision: str | None = None
    workers: int = 0
    out: Path = Path("runs")
    force: bool = False
    allow_partial: bool = False
    twin_seed: int = 0


def parse_trials(text: str | None, splits: Sequence[int]) -> tuple[int, ...]:
    """Read ``1-10``, ``3`` or ``1,4-6`` as training splits; all of them by default.

    Raises
    ------
    HarnessError
        If the text is not of that form, or names a split that does not exist.
    """
    if text is None:
        return tuple(splits)
    if len(splits) == 1:
        raise HarnessError(f"--trials {text}: this data set has one training split, so leave --trials out")
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise HarnessError(f"--trials {text}: expected numbers and ranges such as 1-10 or 1,4-6")
        chosen += range(int(first), int(last or first) + 1)
    wrong = [t for t in chosen if t not in splits]
    if wrong or not chosen:
        raise HarnessError(
            f"--trials {text}: {wrong or 'nothing'} chosen; trials are {splits[0]} to {splits[-1]}"
        )
    return tuple(dict.fromkeys(chosen))


def plan(request: Request, reporter: Reporter) -> list[Task]:
    """Return the runs that a request needs, one per seed and training split."""
    chosen = load_protocols(request.protocol)
    configured = configure(request, chosen[0].dataset.name)
    splits = parse_trials(request.trials, chosen[0].dataset.splits)
    data = survey(request, chosen, splits, reporter)  # last, so that wrong options make no data
    return tasks_of(request, configured, splits, data)


def configure(request: Request, dataset: str) -> dict[str, Any]:
    """Return what a request says of a method, as entries of a :class:`RunSpec`."""
    name, variant = split_variant(request.method)
    cls = load_method(name)
    sets = [*request.sets, *([f"precision={request.precision}"] if request.precision else [])]
    config, engine = resolve(cls, dataset, request.preset, variant, sets)
    engine = settle_precision(engine, request.device)
    return {
        "method": name,
        "label": request.method,
        "preset": request.preset,
        "config": config.model_dump(mode="json"),
        "engine": engine.model_dump(mode="json"),
        "dataset": dataset,
        "weights": weights_identity(engine),
        "sources": source_digest(cls.__module__),
    }


def survey(
    request: Request, chosen: Sequence[Protocol], splits: Sequence[int], reporter: Reporter
) -> DataRoot:
    """Find the data, and read what every run on them will need, before the first one trains.

    Raises
    ------
    HarnessError, DataError
        If there are none, a protocol cannot be scored on them, or counts or lists are wrong.
    """
    root = find_root(request.data, chosen[0], request.twin_seed, reporter)
    refuse_unscorable(chosen, root)
    data = examine(root, chosen[0].dataset, allow_partial=request.allow_partial)
    read_lists(chosen, root, splits, allow_partial=data.kind != "real")
    return data


def tasks_of(
    request: Request, configured: Mapping[str, Any], splits: Sequence[int], data: DataRoot
) -> list[Task]:
    """Return a configured method's runs, one per seed and training split."""
    specs = [
        RunSpec(**configured, split=split, seed=seed, data_digest=data.digest, data=data.kind)
        for seed in dict.fromkeys(request.seeds)
        for split in splits
    ]
    return [task_of(spec, data.path, request) for spec in specs]


def task_of(spec: RunSpec, root: Path, request: Request) -> Task:
    """Return the task that executes a specification as the request says."""
    scored = scorable(spec.dataset, root)
    return Task(spec, root, scored, request.out, request.device, request.workers, request.force)


def scorable(dataset: str, root: Path) -> tuple[Protocol, ...]:
    """Return every protocol that a run on this data set can be scored under."""
    return tuple(protocol for protocol in protocols_of(dataset) if protocol.lacks(root) is None)


def read_lists(
    protocols: Sequence[Protocol], root: Path, splits: Sequence[int], *, allow_partial: bool
) -> None:
    """Read the lists of all splits, so that a damaged one is found before the first of them is trained."""
    for split in splits:
        protocols[0].dataset.training(root, split, allow_partial=allow_partial)
        for protocol in protocols:
            protocol.trials(root, split, allow_partial=allow_partial)


def refuse_unscorable(chosen: Sequence[Protocol], root: Path) -> None:
    """Refuse a protocol that nothing trained on this data root could be scored under."""
    lacking = {protocol.id: file for protocol in chosen if (file := protocol.lacks(root))}
    if lacking:
        raise HarnessError(
            f"{root} has no {' or '.join(dict.fromkeys(lacking.values()))}, which {' and '.join(lacking)} need; "
            "ask for the data set's official file, or choose a protocol with seeded galleries"
        )


def plan_from_manifest(path: Path, request: Request, reporter: Reporter) -> list[Task]:
    """Return the run that a manifest describes; its code, data and weights must be what they were.

    Of the request count where data and output are and how to execute, which decide no numbers.

    Raises
    ------
    HarnessError
        If the data root is missing or differs, the weights or the method's source have changed, or its precision
        comes out wrong here.
    """
    manifest = read_manifest(path)
    spec, recorded = spec_from_manifest(path, manifest)
    cls = load_method(spec.method)
    validated(cls.Config, spec.config)
    engine = settle_precision(validated(EngineConfig, spec.engine), request.device)
    root = recorded
    if request.data:
        root = find_root(request.data, protocols_of(spec.dataset)[0], request.twin_seed, reporter)
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
    if found.digest != spec.data_digest:
        raise HarnessError(
            f"{root} has fingerprint {found.digest[:12]}, the manifest {spec.data_digest[:12]}: these are other data"
        )
    weights = weights_identity(engine)
    if weights != spec.weights:
        raise HarnessError(
            f"weights={engine.weights} are {weights}, the manifest's {spec.weights}: these are other weights"
        )
    now = source_digest(cls.__module__)
    if now != spec.sources:
        raise HarnessError(
            f"{path}: the source of {spec.method} has changed since (now {now[:12]}, then {spec.sources[:12]}); "
            "check out the commit named in the manifest's environment"
        )
    task = task_of(spec, root, request)
    refuse_other_versions(path, manifest, task.protocols)
    return [task]


def refuse_other_versions(path: Path, manifest: Mapping[str, Any], protocols: Sequence[Protocol]) -> None:
    """Refuse a manifest whose protocols have other versions now: its numbers could not come again."""
    recorded = manifest.get("protocols", {})
    for protocol in protocols:
        if protocol.id in recorded and recorded[protocol.id] != protocol.version:
            raise HarnessError(
                f"{path}: was scored under version {recorded[protocol.id]} of {protocol.id}, this reidbench has "
                f"{protocol.version}; check out the commit named in the manifest's environment"
            )


def run_all(tasks: Sequence[Task], reporter: Reporter) -> list[Path]:
    """Execute tasks one after the other; return the run directories."""
    paths = []
    for i, task in enumerate(tasks):
        spec = task.spec
        reporter.line(
            f"[{i + 1}/{len(tasks)}] {spec.label} on {spec.dataset}, split {spec.split}, seed {spec.seed}: "
            f"run {spec.id}"
        )
        paths.append(execute(task, reporter).path)
    return paths


def show_results(paths: Sequence[Path], protocol: str | None, console: Console) -> None:
    """Print the comparison table of finished runs, their stage timings, and where the files are."""
    runs = find_runs(paths).runs
    console.print(rich_table(table_of(runs, protocol)))
    console.print(timing_table(runs))
    for run in runs:
        console.print(f"files of run {run.id}: {run.path}", highlight=False, soft_wrap=True)


def describe(tasks: Sequence[Task]) -> list[str]:
    """Say what would run, for ``--dry-run``."""
    lines = []
    for task in tasks:
        spec, directory = task.spec, task.directory
        cls = load_method(spec.method)
        stages = cls.stages(cls.Config(**spec.config))
        iterations = sum(stage.epochs * stage.iterations for stage in stages)
        state = "finished" if directory.complete else "to resume" if directory.last.exists() else "to do"
        lines.append(
            f"{spec.id}  {spec.label}  {spec.dataset}  split {spec.split}  seed {spec.seed}  "
            f"{sum(s.epochs for s in stages)} epochs, {iterations} iterations  {state}  {directory.path}"
        )
    return lines
