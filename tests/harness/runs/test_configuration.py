from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.errors import HarnessError
from harness.runs.configuration import EngineConfig, knows, resolve, split_variant
from harness.runs.fields import flat, leaves, merged
from methods.base import MethodConfig, value
from methods.cluster_contrast import ClusterContrast
from methods.dmic import DMIC
from methods.source_only import SourceOnly


class LayeredConfig(MethodConfig):
    rate: float = value(1.0, "paper", "a rate", gt=0)
    count: int = value(1, "paper", "a count", ge=1, le=9)
    height: int = value(5, "paper", "shadows the engine's key")
    on: bool = value(False, "paper", "a switch")


class Layered(SourceOnly):
    name = "layered"
    Config = LayeredConfig
    presets: ClassVar = {
        "paper": {"*": {"rate": 2.0, "count": 2}, "regdb": {"count": 3}},
        "demo": {"*": {"rate": 4.0}},
        "fast": {"*": {"rate": 5.0}, "sysu-mm01": {"count": 4}},
        "fast@demo": {"*": {"count": 6}},
    }


@pytest.mark.parametrize(
    ("dataset", "preset", "variant", "sets", "expected"),
    [
        ("sysu-mm01", "paper", None, [], (2.0, 2)),
        ("regdb", "paper", None, [], (2.0, 3)),
        ("regdb", "demo", None, [], (4.0, 3)),
        ("regdb", "paper", "fast", [], (5.0, 3)),
        ("sysu-mm01", "paper", "fast", [], (5.0, 4)),
        ("regdb", "demo", "fast", [], (5.0, 6)),
        ("regdb", "demo", "fast", ["count=9", "rate=0.5"], (0.5, 9)),
        ("regdb", "paper", None, ["count=8", "count=7"], (2.0, 7)),
    ],
)
def test_layers(
    dataset: str, preset: str, variant: str | None, sets: list[str], expected: tuple[float, int]
) -> None:
    config, _ = resolve(Layered, dataset, preset, variant, sets)
    assert (config.rate, config.count) == expected


def test_a_shadowed_key_is_the_methods_and_the_prefix_reaches_the_engine() -> None:
    config, engine = resolve(
        Layered, "regdb", "paper", None, ["height=7", "engine.height=64", "width=32", "on=true"]
    )
    assert (config.height, config.on, engine.height, engine.width) == (7, True, 64, 32)


def test_demo_changes_the_engine_and_opens_the_division() -> None:
    _, paper = resolve(SourceOnly, "regdb", "paper", None, [])
    _, demo = resolve(SourceOnly, "regdb", "demo", None, ["precision=32"])
    assert paper == EngineConfig()
    assert (paper.division(), demo.division()) == ("closed", "open")
    assert (demo.architecture, demo.height, demo.width, demo.precision) == ("resnet18", 64, 32, "32")
    assert (demo.weights, demo.channels_last, demo.evaluate_every) == ("synthetic-source", True, 5)


@pytest.mark.parametrize(
    ("preset", "variant", "sets", "words"),
    [
        ("dmeo", None, [], ["dmeo", "'demo'"]),
        ("paper-large", None, [], ["paper-large", "layered", "paper"]),
        ("paper", "fsat", [], ["layered:fsat", "'fast'"]),
        ("paper", "fast@demo", [], ["fast@demo", "'fast'"]),
        ("paper", "demo", [], ["layered:demo", "variant"]),
        ("paper", None, ["cout=3"], ["cout", "'count'"]),
        ("paper", None, ["engine.widht=3"], ["engine.widht", "'width'"]),
        ("paper", None, ["count"], ["count", "key=value"]),
        ("paper", None, ["=3"], ["=3", "key=value"]),
        ("paper", None, ["count=many"], ["count", "many", "integer"]),
        ("paper", None, ["count=1.5"], ["count", "1.5", "integer"]),
        ("paper", None, ["count=12"], ["count", "12", "less than or equal to 9"]),
        ("paper", None, ["rate=nan"], ["rate", "nan"]),
        ("paper", None, ["rate=inf"], ["rate", "inf", "finite"]),
        ("paper", None, ["on=perhaps"], ["on", "perhaps", "boolean"]),
        ("paper", None, ["precision=8"], ["precision", "'32'", "'bf16'", "'16'"]),
        ("paper", None, ["width=-1"], ["width", "-1", "16"]),
    ],
)
def test_refusals_name_key_value_and_cure(
    preset: str, variant: str | None, sets: list[str], words: list[str]
) -> None:
    with pytest.raises(HarnessError) as caught:
        resolve(Layered, "regdb", preset, variant, sets)
    for word in words:
        assert word in str(caught.value)


