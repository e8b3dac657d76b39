"""From what a person asked for to the runs that it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.registry import load_method, load_protocols, protocols_of
from harness.runs.configuration import resolve, split_variant
from harness.runs.data import DataRoot, Say, examine, find_root
from harness.runs.precision import settle_precision
from harness.runs.run_spec import TRAINING_VERSION, RunSpec
from harness.runs.sources import source_digest
from harness.runs.task import Execution, Task
from harness.runs.weights import weights_identity
from protocols.base import Protocol

NUMBER = re.compile("[0-9]{1,9}")
"""Of a trial or a seed: digits in ASCII, for ``str.isdigit`` takes others that ``int`` does not."""
SEEDS = 1000
"""More of them in a range are a slip of the keyboard."""


@dataclass(frozen=True)
class Request:
    """What to run, as typed on the command line; how to execute it is an :class:`Execution`."""

    method: str
    protocol: str
    data: str | None = None
    trials: str | None = None
    seeds: tuple[int, ...] = (0,)
    preset: str = "paper"
    sets: tuple[str, ...] = ()
    precision: str | None = None
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
        if not NUMBER.fullmatch(first) or (dash and not NUMBER.fullmatch(last)):
            raise HarnessError(f"--trials {text[:40]!a}: expected numbers and ranges such as 1-10 or 1,4-6")
        end = int(last or first)
        if end > max(splits) or len(chosen) > 10 * len(splits):
            raise HarnessError(f"--trials {text[:40]}: trials are {splits[0]} to {splits[-1]}")
        chosen += range(int(first), end + 1)
    wrong = [t for t in chosen if t not in splits]
    if wrong or not chosen:
        raise HarnessError(
            f"--trials {text}: {wrong or 'nothing'} chosen; trials are {splits[0]} to {splits[-1]}"
        )
    return tuple(dict.fromkeys(chosen))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read ``0-2``, ``7`` or ``0,4-6`` as seeds.

    Raises
    ------
    HarnessError
        If the text is not of that form, or means more than a thousand.
    """
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not NUMBER.fullmatch(first) or (dash and not NUMBER.fullmatch(last)):
            raise HarnessError(f"--seeds {text[:40]!a}: expected numbers and ranges such as 0-2 or 0,4-6")
        if not 0 <= int(last or first) - int(first) < SEEDS:
            raise HarnessError(f"--seeds {text[:40]}: a range goes upwards, over at most {SEEDS} seeds")
        chosen += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(chosen))


def plan(request: Request, execution: Execution, say: Say) -> list[Task]:
    """Return the runs that a request needs, one per seed and training split."""
    chosen = load_protocols(request.protocol)
    configured = configure(request, chosen[0].dataset.name, execution.device)
    splits = parse_trials(request.trials, chosen[0].dataset.splits)
    data = survey(request, chosen, splits, say)  # last, so that wrong options make no data
    return tasks_of(request, execution, configured, splits, data)


def configure(request: Request, dataset: str, device: str) -> dict[str, Any]:
    """Return what a request says of a method, as entries of a :class:`RunSpec`.

    Parameters
    ----------
    device : str
        Decides what the precision ``auto`` stands for.
    """
    name, variant = split_variant(request.method)
    cls = load_method(name)
    sets = [*request.sets, *([f"precision={request.precision}"] if request.precision else [])]
    config, engine = resolve(cls, dataset, request.preset, variant, sets)
    engine = settle_precision(engine, device)
    return {
        "method": name,
        "label": request.method,
        "preset": request.preset,
        "config": config.model_dump(mode="json"),
        "engine": engine.model_dump(mode="json"),
        "dataset": dataset,
        "weights": weights_identity(engine, cls.stages(config)),
        "sources": source_digest(cls.__module__),
        "training_version": TRAINING_VERSION,
    }


def survey(request: Request, chosen: Sequence[Protocol], splits: Sequence[int], say: Say) -> DataRoot:
    """Find the data, and read what every run on them will need, before the first one trains.

    Raises
    ------
    HarnessError, DataError
        If there are none, a protocol cannot be scored on them, or counts or lists are wrong.
    """
    root = find_root(request.data, chosen[0], request.twin_seed, say)
    refuse_unscorable(chosen, root)
    data = examine(root, chosen[0].dataset, allow_partial=request.allow_partial)
    read_lists(chosen, root, splits, allow_partial=data.kind != "real")
    return data


def tasks_of(
    request: Request,
    execution: Execution,
    configured: Mapping[str, Any],
    splits: Sequence[int],
    data: DataRoot,
) -> list[Task]:
    """Return a configured method's runs, one per seed and training split."""
    specs = [
        RunSpec(**configured, split=split, seed=seed, data_digest=data.digest, data=data.kind)
        for seed in dict.fromkeys(request.seeds)
        for split in splits
    ]
    return [task_of(spec, data.path, execution) for spec in specs]


def task_of(spec: RunSpec, root: Path, execution: Execution) -> Task:
    """Return the task that executes a specification."""
    return Task(spec, root, scorable(spec.dataset, root), execution)


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
