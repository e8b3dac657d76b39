"""What every registered method owes the harness; a new method is picked up by being registered.

Runs are in this process and of seconds: 32 x 16 pixels, two iterations, as few epochs as a method allows.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from lightning_fabric.plugins.precision.precision import Precision
from pydantic import ValidationError
from rich.console import Console
from torch import Tensor

from harness import registry
from harness.errors import HarnessError
from harness.registry import load_method
from harness.runs import plan as launch
from harness.runs.configuration import ENGINE_PRESETS, resolve
from harness.runs.directory import RunDirectory
from harness.runs.fields import leaves
from harness.runs.task import Execution, Task
from harness.tools import pages as show
from harness.tools.contract import small_values
from harness.training import evaluation, loop, setup
from harness.training.checkpoint import load_checkpoint
from harness.training.execute import execute
from harness.training.loop import PATIENCE
from harness.training.progress import Reporter
from harness.training.recorder import Recorder
from harness.training.state import State
from methods.base import Method, Source, TrainingData
from methods.clustering.kernels import numba_kernels
from methods.errors import MethodError
from methods.gur import GUR
from protocols.regdb import RegDBData
from tests.conftest import TINY
from tests.methods.thin import thin_resnet18

METHODS = sorted(name for name, entry in registry.methods().items() if not entry.error)
TRAINED = [name for name in METHODS if load_method(name).supervision != "none"]
UNSUPERVISED = [name for name in METHODS if load_method(name).supervision == "usl"]
DATASETS = ("regdb", "sysu-mm01", "llcm")
QUICKER = {("gur", "llcm"): "gur:no-cameras"}
"""Variants to try where a method would take a minute: nine cameras by day and eight by night are 72 pairs."""


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in an empty folder, on one thread, with a network whose checkpoints are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("contract"))
        patch.setattr(torchvision.models, "resnet18", thin_resnet18)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


Planner = Callable[..., Task]


@pytest.fixture(scope="module")
def task(tiny_regdb: Path, tiny_sysu: Path, tiny_llcm: Path) -> Planner:
    """Plan a tiny run of a method, in a folder of its own."""
    roots = {
        "regdb": ("regdb", tiny_regdb, "1"),
        "sysu-mm01": ("sysu-all", tiny_sysu, None),
        "llcm": ("llcm", tiny_llcm, None),
    }

    def planned(
        name: str,
        dataset: str,
        out: str,
        epochs: int = 1,
        seed: int = 0,
        flip: bool = False,
        sets: tuple[str, ...] = (),
    ) -> Task:
        protocol, root, trials = roots[dataset]
        small = small_values(load_method(name.partition(":")[0]), epochs)
        request = launch.Request(
            method=name,
            protocol=protocol,
            data=str(root),
            trials=trials,
            seeds=(seed,),
            sets=(
                *TINY,
                f"flip={str(flip).lower()}",
                "evaluate_every=9",
                *(f"{key}={value}" for key, value in small.items()),
                *sets,
            ),
        )
        (found,) = launch.plan(request, Execution("cpu", out=Path(out)), reporter().line)
        return found

    return planned


@pytest.fixture(scope="module")
def undisturbed(task: Planner) -> Callable[[str, str], RunDirectory]:
    """Return the files of a method's run on a data set; each is made once."""

    @cache
    def made(name: str, dataset: str) -> RunDirectory:
        return go(task(name, dataset, "first"))

    return made


def reporter() -> Reporter:
    return Reporter(Console(quiet=True))


def go(task: Task) -> RunDirectory:
    """Execute a run, with global generators left in an arbitrary state: nobody may depend on them."""
    torch.seed()
    np.random.seed()  # noqa: NPY002
    return execute(task, reporter())


def history(directory: RunDirectory) -> pd.DataFrame:
    return pd.read_csv(directory.history)


def weights(directory: RunDirectory) -> dict[str, Tensor]:
    modules = load_checkpoint(directory.last)["modules"]
    return {f"{name}.{key}": value for name, state in modules.items() for key, value in state.items()}


def same_files(found: RunDirectory, expected: RunDirectory) -> None:
    for name in ("history", "metrics", "ranks", "last"):
        assert getattr(found, name).read_bytes() == getattr(expected, name).read_bytes(), name


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", METHODS)
def test_trains_on_every_data_set(name: str, dataset: str, undisturbed: Callable[..., RunDirectory]) -> None:
    done = undisturbed(QUICKER.get((name, dataset), name), dataset)
    assert done.complete
    values = pd.read_csv(done.metrics)["value"]
    assert len(values)
    assert values.between(0, 100).all()
    table = history(done)
    if load_method(name).supervision == "none":
        assert table.empty
        return
    assert table["epoch"].max() >= 1
    assert not table["skipped"].any()
    losses = table.filter(like="loss_")
    assert losses.notna().any(axis=1).groupby(table["epoch"]).any().all()
    assert np.isfinite(losses.to_numpy()[losses.notna().to_numpy()]).all()


