"""What every method owes the harness, tried on tiny twins in a scratch folder (``reidbench check-method``).

It needs no pytest: an author of a plug-in runs it on the installed package. Each trial is a real run of seconds.
"""

from __future__ import annotations

import importlib
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError
from rich.console import Console

from harness.errors import HarnessError, user_errors
from harness.registry import OURS, datasets, load_dataset, load_method, protocols
from harness.runs.configuration import ENGINE_PRESETS, resolve, variants_of
from harness.runs.directory import RunDirectory
from harness.runs.plan import Request, plan
from harness.runs.task import Execution, Task
from harness.tools.doctor import Check
from harness.training.execute import execute
from harness.training.progress import Reporter
from methods.base import Method, Source
from protocols.synthetic.twin import synthesise

SMALL: dict[str, float] = {
    **{"iterations": 2, "labels": 4, "instances": 2, "batch": 8, "samples": 2},
    **{"k1": 6, "k2": 2, "k3": 2, "cap": 2, "eps": 0.5},
}
"""Sizes that fit a twin of a dozen people, by the first of these words that is part of a field's name."""
KEPT = {"gap", "span", "growth"}
"""Words of fields that keep their defaults, because they are no sizes."""
PEOPLE, IMAGES = 28, 3
"""Of the twins: an even number, since some data sets are halved, and enough for the largest gallery rule."""
ENGINE = (
    *("architecture=resnet18", "height=32", "width=16", "weights=none", "precision=32"),
    *("evaluate_every=9", "flip=false"),
)
FILES = ("history", "metrics", "ranks", "last")
"""Files of a run whose bytes two equal runs share."""


def small_values(method: type[Method], epochs: int = 1) -> dict[str, float]:
    """Shrink a configuration: every field `epochs...` gets `epochs` (two if it is the only one)."""
    numeric = set(numeric_fields(method.Config()))
    lengths = sorted(key for key in numeric if key.rpartition(".")[2].startswith("epochs"))
    values: dict[str, float] = {key: max(epochs, 2 if len(lengths) == 1 else 1) for key in lengths}
    for key in numeric - set(lengths):
        words = key.replace(".", "_").split("_")
        word = next((word for word in SMALL if word in words), None)
        if word and not KEPT.intersection(words):
            values[key] = SMALL[word]
    return values