def test_several_wrong_values_are_told_at_once() -> None:
    with pytest.raises(HarnessError, match=r"rate.*count"):
        resolve(Layered, "regdb", "paper", None, ["rate=0", "count=0"])


def test_a_rule_over_several_keys_is_told() -> None:
    with pytest.raises(HarnessError, match="joint_k2 = 99 is larger than k1 = 38"):
        resolve(DMIC, "regdb", "paper", None, ["joint_k2=99"])


@pytest.mark.parametrize("method", [DMIC, ClusterContrast, SourceOnly])
@pytest.mark.parametrize("dataset", ["sysu-mm01", "regdb"])
def test_every_preset_and_variant_is_valid(method: type, dataset: str) -> None:
    for name in method.presets:
        variant, _, preset = name.partition("@")
        if variant in ("paper", "paper-large", "demo"):
            preset, variant = variant, ""
        config, _ = resolve(method, dataset, preset or "paper", variant or None, [])
        assert isinstance(config, method.Config)


def test_features_that_are_not_the_closed_divisions_open_it() -> None:
    _, engine = resolve(DMIC, "regdb", "paper", "letter", [])
    assert (engine.division("post-bn"), engine.division("pooled")) == ("closed", "open")
    assert engine.division(flip_test=False) == "open"


def test_split_variant() -> None:
    assert split_variant("dmic") == ("dmic", None)
    assert split_variant("dmic:vc+dnc") == ("dmic", "vc+dnc")


def test_weights_may_be_a_path() -> None:
    _, engine = resolve(SourceOnly, "regdb", "paper", None, ["weights=some/file=1.pth"])
    assert Path(engine.weights) == Path("some/file=1.pth")


class StageSettings(MethodConfig):
    k1: int = value(30, "paper", "neighbours", ge=1, le=50)
    eps: float = value(0.6, "published code", "radius")


class GroupedConfig(MethodConfig):
    sources: ClassVar = {"second.k1": "follow-up", "rate": "adapted"}
    rate: float = value(1.0, "paper", "a rate")
    first: StageSettings = value(StageSettings(k1=20), "harness", "stage I")
    second: StageSettings = value(StageSettings(eps=0.5), "harness", "stage II")


class Grouped(SourceOnly):
    name = "grouped"
    Config = GroupedConfig
    presets: ClassVar = {
        "paper": {"*": {"first": {"eps": 0.7}}, "regdb": {"second.k1": 40}},
        "demo": {"*": {"first": {"k1": 5}, "second": StageSettings(k1=6)}},
    }


@pytest.mark.parametrize(
    ("dataset", "preset", "sets", "expected"),
    [
        ("sysu-mm01", "paper", [], {"first.k1": 20, "first.eps": 0.7, "second.k1": 30, "second.eps": 0.5}),
        (
            "regdb",
            "paper",
            ["first.k1=9"],
            {"first.k1": 9, "first.eps": 0.7, "second.k1": 40, "second.eps": 0.5},
        ),
        ("regdb", "demo", [], {"first.k1": 5, "first.eps": 0.7, "second.k1": 6, "second.eps": 0.6}),
    ],
)
def test_groups_are_laid_over_each_other_leaf_by_leaf(
    dataset: str, preset: str, sets: list[str], expected: dict[str, Any]
) -> None:
    config, _ = resolve(Grouped, dataset, preset, None, sets)
    assert flat(config.model_dump()) == {"rate": 1.0, **expected}


def test_leaves_have_the_groups_defaults_and_the_nearest_source() -> None:
    found = leaves(GroupedConfig)
    assert {key: (leaf.default, leaf.source) for key, leaf in found.items()} == {
        "rate": (1.0, "adapted"),
        "first.k1": (20, "paper"),
        "first.eps": (0.6, "published code"),
        "second.k1": (30, "follow-up"),
        "second.eps": (0.5, "published code"),
    }
    assert knows(Grouped, "second.eps")
    assert not knows(Grouped, "second")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["first.k2=3"], ["first.k2", "'first.k1'"]),
        (["first=3"], ["first", "first.k1, first.eps"]),
        (["first.k1=99"], ["first.k1", "99", "less than or equal to 50"]),
        (["second.eps=nan"], ["second.eps", "finite"]),
    ],
)
def test_refusals_name_the_leaf(sets: list[str], words: list[str]) -> None:
    with pytest.raises(HarnessError) as caught:
        resolve(Grouped, "regdb", "paper", None, sets)
    for word in words:
        assert word in str(caught.value)


def test_merging_leaves_what_it_is_given_alone() -> None:
    values = {"first": {"k1": 1}}
    assert merged(values, {"first.k1": 2}) == {"first": {"k1": 2}}
    assert values == {"first": {"k1": 1}}
