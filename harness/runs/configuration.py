"""Layers of configuration: defaults, the paper's values per data set, preset, variant, command line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError
from harness.registry import nearest
from harness.runs.fields import flat, leaves, merged, with_group_defaults

if TYPE_CHECKING:
    from methods.base import Method, MethodConfig

T = TypeVar("T", bound=BaseModel)
CLOSED = {"height": 288, "width": 144, "architecture": "resnet50", "flip": True}
"""What a protocol's closed division fixes, besides features after the BNNeck."""


class EngineConfig(BaseModel):
    """What the engine decides for every method alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    architecture: Literal["resnet50", "resnet18"] = Field(
        "resnet50", description="torchvision name of the trunk"
    )
    height: int = Field(288, ge=32, description="input height in pixels")
    width: int = Field(144, ge=16, description="input width in pixels")
    weights: str = Field(
        "imagenet", description="imagenet, synthetic-source, none, or the path of a state dict"
    )
    precision: Literal["auto", "32", "bf16", "16"] = Field(
        "32",
        description="arithmetic of training and extraction; auto: bf16 where the device is fast and right in it",
    )
    channels_last: bool = Field(False, description="memory format; faster on CPUs and with bf16")
    flip: bool = Field(True, description="average features of an image and its mirror")
    evaluate_every: int = Field(1, ge=1, description="epochs between two evaluations on the test set")
    extract_batch: int = Field(
        0, ge=0, description="images and mirrors in a forward pass of extraction; 0: what suits the device"
    )
    cache_mib: int = Field(
        8192, ge=0, description="files that take more MiB when decoded are decoded at each use, not once"
    )

    def division(self, test_feature: str = "post-bn", *, flip_test: bool = True) -> str:
        """Return ``closed`` if the protocol's fixed choices hold, else ``open``."""
        fixed = all(getattr(self, key) == value for key, value in CLOSED.items())
        return "closed" if fixed and flip_test and test_feature == "post-bn" else "open"


ENGINE_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "paper-large": {},
    "demo": {
        "architecture": "resnet18",
        "height": 64,
        "width": 32,
        "weights": "synthetic-source",
        "precision": "auto",
        "channels_last": True,
        "flip": False,
        "evaluate_every": 5,
    },
}


def split_variant(text: str) -> tuple[str, str | None]:
    """Split ``dmic:mie`` into method and variant."""
    name, colon, variant = text.partition(":")
    if colon and not variant:
        raise HarnessError(f"{text}: no variant after the colon; `reidbench show {name}` lists them")
    return name, variant or None


def variants_of(method: type[Method]) -> list[str]:
    """Return the variants of a method: its presets that are no preset of the engine's."""
    return [name for name in method.presets if name not in ENGINE_PRESETS and "@" not in name]


def preset_values(method: type[Method], name: str, dataset: str, kind: str) -> dict[str, Any]:
    """Return the values that a preset gives on a data set.

    Raises
    ------
    HarnessError
        If the method has no such preset; says the nearest.
    """
    known = [p for p in method.presets if p in ENGINE_PRESETS] if kind == "preset" else variants_of(method)
    if name in method.replaced:
        raise HarnessError(f"{method.name}:{name} is no more; {instead(method.replaced[name])}")
    if name not in method.presets or name not in known:
        option = f"--preset {name}" if kind == "preset" else f"{method.name}:{name}"
        fix = nearest(name, known) if known else "it has none"
        raise HarnessError(f"{option}: {method.name} has no such {kind}; {fix}")
    return preset_values_if_any(method, name, dataset)


def instead(replacement: str) -> str:
    """Say what stands for something that is no more."""
    return f"use {replacement}" if replacement else "nothing stands for it"