def numeric_fields(config: BaseModel, group: str = "") -> Iterator[str]:
    """Name the fields that are numbers; those of a group of settings with its name and a dot before them."""
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, BaseModel):
            yield from numeric_fields(value, f"{group}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{group}{key}"


class Stop(BaseException):
    """Ends a run in its middle, as a killed process would."""


class StopsAfterOneEpoch(Reporter):
    """A reporter that ends the run when its first epoch is stored."""

    def end_epoch(self, *place: Any, **more: Any) -> None:
        """End the run."""
        raise Stop


@dataclass
class Bench:
    """A method on its bench: the scratch folder, and the runs that were made there."""

    name: str
    method: type[Method]
    folder: Path
    done: dict[str, RunDirectory] = field(default_factory=dict)

    def task(self, dataset: str, out: str) -> Task:
        """Plan a tiny run on the twin of a data set."""
        chosen = load_dataset(dataset)
        root = self.folder / "twins" / dataset
        if not root.exists():
            synthesise(
                root, chosen, identities=PEOPLE, images=IMAGES, seed=3, difficulty="easy", size=(16, 32)
            )
        small = (f"{key}={value}" for key, value in small_values(self.method).items())
        request = Request(
            method=self.name,
            protocol=chosen.headline.protocol,
            data=str(root),
            trials="1" if len(chosen.splits) > 1 else None,
            sets=(*ENGINE, *small),
        )
        execution = Execution("cpu", out=self.folder / out, images=self.folder / "images")
        (found,) = plan(request, execution, lambda _line: None)
        return found

    def run(self, dataset: str) -> RunDirectory:
        """Return the finished run on a data set; each is made once."""
        if dataset not in self.done:
            self.done[dataset] = execute(self.task(dataset, "first"), quiet())
        return self.done[dataset]


def quiet() -> Reporter:
    """Return a reporter that shows nothing."""
    return Reporter(Console(file=StringIO()))


def own_datasets() -> list[str]:
    """Name the data sets that every method is tried on."""
    return [name for name, entry in datasets().items() if entry.origin == OURS]


def says_what_it_is(bench: Bench) -> str:
    """Find what its texts lack."""
    method = bench.method
    module = importlib.import_module(method.__module__)
    lacking = [
        what
        for what, text in (
            ("a docstring of its module", module.__doc__),
            ("a docstring of its class", method.__doc__ if method.__doc__ != Method.__doc__ else ""),
            ("a docstring of its Config", method.Config.__doc__),
            ("a summary of one line", method.summary if "\n" not in method.summary else ""),
            ("reference = Reference(...)", getattr(method, "reference", None) and method.reference.title),
        )
        if not (text and str(text).strip())
    ]
    odd = {
        source for source, _ in (getattr(method, "reference", None) and method.reference.parts.values()) or ()
    } - set(get_args(Source))
    if odd:
        lacking.append(f"sources of parts among {', '.join(get_args(Source))} (not {', '.join(sorted(odd))})")
    return f"it lacks {'; '.join(lacking)}" if lacking else ""


def declares_its_settings(bench: Bench) -> str:
    """Find a setting without source or description, or a configuration that can be changed."""
    config = bench.method.Config
    made = config()
    for key, about in config.model_fields.items():
        extra = about.json_schema_extra
        source = str(extra.get("source", "")) if isinstance(extra, dict) else ""
        default = getattr(made, key)
        if not about.description or source.partition(" (")[0] not in get_args(Source):
            known = ", ".join(get_args(Source))
            return f"setting {key}: declare it by value(default, source, about), source one of {known}"
        if isinstance(default, float) and not math.isfinite(default):
            return f"setting {key}: its default {default} is not finite"
    try:
        config(**{"no_such_key": 1})
    except ValidationError:
        return ""
    return "its Config takes unknown keys: inherit from methods.base.MethodConfig"


def presets_resolve(bench: Bench) -> str:
    """Find a preset or variant that does not hold on a data set."""
    for dataset in own_datasets():
        for preset in (name for name in bench.method.presets if name in ENGINE_PRESETS):
            resolve(bench.method, dataset, preset, None, ())
        for variant in variants_of(bench.method):
            resolve(bench.method, dataset, "paper", variant, ())
    return ""


def trains_on(dataset: str) -> Callable[[Bench], str]:
    """Return the trial of a training on a data set."""

    def trial(bench: Bench) -> str:
        done = bench.run(dataset)
        history = pd.read_csv(done.history)
        if bench.method.supervision == "none":
            return "" if history.empty else "it declares supervision 'none' and trains"
        losses = history.filter(like="loss_")
        if history["skipped"].any():
            return "an epoch found nothing to train on: its sizes do not fit a small data set (label spaces, k1, eps)"
        if not losses.notna().any(axis=1).all() or not np.isfinite(losses.to_numpy()[losses.notna()]).all():
            return "an epoch has no finite loss: return named terms from `loss`"
        return ""

    return trial


def same_seed_same_bytes(bench: Bench) -> str:
    """Find a file in which two runs of one seed differ."""
    first = own_datasets()[0]
    again = execute(bench.task(first, "again"), quiet())
    return differing(
        bench.run(first), again, "draw from data.generator(...) alone, never from a global generator"
    )


def resumes(bench: Bench) -> str:
    """Find a file in which a run that was stopped and resumed differs."""
    first = own_datasets()[0]
    whole = bench.run(first)
    if len(pd.read_csv(whole.history)) < 2:
        return ""
    task = bench.task(first, "stopped")
    with suppress(Stop):
        execute(task, StopsAfterOneEpoch(Console(file=StringIO())))
    return differing(whole, execute(task, quiet()), "keep what outlives an epoch in `state` and `load_state`")


def never_sees_identities(bench: Bench) -> str:
    """Find an unsupervised method whose training moves with the identities."""
    first = own_datasets()[0]
    whole = bench.run(first)
    if bench.method.supervision == "supervised":
        return ""
    with permuted_identities(first):
        mixed = execute(bench.task(first, "mixed"), quiet())
    if whole.last.read_bytes() == mixed.last.read_bytes() or weights_of(whole) == weights_of(mixed):
        return ""
    return "its weights change with the training identities: declare supervision = 'supervised', or do not look at them"


def weights_of(run: RunDirectory) -> dict[str, bytes]:
    """Return the weights of a run's networks as bytes."""
    from harness.training.checkpoint import load_checkpoint

    modules = load_checkpoint(run.last)["modules"]
    return {
        f"{n}.{key}": value.numpy().tobytes() for n, state in modules.items() for key, value in state.items()
    }


@contextmanager
def permuted_identities(dataset: str) -> Iterator[None]:
    """Let a data set tell wrong identities of its training images within this context."""
    kind = type(load_dataset(dataset))
    true = kind.training

    def training(self: Any, *place: Any, **options: Any) -> Any:
        found = true(self, *place, **options)
        return replace(found, identity=np.random.default_rng(0).permutation(found.identity))

    with mock.patch.object(kind, "training", training):
        yield


def differing(one: RunDirectory, other: RunDirectory, fix: str) -> str:
    """Name the first file in which two runs differ, and what may help."""
    for name in FILES:
        a, b = getattr(one, name), getattr(other, name)
        if a.read_bytes() != b.read_bytes():
            return f"{a.name} differs: {fix}"
    return ""


def checks() -> dict[str, Callable[[Bench], str]]:
    """Return every trial by what it is for, in their order."""
    return {
        "says what it is": says_what_it_is,
        "declares its settings": declares_its_settings,
        "presets and variants hold": presets_resolve,
        **{f"trains on {name}": trains_on(name) for name in own_datasets()},
        "same seed, same bytes": same_seed_same_bytes,
        "resumes to the same bytes": resumes,
        "never sees identities": never_sees_identities,
    }


def check_method(name: str, folder: Path) -> Iterator[Check]:
    """Try a registered method in a scratch folder, and yield a finding for everything it owes.

    Raises
    ------
    HarnessError
        If there is no such method, or its package is broken.
    """
    if name in protocols():
        raise HarnessError(f"{name} is a protocol; check-method tries methods")
    bench = Bench(name, load_method(name), folder)
    for what, trial in checks().items():
        try:
            with redirect_stderr(StringIO()):
                fault = trial(bench)
        except user_errors() as error:
            fault = str(error)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
        yield Check(what, not fault, fault or "yes")