@pytest.mark.parametrize("name", [name for name in METHODS if name not in TRAINED])
def test_same_seed_gives_the_same_bytes(
    name: str, task: Planner, undisturbed: Callable[..., RunDirectory]
) -> None:
    """Of a method without training; the others are stopped and resumed, to the same bytes."""
    same_files(go(task(name, "regdb", "again")), undisturbed(name, "regdb"))


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("name", TRAINED)
def test_resumes_to_the_same_bytes(
    name: str,
    task: Planner,
    undisturbed: Callable[..., RunDirectory],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, planned = loop.store_progress, task(name, "regdb", "resumed")

    def store_one_epoch_only(prepared: setup.Setup, state: State, recorder: Recorder) -> None:
        if state.done > 1:
            raise Killed
        store(prepared, state, recorder)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "store_progress", store_one_epoch_only)
        with pytest.raises(Killed):
            go(planned)
    assert not planned.directory.complete
    assert load_checkpoint(planned.directory.last)["done"] == 1
    same_files(go(planned), undisturbed(name, "regdb"))


@pytest.mark.parametrize("name", METHODS)
def test_only_the_supervised_learn_from_identities(
    name: str,
    task: Planner,
    undisturbed: Callable[..., RunDirectory],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true, make, given = RegDBData.training, setup.make_method, []
    expected = weights(undisturbed(name, "regdb"))

    def mixed_up(dataset: RegDBData, *place: Any, **options: Any) -> Any:
        found = true(dataset, *place, **options)
        return replace(found, identity=np.random.default_rng(0).permutation(found.identity))

    def make_and_keep(*started: Any) -> Method:
        given.append(make(*started))
        return given[-1]

    monkeypatch.setattr(RegDBData, "training", mixed_up)
    monkeypatch.setattr(setup, "make_method", make_and_keep)
    found = weights(go(task(name, "regdb", "mixed")))
    same = found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    if load_method(name).supervision == "supervised":
        assert not same
        return
    assert same
    assert type(given[0].data) is TrainingData
    with pytest.raises(MethodError, match="supervised"):
        given[0].data.identity  # noqa: B018


def test_the_next_stage_starts_from_the_best_test_epoch(
    task: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two epochs is the best; the second moves the weights, and is forgotten."""
    scores, begun = iter([2.0, 1.0, 1.0, 1.0]), []
    make = loop.make_optimisers

    def keep_start(prepared: setup.Setup, stage: Any) -> Any:
        backbone = prepared.method.backbone
        begun.append({k: v.clone() for k, v in backbone.state_dict().items() if "num_batches" not in k})
        return make(prepared, stage)

    monkeypatch.setattr(evaluation, "selection_score", lambda *_: next(scores))
    monkeypatch.setattr(loop, "make_optimisers", keep_start)
    monkeypatch.setattr(loop, "evaluates_after", lambda *_: True)
    planned = task("adca:public", "regdb", "best", epochs=2)
    done = go(planned)
    kept = load_checkpoint(done.best("dual"))
    assert kept["epoch"] == 0
    assert all(torch.equal(value, kept["modules"]["backbone"][key]) for key, value in begun[1].items())
    assert not any(
        key.startswith("trunk") and torch.equal(value, begun[1][key]) for key, value in begun[0].items()
    )
    rows = pd.read_csv(done.metrics)
    epochs = {rule: set(group["epoch"]) for rule, group in rows.groupby("checkpoint")}
    assert epochs == {"last": {3}, "best-on-test": {0}, "best-of-last-stage": {2}}


def test_a_resumed_run_goes_on_with_the_loss_scale(task: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(Precision, "state_dict", lambda _: {"scale": 4.0})
    monkeypatch.setattr(Precision, "load_state_dict", lambda _, state: given.append(state))
    planned = task("cluster-contrast", "regdb", "scaled")
    go(planned).reopen()
    go(planned)
    assert given == [{"scale": 4.0}]


def test_idle_phases_end_a_run_only_if_whole_epochs_are_idle(
    task: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GUR has eight camera pairs an epoch on SYSU-MM01; none with clusters is no reason to give up."""
    camera_level = GUR.camera_level

    def idle(method: GUR, epoch: Any, bank: Any, generator: torch.Generator) -> Any:
        plan = camera_level(method, epoch, bank, generator)
        return replace(plan, iterations=0, skipped="no clusters")

    monkeypatch.setattr(GUR, "camera_level", idle)
    done = go(task("gur", "sysu-mm01", "idle"))
    assert done.complete
    assert history(done)["skipped"].sum() > PATIENCE


def all_noise(_graph: Any, core: Tensor) -> Tensor:
    return torch.full((len(core),), -1)


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_gives_up_clearly_when_all_is_noise(
    name: str, task: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba_kernels, "density_labels", all_noise)
    planned = task(name, "regdb", "noise", epochs=PATIENCE)
    with pytest.raises(HarnessError, match=f"{PATIENCE} epochs in a row"):
        go(planned)
    assert not planned.directory.complete
    assert history(planned.directory)["epoch"].nunique() == PATIENCE - 1
    assert history(planned.directory)["skipped"].all()


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_goes_on_after_an_epoch_of_noise(name: str, task: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, begin, now = numba_kernels.density_labels, load_method(name).begin_epoch, [0]

    def begin_epoch(method: Method, epoch: Any, bank: Any) -> Any:
        now[0] = epoch.number
        return begin(method, epoch, bank)

    monkeypatch.setattr(load_method(name), "begin_epoch", begin_epoch)
    monkeypatch.setattr(
        numba_kernels, "density_labels", lambda *graph: labels(*graph) if now[0] else all_noise(*graph)
    )
    table = history(go(task(name, "regdb", "recovered", epochs=2)))
    skipped = table.groupby("epoch")["skipped"].all()
    assert skipped[0]
    assert not skipped[1]


@pytest.mark.parametrize(("chosen", "unit"), [("adca", True), ("adca:public", False)])
def test_a_method_gets_features_of_the_length_it_asks_for(
    chosen: str, unit: bool, task: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[Tensor] = []

    def begin_epoch(method: Method, epoch: Any, bank: Any) -> Any:
        lengths.append(bank.features.norm(dim=1))
        return original(method, epoch, bank)

    original = load_method("adca").begin_epoch
    monkeypatch.setattr(load_method("adca"), "begin_epoch", begin_epoch)
    go(task(chosen, "regdb", "lengths", flip=True))
    of_banks = torch.cat(lengths)
    assert bool((of_banks < 1 - 1e-5).all()) != unit
    torch.testing.assert_close(of_banks, torch.ones_like(of_banks), atol=1e-5 if unit else 0.9, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_configuration_is_declared(name: str) -> None:
    config = load_method(name).Config
    made = config()
    for key, field in config.model_fields.items():
        extra = field.json_schema_extra
        assert field.description, key
        assert isinstance(extra, dict), key
        # the place may follow in brackets
        assert str(extra["source"]).partition(" (")[0] in get_args(Source), key
        default = getattr(made, key)
        assert not isinstance(default, float) or math.isfinite(default), key
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, key, default)
    with pytest.raises(ValidationError, match="no_such_key"):
        config(no_such_key=1)


@pytest.mark.parametrize("name", METHODS)
def test_presets_hold_on_both_data_sets(name: str) -> None:
    method = load_method(name)
    assert {"paper", "demo"} <= set(method.presets)
    for preset in method.presets:
        base, _, sizes = preset.partition("@")
        for dataset in DATASETS:
            assert set(method.presets[preset]) <= {"*", *DATASETS}, preset
            if base in ENGINE_PRESETS:
                resolve(method, dataset, base, None, ())
                continue
            for chosen in (sizes,) if sizes else ("paper", "demo"):
                resolve(method, dataset, chosen, base, ())
    config, _ = resolve(method, "regdb", "demo", None, ())
    assert sum(stage.epochs for stage in method.stages(config)) <= 12


@pytest.mark.parametrize("name", METHODS)
def test_documents_itself(name: str) -> None:
    method = load_method(name)
    assert method.name == name
    for text in (importlib.import_module(method.__module__).__doc__, method.__doc__, method.Config.__doc__):
        assert text
        assert text.strip()
    assert method.__doc__ != Method.__doc__
    assert "\n" not in method.summary
    assert method.reference.title
    assert method.reference.parts
    assert all(source in get_args(Source) for source, _ in method.reference.parts.values())
    console = Console(width=300, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(show.page(name, "paper"))
    page = console.export_text()
    assert method.summary in page
    assert all(f" {key} " in page for key in leaves(method.Config))