def refuse_replaced(method: type[Method], keys: Iterable[str], where: str) -> None:
    """Refuse settings that a method had once.

    Raises
    ------
    HarnessError
        Names each with what stands for it now; `where` says who set them.
    """
    former = method.Config.replaced
    gone = [f"{key} is no more; {instead(former[key])}" for key in keys if key in former]
    if gone:
        raise HarnessError(f"{where}: {'. '.join(gone)}")


def parse_sets(sets: Iterable[str]) -> dict[str, str]:
    """Split ``key=value`` texts.

    Raises
    ------
    HarnessError
        If one has no ``=``.
    """
    pairs = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise HarnessError(f"--set {text}: expected key=value, for example --set eps=0.5")
        pairs[key.strip()] = value.strip()
    return pairs


def resolve(
    method: type[Method], dataset: str, preset: str, variant: str | None, sets: Iterable[str]
) -> tuple[MethodConfig, EngineConfig]:
    """Lay the layers over each other and validate the result.

    Returns
    -------
    MethodConfig, EngineConfig

    Raises
    ------
    HarnessError
        Unknown preset, variant or key (says the nearest); value of a wrong type or range (says the key).
    """
    if preset not in ENGINE_PRESETS:
        raise HarnessError(f"--preset {preset}: unknown; {nearest(preset, ENGINE_PRESETS)}")
    values = preset_values(method, "paper", dataset, "preset") if "paper" in method.presets else {}
    if preset != "paper":
        values = merged(values, preset_values(method, preset, dataset, "preset"))
    if variant is not None:
        values = merged(values, preset_values(method, variant, dataset, "variant"))
        # a variant may need its own value at the sizes of a preset
        values = merged(values, preset_values_if_any(method, f"{variant}@{preset}", dataset))
    engine_values = dict(ENGINE_PRESETS[preset])
    for key, text in parse_sets(sets).items():
        if is_engine_key(key, method):
            engine_values[key.removeprefix("engine.")] = text
        else:
            values = merged(values, {key: text})
    complete = with_group_defaults(method.Config, values)
    return validated(method.Config, complete), validated(EngineConfig, engine_values)


def preset_values_if_any(method: type[Method], name: str, dataset: str) -> dict[str, Any]:
    """Return the values of a preset that a method may lack."""
    values = method.presets.get(name, {})
    return merged(merged({}, values.get("*", {})), values.get(dataset, {}))


def is_engine_key(key: str, method: type[Method]) -> bool:
    """Say whether a ``--set`` key is the engine's (``engine.`` before it says so) or else the method's.

    Raises
    ------
    HarnessError
        If it is neither's; says the nearest.
    """
    bare, keys = key.removeprefix("engine."), leaves(method.Config)
    if bare in EngineConfig.model_fields and (bare != key or key not in keys):
        return True
    if key in keys:
        return False
    refuse_replaced(method, (key,), f"--set {key}")
    inside = [leaf for leaf in keys if leaf.startswith(f"{key}.")]
    fix = (
        f"it is a group of {', '.join(inside)}"
        if inside
        else nearest(bare, [*keys, *EngineConfig.model_fields])
    )
    raise HarnessError(f"--set {key}: unknown key of {method.name}; {fix}")


def knows(method: type[Method], key: str) -> bool:
    """Say whether a ``--set`` key is one of a method or of the engine."""
    return key in leaves(method.Config) or key.removeprefix("engine.") in EngineConfig.model_fields


def validated(cls: type[T], values: Mapping[str, Any], page: str = "reidbench show") -> T:
    """Validate, turning pydantic's report into one message that names the `page` of the keys."""
    try:
        made = cls(**values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(map(str, problem["loc"])) or "configuration"
            given = f" (given: {problem['input']})" if problem["loc"] else ""
            lines.append(f"{key}: {problem['msg'].removeprefix('Value error, ')}{given}")
        raise HarnessError("; ".join(lines) + f"; `{page}` lists the keys of {cls.__name__}") from None
    for key, value in flat(made.model_dump()).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise HarnessError(f"{key}: must be a finite number (given: {value})")
    return made
